"""Curves over an ordered axis, such as the probability of the answer by layer, each with the band of its intervals."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from circuit_claims.reports.figures.canvas import (
    INK,
    LETTER,
    PALETTE,
    Paper,
    drawing,
    finite,
    listed,
    short,
    shown_label,
    spread_ticks,
    svg_of,
    text_of,
)

_MARKERS = "os^DvPX*"
_DASHES = ("solid", "dashed", "dashdot", "dotted")
_LONGEST_LABEL = 44
#: Of the axes, in inches.
_WIDTH, _HEIGHT = 4.6, 2.3
#: Points of one curve that are marked one by one.
_MARKED_POINTS = 30


@dataclass(frozen=True)
class Curve:
    """One curve: a value for each place of the axis, None where there is none, and the ends of the values' intervals."""

    label: str
    values: tuple[float | None, ...]
    low: tuple[float | None, ...] | None = None
    high: tuple[float | None, ...] | None = None

    @classmethod
    def read(cls, given: Any, count: int, number: int) -> "Curve":
        """Raises ValueError where it has not as many numbers as the axis has places."""
        if not isinstance(given, dict):
            raise ValueError(f"curve {number} of the figure is none")
        label = text_of(given, "label") or f"curve {number}"
        numbers = {}
        for key in ("values", "low", "high"):
            values = given.get(key)
            if key != "values" and values is None:
                numbers[key] = None
                continue
            numbers[key] = tuple(finite(value) for value in listed(values, f"{key} of curve {label!r}"))
            if len(numbers[key]) != count:
                raise ValueError(f"the curve {label!r} has {len(numbers[key])} {key} for {count} places of the axis")
        if (numbers["low"] is None) != (numbers["high"] is None):
            raise ValueError(f"the curve {label!r} has one end of its intervals without the other")
        return cls(label, **numbers)

    def said(self, x: tuple[str, ...]) -> str:
        """From where to where, and between which extremes."""
        known = [(value, x[place]) for place, value in enumerate(self.values) if value is not None]
        if not known:
            return f"{self.label}: no values"
        (first, at_first), (last, at_last) = known[0], known[-1]
        high, low = max(known, key=lambda pair: pair[0]), min(known, key=lambda pair: pair[0])
        said = f"{self.label}: from {short(first)} at {at_first} to {short(last)} at {at_last}"
        return f"{said}, largest {short(high[0])} at {high[1]}, smallest {short(low[0])} at {low[1]}"


@dataclass(frozen=True)
class Curves:
    """{"x", "x_axis", "y_axis", "curves", "marks"}, read and checked; a mark is a named place of the axis."""

    x: tuple[str, ...]
    curves: tuple[Curve, ...]
    x_axis: str = ""
    y_axis: str = ""
    marks: tuple[tuple[int, str], ...] = ()

    @classmethod
    def read(cls, figure: dict[str, Any]) -> "Curves":
        """Raises ValueError or TypeError where there is no curve, or its numbers or marks do not fit the axis."""
        x = tuple(shown_label(label) for label in listed(figure.get("x"), "places"))
        curves = tuple(
            Curve.read(given, len(x), number) for number, given in enumerate(listed(figure.get("curves"), "curves"), start=1)
        )
        if not x or not curves or all(value is None for curve in curves for value in curve.values):
            raise ValueError("the figure has no curve with a number")
        marks = []
        for mark in listed(figure.get("marks") or [], "marks"):
            if not isinstance(mark, dict) or not isinstance(mark.get("x"), int) or not 0 <= mark["x"] < len(x):
                raise ValueError("a mark of the figure lies outside its axis")
            marks.append((mark["x"], text_of(mark, "label")))
        return cls(x, curves, text_of(figure, "x_axis"), text_of(figure, "y_axis"), tuple(sorted(marks)))

    def draw(self) -> str:
        """The SVG file, drawn once for all claims that show it."""
        return _drawn(self)

    def note(self) -> str:
        """What a reader must know besides the drawing."""
        return "Bands: the confidence intervals." if any(curve.low for curve in self.curves) else ""

    def summary(self) -> str:
        """The picture in a sentence, for those who hear the page."""
        what = f"{self.y_axis or 'values'} by {self.x_axis or 'place'}, {self.x[0]} to {self.x[-1]}"
        count = "One curve" if len(self.curves) == 1 else f"{len(self.curves)} curves"
        said = f"{count} of {what}. {'; '.join(curve.said(self.x) for curve in self.curves)}."
        marks = "; ".join(f"{label or 'a place'} at {self.x[place]}" for place, label in self.marks)
        return f"{said} Marked: {marks}." if marks else said


