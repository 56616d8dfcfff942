"""While a model or a tokenizer is loaded, nothing is installed and nothing is downloaded, whatever the libraries try.

TransformerLens runs `pip install torchvision` where it boots a multimodal model, and the hub's client asks the network for
files that a folder lacks. Both end here: package managers and programs that fetch files are not started, no connection leaves
this machine, and the hub's client is offline. Everything is as before afterwards.
"""

import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.abc import MetaPathFinder
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

from circuit_claims.models.subject_error import SubjectError

INSTALLERS = frozenset(
    "pip pip2 pip3 pipx uv uvx conda mamba micromamba poetry pdm easy_install ensurepip apt apt-get dnf yum brew npm".split()
)
#: Programs that fetch files.
FETCHERS = frozenset("git git-lfs curl wget aria2c hf huggingface-cli gsutil aws".split())
#: Programs that run another one, which stands in their arguments.
RUNNERS = frozenset("env sudo nice nohup timeout sh bash zsh dash cmd".split())
SEPARATORS = frozenset({"&&", "||", ";", "|", "&"})
#: Packages that install others when they are imported and called, in this process.
INSTALLING_MODULES = frozenset({"pip", "ensurepip"})
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


class Blocked(OSError):
    """What was tried while loading, and was not done. An OSError, as for a program that is not there."""


@contextmanager
def nothing_installed_or_downloaded(name: str) -> Iterator[None]:
    """Load `name` in here.

    Raises SubjectError at the end where a library tried to install something, even if it went on without it: what it then gives
    may be another thing than it would be elsewhere.
    """
    # Imported first: it reads the environment once, when it is imported.
    from huggingface_hub import constants

    tried: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, dict.fromkeys(OFFLINE, "1")))
        stack.enter_context(mock.patch.object(constants, "HF_HUB_OFFLINE", True))
        for target, attribute, blocking in _blocked(tried):
            stack.enter_context(mock.patch.object(target, attribute, blocking))
        stack.enter_context(_unimportable(tried))
        try:
            yield
        except Exception as error:
            if tried:
                raise SubjectError(_wanted(name, tried[0])) from error
            raise
    if tried:
        raise SubjectError(_wanted(name, tried[0]))


def _blocked(tried: list[str]) -> Iterator[tuple[Any, str, Callable[..., Any]]]:
    popen = subprocess.Popen.__init__

    def start(self: Any, args: Any, *more: Any, **options: Any) -> None:
        _check(_words(args), tried)
        popen(self, args, *more, **options)

    yield subprocess.Popen, "__init__", start

    def checking(run: Callable[..., Any], argument: int) -> Callable[..., Any]:
        def checked(*args: Any, **options: Any) -> Any:
            command = args[argument] if len(args) > argument else options.get("command", options.get("argv", ""))
            _check(_words(command), tried)
            return run(*args, **options)

        return checked

    yield os, "system", checking(os.system, 0)
    for spawn in ("posix_spawn", "posix_spawnp", "execv", "execve"):
        if hasattr(os, spawn):
            yield os, spawn, checking(getattr(os, spawn), 1)
    connect, connect_ex, look_up = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def connected(self: socket.socket, address: Any) -> None:
        _check_address(self.family, address)
        connect(self, address)

    def connected_ex(self: socket.socket, address: Any) -> int:
        _check_address(self.family, address)
        return connect_ex(self, address)

    def looked_up(host: Any, *args: Any, **options: Any) -> Any:
        _check_address(socket.AF_INET, (host,))
        return look_up(host, *args, **options)

    yield socket.socket, "connect", connected
    yield socket.socket, "connect_ex", connected_ex
    yield socket, "getaddrinfo", looked_up


@contextmanager
def _unimportable(tried: list[str]) -> Iterator[None]:
    """Make pip itself impossible to import, so that it is not run in this process either."""
    loaded = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in INSTALLING_MODULES}
    for name in loaded:
        del sys.modules[name]

    class Finder(MetaPathFinder):
        def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
            if fullname in INSTALLING_MODULES:
                tried.append("")
                raise ModuleNotFoundError(f"{fullname} is not imported while a model is loaded", name=fullname)

    finder = Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        sys.modules.update(loaded)


def _words(command: Any) -> list[str]:
    if isinstance(command, (str, bytes, os.PathLike)):
        text = os.fsdecode(command)
        try:
            return shlex.split(text)
        except ValueError:
            return text.split()
    return [word for part in command for word in (_words(part) if _is_line(part) else [os.fsdecode(part)])]


def _is_line(part: Any) -> bool:
    """Whether one argument is a command line of its own, as after `sh -c`."""
    return isinstance(part, str) and " " in part


def _check(words: Sequence[str], tried: list[str]) -> None:
    for command in _commands(words):
        names = [Path(word).name.lower().removesuffix(".exe") for word in command]
        first = next((name for name in names if name not in RUNNERS and not name.startswith("-") and "=" not in name), "")
        module = next((after for flag, after in pairwise(names) if flag == "-m"), "")
        glued = next((name[2:] for name in names if name.startswith("-m") and len(name) > 2), "")
        for name in (first, module, glued):
            stem = name.rstrip("0123456789.")
            if name in INSTALLERS or stem in INSTALLERS:
                tried.append(_package(command))
            if name in INSTALLERS | FETCHERS or stem in INSTALLERS:
                raise Blocked(f"{' '.join(command)} is not run while a model is loaded")


def _commands(words: Sequence[str]) -> list[list[str]]:
    """The commands of one line of a shell."""
    commands: list[list[str]] = [[]]
    for word in words:
        if word in SEPARATORS:
            commands.append([])
        else:
            commands[-1].append(word.rstrip(";"))
            if word.endswith(";"):
                commands.append([])
    return commands


def _package(words: Sequence[str]) -> str:
    """What `... install PACKAGE` would install; "" where it does not say."""
    after = words[words.index("install") + 1 :] if "install" in words else []
    return next((word for word in after if not word.startswith("-")), "")


def _check_address(family: int, address: Any) -> None:
    if family == getattr(socket, "AF_UNIX", None):
        return
    host = address[0] if isinstance(address, tuple) and address else address
    if host in (None, "", b"", "localhost", b"localhost", "::1", "0.0.0.0") or str(host).startswith("127."):
        return
    raise Blocked(f"no connection to {host} is made while a model is loaded")


def _wanted(name: str, package: str) -> str:
    what = f"the package {package}, which is not installed" if package else "to install packages"
    return f"loading {name} wants {what}, and loading installs nothing: install {package or 'what it needs'} yourself"
