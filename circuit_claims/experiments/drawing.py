"""How experiments are drawn: grids of layers, tokens and heads, with labels that do not hide each other."""

import io
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from circuit_claims.reports.figures.canvas import visible_token

if TYPE_CHECKING:  # slow to import
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Inches: a cell without words, the room of labels and of a colour bar beside a panel, and of what is above and below.
CELL_WIDE, CELL_HIGH, BESIDE, AROUND = 0.24, 0.19, 1.1, 1.5
#: Labels of an axis that are drawn without one hiding another, and letters of a token that are.
MOST_LABELS, MOST_LETTERS = 64, 12
SIGNED, POSITIVE = "RdBu", "Blues"
_SETTINGS: dict[Any, Any] = {
    "font.size": 8,
    "text.parse_math": False,  # a token may well have a dollar sign
    "svg.fonttype": "none",
    "svg.hashsalt": "circuit-claims",
    "axes.linewidth": 0.5,
    "axes.titlesize": 8.5,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
}


@contextmanager
def settings() -> Iterator[None]:
    """Matplotlib as experiments draw with it."""
    from matplotlib import rc_context

    # A glyph that is missing from this machine's font must not turn into an error where warnings are errors.
    with rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def sheet(widths: Sequence[float], high: float, title: str, *, rows: int = 1) -> tuple["Figure", list["Axes"]]:
    """A figure with panels of these widths side by side, in inches; high: of each row of panels.

    title: wrapped to the figure's width.
    """
    from matplotlib.figure import Figure

    wide = max(5.0, sum(widths))
    lines = textwrap.wrap(title, int(wide * 14))
    figure = Figure(figsize=(wide, rows * high + 0.18 * len(lines) + 0.1), layout="constrained")
    panels = figure.subplots(rows, len(widths), squeeze=False, width_ratios=widths)
    figure.suptitle("\n".join(lines), fontsize=9, x=0.01, ha="left")
    return figure, list(panels.ravel())


def wide_for(columns: int, cell: float = CELL_WIDE) -> float:
    """The width of a panel of so many columns, its labels and its colour bar included."""
    return max(1.2, cell * min(columns, 2 * MOST_LABELS)) + BESIDE


def high_for(rows: int, cell: float = CELL_HIGH) -> float:
    """The height of a panel of so many rows, the labels below it included."""
    return max(1.2, cell * min(rows, 2 * MOST_LABELS)) + AROUND


def grid(
    axes: "Axes",
    cells: Float[np.ndarray, "row column"],
    title: str,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    names: tuple[str, str],
    unit: str,
    reach: float | None = None,
    signed: bool = True,
    words: Sequence[Sequence[str]] | None = None,
    bar: bool = True,
    upright: bool = False,
) -> None:
    """A grid of cells in colours, symmetric about zero where they are signed.

    reach: the number of the deepest colour (the largest in the grid); words: what stands in each cell; upright: labels of
    columns are short, and stand upright.
    """
    reach = reach or float(np.abs(cells).max()) or 1.0
    image = axes.imshow(cells, cmap=SIGNED if signed else POSITIVE, vmin=-reach if signed else 0, vmax=reach, aspect="auto")
    axes.set(title=title, ylabel=names[0], xlabel=names[1])
    for axis, labels in ((axes.yaxis, rows), (axes.xaxis, columns)):
        step = -(-len(labels) // MOST_LABELS)
        axis.set_ticks(range(0, len(labels), step), list(labels)[::step])
    axes.tick_params(axis="x", rotation=0 if upright else 90, labelsize=7)
    axes.tick_params(axis="y", labelsize=7)
    if words is not None:
        for (row, column), word in np.ndenumerate(np.array(words, dtype=object)):
            colour = "white" if abs(cells[row, column]) > 0.6 * reach else "black"
            axes.text(column, row, str(word), ha="center", va="center", fontsize=6.5, color=colour, clip_on=True)
    if bar:
        assert axes.figure is not None
        axes.figure.colorbar(image, ax=axes, label=unit, pad=0.02)


def shown(text: str, most: int = MOST_LETTERS) -> str:
    """A token with its blanks visible, cut where it is long."""
    said = visible_token(text)
    return said if len(said) <= most else said[: most - 1] + "…"


def token_labels(texts: Sequence[str], marked: Sequence[int] = ()) -> list[str]:
    """Labels of positions: number and token; a star at those that are marked."""
    return [f"{'* ' if i in marked else ''}{shown(text)} {i}" for i, text in enumerate(texts)]


def svg_of(figure: "Figure") -> str:
    """The figure as an SVG file, without the date that would make equal figures differ."""
    file = io.StringIO()
    with settings():
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return file.getvalue()


def png_of(figure: "Figure") -> bytes:
    """The figure as a PNG file."""
    file = io.BytesIO()
    with settings():
        figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    return file.getvalue()
