"""Counts over bars that the figure brings: of tokens by activation, of features by how often they fire."""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from circuit_claims.reports.figures.canvas import INK, PALETTE, Paper, drawing, finite, listed, short, svg_of, text_of

#: Of the axes, in inches.
_WIDTH, _HEIGHT = 4.5, 1.7


@dataclass(frozen=True)
class Histogram:
    """{"x_axis", "of", "edges", "counts", "part": {"label", "counts"}, "apart": {"label", "count"}, "lines": [{"x", "label"}],
    "scale": "linear" or "log", "remark"}, read and checked.

    of: what is counted; part: of the counts, those with some property; apart: what has no place on the axis (on a logarithmic
    one, what is zero); lines: named places of the axis.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    part: tuple[int, ...] = ()
    part_label: str = ""
    apart: int | None = None
    apart_label: str = ""
    lines: tuple[tuple[float, str], ...] = ()
    x_axis: str = ""
    of: str = ""
    log: bool = False
    remark: str = ""

    @classmethod
    def read(cls, figure: dict[str, Any]) -> "Histogram":
        """Raises ValueError, TypeError or OverflowError where edges do not rise, or counts are none or do not fit the edges."""
        given = [finite(edge) for edge in listed(figure.get("edges"), "edges")]
        edges = tuple(edge for edge in given if edge is not None)
        if len(edges) < 2 or len(edges) < len(given) or not all(low < high for low, high in pairwise(edges)):
            raise ValueError("the figure's edges are not at least two numbers that rise")
        log = figure.get("scale") == "log"
        if log and edges[0] <= 0:
            raise ValueError("the figure's logarithmic axis has edges that are not above zero")
        counts = _counts(figure.get("counts"), len(edges) - 1, "counts")
        part, apart = figure.get("part") or {}, figure.get("apart") or {}
        if not isinstance(part, dict) or not isinstance(apart, dict):
            raise ValueError("the figure's part, or what stands apart, is not labelled")
        of_them = _counts(part["counts"], len(counts), "counts of a part") if part else ()
        if any(some > all_of_them for some, all_of_them in zip(of_them, counts, strict=False)):
            raise ValueError("the figure's part is larger than the whole")
        lines = []
        for line in listed(figure.get("lines") or [], "lines"):
            at = finite(line.get("x")) if isinstance(line, dict) else None
            if at is None or (log and at <= 0):
                raise ValueError("a line of the figure has no place on its axis")
            lines.append((at, text_of(line, "label")))
        return cls(
            edges=edges,
            counts=counts,
            part=of_them,
            part_label=text_of(part, "label"),
            apart=_counts([apart.get("count")], 1, "count of what stands apart")[0] if apart else None,
            apart_label=text_of(apart, "label"),
            lines=tuple(lines),
            x_axis=text_of(figure, "x_axis"),
            of=text_of(figure, "of"),
            log=log,
            remark=text_of(figure, "remark"),
        )

    def draw(self) -> str:
        """The SVG file, drawn once for all claims that show it."""
        return _drawn(self)

    def note(self) -> str:
        """What a reader must know besides the drawing."""
        return self.remark or f"{sum(self.counts):,} {self.of}.".replace(" .", ".")

    def summary(self) -> str:
        """The picture in a sentence, for those who hear the page."""
        total, tallest = sum(self.counts), max(range(len(self.counts)), key=self.counts.__getitem__)
        of = f" {self.of}" if self.of else ""
        said = [f"Histogram of {total:,}{of} by {self.x_axis or 'value'}, {short(self.edges[0])} to {short(self.edges[-1])}"]
        if total:
            low, high = self.edges[tallest : tallest + 2]
            said.append(f"most, {self.counts[tallest]:,}, between {short(low)} and {short(high)}")
        if self.part:
            said.append(f"{self.part_label or 'a part'}: {sum(self.part):,}")
        if self.apart is not None:
            said.append(f"{self.apart_label or 'apart'}: {self.apart:,}")
        said += [f"{label or 'a line'} at {short(at)}" for at, label in self.lines]
        return f"{'; '.join(said)}."


def _counts(given: Any, wanted: int, what: str) -> tuple[int, ...]:
    counts = listed(given, what)
    if len(counts) != wanted:
        raise ValueError(f"the figure has {len(counts)} {what} for {wanted} bars")
    if not all(isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in counts):
        raise ValueError(f"the figure's {what} are not all whole numbers from zero on")
    return tuple(counts)


@lru_cache(maxsize=64)
def _drawn(figure: Histogram) -> str:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    place = math.log10 if figure.log else float
    edges = [place(edge) for edge in figure.edges]
    widths = [high - low for low, high in pairwise(edges)]
    with drawing():
        labels = [figure.part_label, *(label for _, label in figure.lines)]
        legend = 0.9 + 0.075 * max((len(label) for label in labels), default=0)
        canvas, paper = Figure(), Paper(left=0.6, below=0.42, above=0.08, high=_HEIGHT)
        axes = paper.add(canvas, _WIDTH, after=legend if labels else 0.2)
        axes.set_facecolor("none")
        axes.bar(edges[:-1], figure.counts, widths, align="edge", color=INK, alpha=0.3, linewidth=0)
        if figure.part:
            axes.bar(
                edges[:-1], figure.part, widths, align="edge", color=PALETTE[0], alpha=0.85, linewidth=0,
                label=figure.part_label or None,
            )  # fmt: skip
        left = edges[0]
        if figure.apart is not None:
            wide = max(widths)
            left -= 2.5 * wide
            axes.bar(left, figure.apart, wide, align="edge", fill=False, edgecolor=INK, linewidth=0.8, linestyle="dotted")
            axes.text(
                left + wide / 2,
                figure.apart,
                f"{figure.apart_label} {figure.apart:,}".strip(),
                ha="left",
                va="bottom",
                fontsize=7,
            )
        for number, (at, label) in enumerate(figure.lines):
            style = ("solid", "dashed", "dotted")[number % 3]
            axes.axvline(place(at), color=INK, linewidth=1.2, linestyle=style, label=f"{label} {short(at)}".strip())
        room = 0.02 * (edges[-1] - left)
        ends = [left, edges[-1], *(place(at) for at, _ in figure.lines)]
        axes.set_xlim(min(ends) - room, max(ends) + room)
        axes.set_ylim(0, 1.12 * max(*figure.counts, figure.apart or 0, 1))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        if figure.log:
            axes.xaxis.set_major_locator(
                FixedLocator(list(range(math.ceil(edges[0] - 1e-9), math.floor(edges[-1] + 1e-9) + 1)))
            )
            axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: short(10.0**at)))
        axes.tick_params(length=2, width=0.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel(figure.x_axis)
        axes.set_ylabel(figure.of)
        if labels:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, handlelength=1.6)
        paper.settle(canvas)
        return svg_of(canvas)
