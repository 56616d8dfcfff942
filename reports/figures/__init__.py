"""What the report draws: figures of the kinds that rows bring (`verdicts.rows.Row.figure`), and strips in a claim's line.

All are SVG to be set inside an HTML page: text stays text, ids are unique to the figure, nothing is fetched, and equal
input gives equal bytes. Ink is `currentColor`, so that a figure follows the page into dark mode. Every figure says itself in a
sentence, for those who hear the page.

A kind is a class with `read` (from the row's figure, checked), `draw` (an SVG file), `note` and `summary`.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from circuit_claims.reports import wording
from circuit_claims.reports.figures.attention import Attention
from circuit_claims.reports.figures.canvas import inline
from circuit_claims.reports.figures.curves import Curves
from circuit_claims.reports.figures.distribution import Distribution
from circuit_claims.reports.figures.feature import Feature
from circuit_claims.reports.figures.heatmap import Heatmap
from circuit_claims.reports.figures.histogram import Histogram
from circuit_claims.reports.figures.panels import Panels
from circuit_claims.reports.figures.scatter import Scatter
from circuit_claims.reports.figures.strip import on_scale, strip

__all__ = ["KINDS", "Drawing", "draw", "on_scale", "strip"]


class Figure(Protocol):
    """One figure, read and checked."""

    def draw(self) -> str:
        """The SVG file."""
        ...

    def note(self) -> str:
        """What a reader must know besides the drawing."""
        ...

    def summary(self) -> str:
        """The picture in a sentence."""
        ...


#: Every kind, with what reads it. Reading raises ValueError, TypeError or OverflowError where the figure is malformed.
KINDS = {
    "heatmap": Heatmap.read,
    "distribution": Distribution.read,
    "curves": Curves.read,
    "scatter": Scatter.read,
    "attention": Attention.read,
    "histogram": Histogram.read,
    "panels": Panels.read,
    "feature": Feature.read,
}


@dataclass(frozen=True)
class Drawing:
    """What a page needs of a figure: its title, the SVG, and a note; or, in a sentence, why there is no SVG.

    html: what stands below the SVG, where a kind has more to show than it draws.
    """

    caption: str
    svg: str = ""
    note: str = ""
    failure: str = ""
    html: str = ""


def draw(figure: Any, prefix: str) -> Drawing:
    """The figure as it stands in a page, or why it cannot be drawn: a bad figure must not cost the report.

    Every id begins with `prefix`, so that several figures fit in one page.
    """
    if not isinstance(figure, dict):
        return Drawing("Figure", failure=f"The figure could not be drawn: it is {wording.one_line(repr(figure))[:60]}.")
    kind = figure.get("kind")
    title = wording.one_line(figure.get("title") or "")
    if not isinstance(kind, str) or kind not in KINDS:
        return Drawing(title or "Figure", failure=f"This report cannot draw a figure of the kind {kind!r}.")
    caption = title or kind.capitalize()
    try:
        read: Figure = KINDS[kind](figure)
        svg = inline(read.draw(), prefix, kind, title, read.summary())
        return Drawing(caption, svg, read.note(), html=read.html() if isinstance(read, Feature) else "")
    except Exception as error:  # whatever a drawing library makes of odd numbers, the other claims have a report
        said = wording.one_line(error).rstrip(".") or type(error).__name__
        return Drawing(caption, failure=f"The figure could not be drawn: {said}.")
