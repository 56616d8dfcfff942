"""The files of a found circuit, written together: whole, or not at all."""

import json
import os
import tempfile
from pathlib import Path

from circuit_claims.circuit_command.result import FoundCircuit
from circuit_claims.edges.errors import EdgeError

#: The list last: where it is, the others are.
FILES = ("circuit.svg", "edges.csv", "circuit.json")


def save(found: FoundCircuit, folder: Path, *, command: str | None = None) -> list[Path]:
    """Write figure and edges beside the folder, and set them in place; their paths.

    Raises EdgeError where the folder cannot be written, or holds files of these names that are of no circuit.
    """
    text = json.dumps(found.to_json(command), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    contents = (found.svg(), found.csv(), text)
    folder = folder.expanduser().absolute()
    try:
        refuse_to_overwrite(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as scratch:
            for name, content in zip(FILES, contents, strict=True):
                (Path(scratch) / name).write_text(content, encoding="utf-8")
            for name in FILES:
                os.replace(Path(scratch) / name, folder / name)
    except OSError as error:
        raise EdgeError(f"{folder} cannot be written ({error.strerror}): name another folder with --out") from error
    return [folder / name for name in FILES]


def refuse_to_overwrite(folder: Path) -> None:
    """Raise EdgeError where a folder has one of the files, and not from this command."""
    there = [name for name in FILES if (folder / name).exists()]
    if there and not _is_ours(folder / FILES[-1]):
        raise EdgeError(f"{folder / there[0]} is there, and no circuit was written to it: name another folder with --out")


def _is_ours(file: Path) -> bool:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"circuit", "edges", "provenance"} <= found.keys()
