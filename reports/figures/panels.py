"""Curves of several scales side by side over one axis of numbers, such as what became of loss and sparsity in training."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from circuit_claims.reports import wording
from circuit_claims.reports.figures.canvas import INK, PALETTE, Paper, drawing, finite, listed, short, svg_of, text_of
from circuit_claims.reports.figures.curves import Curve

_MOST = 6
#: Of each axes, in inches.
_WIDTH, _HEIGHT = 1.5, 1.35
_DASHES = ("solid", "dashed", "dashdot", "dotted")


@dataclass(frozen=True)
class Panels:
    """{"x": numbers that rise, "x_axis", "panels": [{"y_axis", "curves": [{"label", "values"}]}], "remark"}, checked."""

    x: tuple[float, ...]
    panels: tuple[tuple[str, tuple[Curve, ...]], ...]
    x_axis: str = ""
    remark: str = ""

    @classmethod
    def read(cls, figure: dict[str, Any]) -> "Panels":
        """Raises ValueError or TypeError where there is nothing to draw, or curves do not fit the axis."""
        places = [finite(at) for at in listed(figure.get("x"), "places")]
        x = tuple(at for at in places if at is not None)
        if not x or len(x) < len(places) or list(x) != sorted(set(x)):
            raise ValueError("the figure's places are not numbers that rise")
        given = listed(figure.get("panels"), "panels")
        if not 1 <= len(given) <= _MOST or not all(isinstance(panel, dict) for panel in given):
            raise ValueError(f"the figure has not between one and {_MOST} panels")
        panels = []
        for panel in given:
            curves = listed(panel.get("curves"), "curves")
            read = tuple(Curve.read(curve, len(x), number) for number, curve in enumerate(curves, start=1))
            if all(value is None for curve in read for value in curve.values):
                raise ValueError(f"a panel of the figure ({text_of(panel, 'y_axis') or 'without a name'}) has no number")
            panels.append((text_of(panel, "y_axis"), read))
        return cls(x, tuple(panels), text_of(figure, "x_axis"), text_of(figure, "remark"))

    def draw(self) -> str:
        """The SVG file, drawn once for all claims that show it."""
        return _drawn(self)

    def note(self) -> str:
        """What a reader must know besides the drawing."""
        return f"{self.remark} Every panel has a scale of its own.".strip()

    def summary(self) -> str:
        """The picture in a sentence, for those who hear the page."""
        places = tuple(_place(at) for at in self.x)
        said = "; ".join(curve.said(places) for _, curves in self.panels for curve in curves)
        return f"{len(self.panels)} panels over {self.x_axis or 'places'}, {places[0]} to {places[-1]}. {said}."


def _place(at: float) -> str:
    """1,200,000 as 1.2M: so many digits have no room below a small panel."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(at) >= size:
            return f"{short(at / size)}{letter}"
    return wording.number(at)


@lru_cache(maxsize=16)
def _drawn(figure: Panels) -> str:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    with drawing():
        most = max(len(curves) for _, curves in figure.panels)
        canvas, paper = Figure(), Paper(left=0.65, below=0.45, above=0.1 + 0.16 * most, high=_HEIGHT)
        for y_axis, curves in figure.panels:
            axes = paper.add(canvas, _WIDTH, after=0.7)
            axes.set_facecolor("none")
            shown: list[float] = []
            for number, curve in enumerate(curves):
                values = [float("nan") if value is None else value for value in curve.values]
                shown += values
                axes.plot(
                    figure.x, values, color=INK if len(curves) == 1 else PALETTE[number % len(PALETTE)], linewidth=1.4,
                    linestyle=_DASHES[number % len(_DASHES)], marker="o" if len(figure.x) <= 12 else None, markersize=2.6,
                    label=curve.label,
                )  # fmt: skip
            axes.xaxis.set_major_locator(MaxNLocator(nbins=3))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: _place(at)))
            axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
            # What hardly changes is drawn flat, not as the noise of its last digits.
            low, high = axes.get_ylim()
            least = 0.02 * max(abs(low), abs(high), 0.05)
            if high - low < least:
                low, high = (low + high - least) / 2, (low + high + least) / 2
            # And no axis goes below zero for the sake of its margin alone.
            axes.set_ylim(max(low, 0.0) if all(value != value or value >= 0 for value in shown) else low, high)
            axes.ticklabel_format(axis="y", useOffset=False)
            axes.tick_params(length=2, width=0.5)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_xlabel(figure.x_axis)
            axes.set_ylabel(y_axis)
            axes.legend(
                loc="lower left", bbox_to_anchor=(-0.05, 1), frameon=False, handlelength=1.6, borderpad=0, labelspacing=0.2
            )
        paper.settle(canvas)
        return svg_of(canvas)
