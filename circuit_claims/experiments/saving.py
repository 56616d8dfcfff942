"""The three files of an experiment."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuit_claims.experiments.experiment_error import ExperimentError
from circuit_claims.files_together import FilesTogether, json_bytes

if TYPE_CHECKING:  # slow to import
    from matplotlib.figure import Figure

FILES = ("figure.svg", "figure.png", "result.json")
_TOGETHER = FilesTogether(FILES, frozenset({"experiment", "provenance"}), "experiment", ExperimentError)

refuse_to_overwrite = _TOGETHER.refuse_to_overwrite


def save(folder: Path, figure: "Figure", result: dict[str, Any]) -> list[Path]:
    """Write all three; the paths.

    Raises ExperimentError where the folder cannot be written, or holds files of these names that no experiment wrote.
    """
    from circuit_claims.experiments.drawing import png_of, svg_of

    return _TOGETHER.write(folder, (svg_of(figure).encode(), png_of(figure), json_bytes(result)))
