"""Two numbers of each thing against each other, such as every head's direct effect against what patching it does."""

import math
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import Any

from circuit_claims.reports import wording
from circuit_claims.reports.figures.canvas import (
    INK,
    Frame,
    Paper,
    drawing,
    finite,
    listed,
    put_into,
    short,
    svg_of,
    text_of,
)

#: How many of the outermost points are labelled, where their labels find room.
_LABELLED = 12
#: How many points a label may cover.
_COVERED = 1
_WIDTH, _HEIGHT = 4.9, 3.0

Point = tuple[str, float, float]


@dataclass(frozen=True)
class Scatter:
    """{"x_axis", "y_axis", "points", "r"}, read and checked; points without both numbers are dropped and counted."""

    points: tuple[Point, ...]
    dropped: int = 0
    x_axis: str = ""
    y_axis: str = ""
    r: float | None = None

    @classmethod
    def read(cls, figure: dict[str, Any]) -> "Scatter":
        """Raises ValueError or TypeError where no point has two numbers, or the figure is malformed."""
        points, dropped = [], 0
        for point in listed(figure.get("points"), "points"):
            if not isinstance(point, dict):
                raise ValueError("a point of the figure is none")
            x, y = finite(point.get("x")), finite(point.get("y"))
            if x is None or y is None:
                dropped += 1
            else:
                points.append((text_of(point, "label"), x, y))
        if not points:
            raise ValueError(f"none of the figure's {dropped} points has two numbers")
        return cls(tuple(points), dropped, text_of(figure, "x_axis"), text_of(figure, "y_axis"), finite(figure.get("r")))

    def draw(self) -> str:
        """The SVG file, drawn once for all claims that show it."""
        return _drawn(self)

    def note(self) -> str:
        """What a reader must know besides the drawing."""
        said = f"{len(self.points):,} point{'' if len(self.points) == 1 else 's'}; the outermost are labelled."
        return said + (f" {self.dropped:,} without two numbers left out." if self.dropped else "")

    def summary(self) -> str:
        """The picture in a sentence, for those who hear the page."""
        said = f"Scatter of {len(self.points):,} points, {self.x_axis or 'x'} against {self.y_axis or 'y'}."
        said += "" if self.r is None else f" Correlation {wording.number(self.r, 2)}."
        axes = ((1, self.x_axis or "x"), (2, self.y_axis or "y"))
        ends = [
            f"{word} {name}: {_said(choose(self.points, key=lambda point, axis=axis: point[axis]))}"
            for axis, name in axes
            for word, choose in (("largest", max), ("smallest", min))
        ]
        return f"{said} {'; '.join(ends)}."

    def outermost(self, count: int = _LABELLED) -> list[Point]:
        """The points furthest from the middle, in units of the spread along each axis, the furthest first."""
        columns = [x for _, x, _ in self.points], [y for _, _, y in self.points]
        middles, spreads = zip(*map(_middle_and_spread, columns), strict=True)

        def distance(point: Point) -> float:
            return math.hypot(*((at - middle) / spread for at, middle, spread in zip(point[1:], middles, spreads, strict=True)))

        return sorted(self.points, key=distance, reverse=True)[:count]


def _middle_and_spread(values: list[float]) -> tuple[float, float]:
    from statistics import median

    middle = median(values)
    spread = math.sqrt(math.fsum((value / len(values) - middle / len(values)) * (value - middle) for value in values))
    return middle, spread if spread > 0 and math.isfinite(spread) else 1.0


def _said(point: Point) -> str:
    label, x, y = point
    return f"{label or 'a point'} ({short(x)}, {short(y)})"


@lru_cache(maxsize=64)
def _drawn(figure: Scatter) -> str:
    from matplotlib.figure import Figure

    with drawing():
        canvas, paper = Figure(), Paper(left=0.7, below=0.45, above=0.25, high=_HEIGHT)
        axes = paper.add(canvas, _WIDTH, after=0.5)
        axes.set_gid("points")
        axes.set_facecolor("none")
        columns = [x for _, x, _ in figure.points], [y for _, _, y in figure.points]
        for values, limits in zip(columns, (axes.set_xlim, axes.set_ylim), strict=True):
            low, high = min(values), max(values)
            room = 0.09 * (high - low) or abs(high) * 0.1 or 1.0
            limits(low - room, high + room)
        for line, (low, high) in ((axes.axhline, axes.get_ylim()), (axes.axvline, axes.get_xlim())):
            if low < 0 < high:
                line(0, color=INK, linewidth=0.5, alpha=0.35)
        axes.tick_params(length=2, width=0.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel(figure.x_axis)
        axes.set_ylabel(figure.y_axis)
        if figure.r is not None:
            axes.set_title(f"r = {wording.number(figure.r, 2)}", loc="right", fontsize=8.5)
        paper.settle(canvas)
        svg = svg_of(canvas)
        frame = Frame.of(axes)
        return put_into(svg, "points", [*_circles(figure, frame), *_names(figure, frame)])


def _circles(figure: Scatter, frame: Frame) -> list[str]:
    """Every point as a circle that says its name and numbers."""
    circles = [
        f'<circle cx="{frame.x(x):.2f}" cy="{frame.y(y):.2f}" r="2.4"><title>{escape(_said((label, x, y)))}</title></circle>'
        for label, x, y in figure.points
    ]
    return [f'<g style="fill: {INK}; fill-opacity: .55">', *circles, "</g>"]


def _names(figure: Scatter, frame: Frame) -> list[str]:
    """Labels of the outermost points, each where it covers no other label and few points; where there is no room, none."""
    taken: list[tuple[float, float, float, float]] = []
    dots = [(frame.x(x), frame.y(y)) for _, x, y in figure.points]
    names = []
    for label, x, y in figure.outermost():
        at_x, at_y, width = frame.x(x), frame.y(y), 4.6 * len(label)
        places = [(4, 2.5), (-4 - width, 2.5), (-width / 2, -5), (-width / 2, 10)]
        boxes = [(at_x + dx, at_y + dy - 7, at_x + dx + width, at_y + dy + 1) for dx, dy in places]
        free = [box for box in boxes if _inside(box, frame) and not any(_overlap(box, other) for other in taken)]
        covered = [sum(box[0] <= dx <= box[2] and box[1] <= dy <= box[3] for dx, dy in dots) for box in free]
        if label and free and min(covered) <= _COVERED:
            box = free[covered.index(min(covered))]
            taken.append(box)
            names.append(f'<text x="{box[0]:.2f}" y="{box[3] - 1:.2f}">{escape(label)}</text>')
    return [f'<g style="font: 7.5px sans-serif; fill: {INK}; pointer-events: none">', *names, "</g>"]


def _inside(box: tuple[float, float, float, float], frame: Frame) -> bool:
    left, top, right, bottom = box
    return (
        left >= frame.left - 2
        and right <= frame.left + frame.width + 30
        and top >= frame.top - 8
        and bottom <= (frame.top + frame.height)
    )


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
