"""What the code says that writes a control: when it changes, the control is written anew."""

import re
from collections.abc import Iterable
from pathlib import Path

#: Lines that change nothing of what is written: comments, and where names are imported from.
IGNORED = re.compile(rb"^[ \t]*#.*\n|^(?:from|import) [^(\n]*(?:\([^)]*\))?.*\n", re.M)


def source_of(files: Iterable[str]) -> bytes:
    """The code of files of this package, less comments and imports: when it changes, models are written anew."""
    return b"\0".join(IGNORED.sub(b"", (Path(__file__).parent / file).read_bytes()) for file in files)
