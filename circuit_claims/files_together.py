"""Files of one result in a folder, written together: whole, or not at all, and over none of somebody else's."""

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class FilesTogether:
    """What the files are called, and by what they are known.

    names: the last one is JSON; where it is, the others are. keys: that this one has. what: is written ("experiment"). error:
    what is raised where the files cannot be written, with one sentence.
    """

    names: tuple[str, ...]
    keys: frozenset[str]
    what: str
    error: type[Exception]

    def write(self, folder: Path, contents: Sequence[bytes]) -> list[Path]:
        """Write all files beside the folder's others, and set them in place; their paths.

        Raises `error` where the folder cannot be written, or holds files of these names that are somebody else's.
        """
        folder = folder.expanduser().absolute()
        try:
            self.refuse_to_overwrite(folder)
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as scratch:
                for name, content in zip(self.names, contents, strict=True):
                    (Path(scratch) / name).write_bytes(content)
                for name in self.names:
                    os.replace(Path(scratch) / name, folder / name)
        except OSError as error:
            raise self.error(f"{folder} cannot be written ({error.strerror}): name another folder with --out") from error
        return [folder / name for name in self.names]

    def refuse_to_overwrite(self, folder: Path) -> None:
        """Raise `error` where a folder has one of the files, and it is somebody else's."""
        there = [name for name in self.names if (folder / name).exists()]
        if there and not self._is_ours(folder / self.names[-1]):
            raise self.error(f"{folder / there[0]} is there, and no {self.what} wrote it: name another folder with --out")

    def _is_ours(self, file: Path) -> bool:
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(found, dict) and self.keys <= found.keys()


def json_bytes(result: dict[str, Any]) -> bytes:
    """A result as the text of a file."""
    return (json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
