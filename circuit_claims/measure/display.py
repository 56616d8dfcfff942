"""How samples and grids show themselves in a notebook: a matplotlib figure, and a small table in HTML.

The report draws its own figures (SVG, from a row's `figure`); these are for whoever looks at one measurement.
"""

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:  # slow to import; a claim needs neither
    from matplotlib.figure import Figure
    from pandas import DataFrame

#: Labels of an axis that are drawn without one hiding another.
MOST_LABELS = 32


def histogram(
    values: Float[np.ndarray, " prompt"], title: str, unit: str, estimate: float, interval: tuple[float, float]
) -> "Figure":
    """How values are spread over prompts, with the estimate as a line and its interval as a band."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.5), layout="constrained")
    axes.hist(values, bins="auto", color="0.75")
    axes.axvspan(*interval, color="tab:blue", alpha=0.25, linewidth=0)
    axes.axvline(estimate, color="tab:blue")
    axes.set(title=title, xlabel=unit, ylabel="prompts")
    pyplot.close(figure)  # else a notebook shows it a second time, at the end of the cell
    return figure


def heatmap(
    cells: Float[np.ndarray, "row column"],
    title: str,
    unit: str,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    axes_names: tuple[str, str],
    marks: Sequence[tuple[int, int]],
) -> "Figure":
    """A grid of cells in colours that are symmetric about zero; marked cells (row, column) are outlined."""
    from matplotlib import pyplot
    from matplotlib.patches import Rectangle

    width, height = (min(12.0, max(3.0, 1.5 + 0.35 * count)) for count in (len(columns), len(rows)))
    figure, axes = pyplot.subplots(figsize=(width + 1, height), layout="constrained")
    reach = float(np.abs(cells).max()) or 1.0
    image = axes.imshow(cells, cmap="RdBu", vmin=-reach, vmax=reach, aspect="auto")
    figure.colorbar(image, label=unit)
    axes.set(title=title, ylabel=axes_names[0], xlabel=axes_names[1])
    for axis, labels in ((axes.yaxis, rows), (axes.xaxis, columns)):
        step = -(-len(labels) // MOST_LABELS)
        axis.set_ticks(range(0, len(labels), step), labels[::step])
    for row, column in marks:
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=1.5))
    pyplot.close(figure)
    return figure


def table(heading: str, summary: str, frame: "DataFrame") -> str:
    """A heading, a sentence and a few rows as HTML, all of them escaped."""
    rows = frame.to_html(index=False, escape=True, border=0, float_format=lambda value: f"{value:.4g}")
    return f"<div><strong>{html.escape(heading)}</strong><br>{html.escape(summary)}{rows}</div>"


def with_interval(estimate: float, interval: tuple[float, float], unit: str) -> str:
    """An estimate as it is written: "3.56 [3.41, 3.7] logits"."""
    low, high = interval
    return f"{estimate:.4g} [{low:.4g}, {high:.4g}] {unit}".rstrip()
