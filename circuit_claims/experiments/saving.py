"""The three files of an experiment, written together: whole, or not at all."""

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuit_claims.experiments.experiment_error import ExperimentError

if TYPE_CHECKING:  # slow to import
    from matplotlib.figure import Figure

#: The numbers last: where they are, the figures are.
FILES = ("figure.svg", "figure.png", "result.json")


def save(folder: Path, figure: "Figure", result: dict[str, Any]) -> list[Path]:
    """Write all three beside the folder, and set them in place; the paths.

    Raises ExperimentError where the folder cannot be written, or holds files of these names that no experiment wrote.
    """
    from circuit_claims.experiments.drawing import png_of, svg_of

    contents = (svg_of(figure).encode(), png_of(figure), _text(result).encode())
    folder = folder.expanduser().absolute()
    try:
        refuse_to_overwrite(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as scratch:
            for name, content in zip(FILES, contents, strict=True):
                (Path(scratch) / name).write_bytes(content)
            for name in FILES:
                os.replace(Path(scratch) / name, folder / name)
    except OSError as error:
        raise ExperimentError(f"{folder} cannot be written ({error.strerror}): name another folder with --out") from error
    return [folder / name for name in FILES]


def refuse_to_overwrite(folder: Path) -> None:
    """Raise ExperimentError where a folder has one of the files, and not from an experiment."""
    there = [name for name in FILES if (folder / name).exists()]
    if there and not _is_ours(folder / FILES[-1]):
        raise ExperimentError(f"{folder / there[0]} is there, and no experiment wrote it: name another folder with --out")


def _is_ours(file: Path) -> bool:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"experiment", "provenance"} <= found.keys()


def _text(result: dict[str, Any]) -> str:
    return json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