@lru_cache(maxsize=64)
def _drawn(figure: Curves) -> str:
    from matplotlib.figure import Figure

    places = range(len(figure.x))
    with drawing():
        longest = max(map(len, figure.x))
        at = spread_ticks(len(figure.x), 16 if longest < 5 or len(figure.x) <= 8 else 40)
        upright = LETTER * (longest + 1) * len(at) > _WIDTH
        paper = Paper(
            left=0.7,
            below=0.32 + (LETTER * longest if upright else 0.12),
            above=0.08 + 0.13 * len(_lines_of_marks(figure)),
            high=_HEIGHT,
        )
        canvas = Figure()
        legend = 0.7 + LETTER * max(len(_shortened(curve.label)) for curve in figure.curves)
        axes = paper.add(canvas, _WIDTH, after=legend)
        axes.set_facecolor("none")
        for number, curve in enumerate(figure.curves):
            colour = INK if len(figure.curves) == 1 else PALETTE[number % len(PALETTE)]
            numbers = [float("nan") if value is None else value for value in curve.values]
            if curve.low is not None and curve.high is not None:
                ends = [[float("nan") if end is None else end for end in side] for side in (curve.low, curve.high)]
                axes.fill_between(places, *ends, color=colour, alpha=0.18, linewidth=0)
            axes.plot(
                places, numbers, color=colour, linewidth=1.4, linestyle=_DASHES[number // len(PALETTE) % len(_DASHES)],
                marker=_MARKERS[number % len(_MARKERS)] if len(figure.x) <= _MARKED_POINTS else None, markersize=3.2,
                label=_shortened(curve.label),
            )  # fmt: skip
        _draw_marks(axes, figure)
        axes.set_xticks(list(at), [figure.x[place] for place in at], rotation=90 if upright else 0)
        axes.set_xlim(-0.5, len(figure.x) - 0.5)
        axes.tick_params(length=2, width=0.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel(figure.x_axis)
        axes.set_ylabel(figure.y_axis)
        if [curve.label for curve in figure.curves] != ["curve 1"]:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, handlelength=2.2)
        paper.settle(canvas)
        return svg_of(canvas)


def _draw_marks(axes: Any, figure: Curves) -> None:
    """Vertical lines with their labels above the axes."""
    for line, marks in enumerate(_lines_of_marks(figure)):
        for place, label in marks:
            axes.axvline(place, color=INK, linewidth=0.8, linestyle="dotted", zorder=0)
            axes.annotate(
                label, (place, 1), xycoords=("data", "axes fraction"), xytext=(0, 2 + 9 * line), textcoords="offset points",
                ha="center", va="bottom", fontsize=7,
            )  # fmt: skip


def _lines_of_marks(figure: Curves) -> list[list[tuple[int, str]]]:
    """The marks with their labels, on as many lines as it takes for none to run into another."""
    lines: list[list[tuple[int, str]]] = []
    ends: list[float] = []  # up to where each line is taken
    for place, label in figure.marks:
        said = _shortened(label)
        middle, half = _WIDTH * (place + 0.5) / len(figure.x), 0.45 * LETTER * (len(said) + 1)
        line = next((line for line, end in enumerate(ends) if end <= middle - half), len(lines))
        if line == len(lines):
            lines.append([])
            ends.append(0.0)
        lines[line].append((place, said))
        ends[line] = middle + half
    return lines


def _shortened(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1].rstrip() + "…"
