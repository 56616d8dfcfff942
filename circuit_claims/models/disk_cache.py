"""Where models that this project writes are kept: one folder each in the user's cache, whole or not there at all."""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from safetensors import SafetensorError

MONTH = 30 * 24 * 3600.0
#: Lines that change nothing of what is written: comments, and where names are imported from.
IGNORED = re.compile(rb"^[ \t]*#.*\n|^(?:from|import) [^(\n]*(?:\([^)]*\))?.*\n", re.M)


def cache() -> Path:
    """The folder of this project in the user's cache.

    Raises OSError where the user has no home folder, and XDG_CACHE_HOME names none.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    # A relative path is to be ignored, by the XDG specification.
    if base and Path(base).is_absolute():
        return Path(base) / "circuit-claims"
    try:
        return Path.home() / ".cache" / "circuit-claims"
    except RuntimeError as error:  # neither HOME nor an entry for this user
        raise OSError(str(error).rstrip(".")) from error


def fingerprint(*parts: bytes | str) -> str:
    """Twelve hexadecimal digits that change with any of these parts."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:12]


def code_of(files: Iterable[Path]) -> bytes:
    """The code of files, less comments and imports: when it changes, what they write is written anew."""
    return b"\0".join(IGNORED.sub(b"", file.read_bytes()) for file in files)


def kept(name: str, write: Callable[[Path], None]) -> Path:
    """The folder of that name in the cache, which `write` fills where it is not there.

    It is filled under another name and renamed, so that whoever finds it finds it whole. Where another process was faster, its
    folder is taken. What nobody has asked for in a month is thrown away: each change of the code leaves its models behind.

    Raises OSError where it cannot be written; nothing half-written stays.
    """
    folder = cache() / name
    if folder.is_dir():
        with contextlib.suppress(OSError):  # a cache that may only be read
            os.utime(folder)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    for other in folder.parent.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - other.stat().st_mtime > MONTH:
                shutil.rmtree(other)
    scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
    try:
        try:
            write(scratch)
        except SafetensorError as error:  # a full disk is to safetensors no OSError
            raise OSError(str(error)) from error
        scratch.chmod(0o755)
        try:
            scratch.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder
