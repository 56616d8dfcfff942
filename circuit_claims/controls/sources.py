"""What the code says that writes a control: when it changes, the control is written anew."""

from collections.abc import Iterable
from pathlib import Path

from circuit_claims.models.disk_cache import code_of


def source_of(files: Iterable[str]) -> bytes:
    """The code of files of this package, less comments and imports: when it changes, models are written anew."""
    return code_of(Path(__file__).parent / file for file in files)
