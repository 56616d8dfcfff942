"""What every experiment gives: its main result in a sentence, numbers, a figure, and a folder with all of it."""

import base64
import html
import io
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from circuit_claims.experiments import saving
from circuit_claims.experiments.provenance import Provenance

if TYPE_CHECKING:  # slow to import
    from matplotlib.figure import Figure

#: Digits that are kept of a number in result.json: all that float32 has.
DIGITS = 9


@dataclass(frozen=True, repr=False, eq=False)
class Result(ABC):
    """One experiment's result."""

    name: ClassVar[str]

    provenance: Provenance

    @property
    @abstractmethod
    def sentence(self) -> str:
        """The main result."""

    @property
    def remarks(self) -> Sequence[str]:
        """What a reader should know besides: a hint, or why a number means little here."""
        return ()

    @abstractmethod
    def numbers(self) -> dict[str, Any]:
        """All numbers by name, for JSON; arrays are lists of their rows."""

    @abstractmethod
    def figure(self) -> "Figure":
        """The picture, with matplotlib."""

    def to_json(self, command: str | None = None) -> dict[str, Any]:
        """Result and provenance, as result.json has them; command: the command line, where there was one."""
        said = {"experiment": self.name, "sentence": self.sentence, "remarks": list(self.remarks)}
        return {**said, "result": plain(self.numbers()), "provenance": self.provenance.to_json(command)}

    def save(self, folder: str | Path, *, command: str | None = None) -> list[Path]:
        """Write figure.svg, figure.png and result.json into a folder, all of them or none, and give back their paths.

        Raises ExperimentError where that folder cannot be written, or has files of these names that no experiment wrote.
        """
        return saving.save(Path(folder), self.figure(), self.to_json(command))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self.provenance.subject}: {self.sentence}>"

    def _repr_html_(self) -> str:
        from circuit_claims.experiments.drawing import png_of

        file = io.BytesIO(png_of(self.figure()))
        picture = base64.b64encode(file.getvalue()).decode()
        said = html.escape(self.sentence)
        return f'<div><p>{said}</p><img alt="{said}" style="max-width: 100%" src="data:image/png;base64,{picture}"></div>'


def plain(value: Any) -> Any:
    """Numbers, arrays and tokens as JSON has them.

    Raises ValueError for a number that is none.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float):
        if not np.isfinite(value):
            raise ValueError("the model gives numbers that are not finite: nothing can be measured in it")
        return float(f"{value:.{DIGITS}g}")
    return value.to_json() if hasattr(value, "to_json") else value
