"""One value a prompt: how they are spread, beside the expected range."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from circuit_claims.reports.figures.canvas import BAND, INK, Paper, drawing, finite, short, svg_of, text_of

_MOST_BARS = 40
#: A value further from the quartiles than this many interquartile ranges would squeeze all others into one bar.
_FAR = 5


@dataclass(frozen=True)
class Distribution:
    """{"unit", "values", "mean", "expected": [low or None, high or None]}, read and checked.

    values: the finite ones; dropped: how many were not; quartiles: the three; fences: beyond them a value is gathered at the
    edge; below, above: how many are; expected: its two ends.
    """

    values: tuple[float, ...]
    dropped: int
    quartiles: tuple[float, float, float]
    fences: tuple[float, float]
    below: int
    above: int
    mean: float | None
    expected: tuple[float | None, float | None]
    unit: str = ""
    whose: str = ""

    @classmethod
    def read(cls, figure: dict[str, Any]) -> "Distribution":
        """Raises ValueError, TypeError or OverflowError where there is no number to draw, the figure is malformed, or its
        numbers are too large to add up.
        """
        from numpy import percentile

        given = figure.get("values") or []
        if not isinstance(given, list | tuple):
            raise ValueError("the figure's values are not a list of numbers")
        values = tuple(number for value in given if (number := finite(value)) is not None)
        if not values:
            raise ValueError(f"none of the figure's {len(given)} values is a number")
        ends = figure.get("expected") or (None, None)
        if len(ends) != 2:
            raise ValueError("the figure's expected range has not two ends")
        low, middle, high = (float(quartile) for quartile in percentile(values, (25, 50, 75)))
        # Where half of the values are equal but for rounding, there is no interquartile range to count in: nothing is far.
        middle_half = high - low if high - low > 1e-9 * max(abs(low), abs(high)) else 0.0
        scale = _FAR * (middle_half or (max(values) - min(values)) or abs(middle) or 1.0)
        fences = low - scale, high + scale
        return cls(
            values=values,
            dropped=len(given) - len(values),
            quartiles=(low, middle, high),
            fences=fences,
            below=sum(value < fences[0] for value in values),
            above=sum(value > fences[1] for value in values),
            mean=finite(figure.get("mean")),
            expected=(finite(ends[0]), finite(ends[1])),
            unit=text_of(figure, "unit"),
            whose=text_of(figure, "whose"),
        )

    @property
    def name_of_mean(self) -> str:
        """What to call the estimate: "mean" where it is the mean of the values, which may have been rounded to five digits."""
        if self.mean is None:
            return ""
        rounding = 1e-5 * math.fsum(map(abs, self.values))
        return "mean" if abs(math.fsum(self.values) - self.mean * len(self.values)) <= rounding else "estimate"

    def near(self, at: float) -> bool:
        """Whether a place lies between the fences, where the axis may reach."""
        return self.fences[0] <= at <= self.fences[1]

    def bars(self) -> tuple[list[float], list[int]]:
        """The edges of bars of one width over the values between the fences, and how many values each bar has."""
        from numpy import histogram

        kept = [value for value in self.values if self.near(value)]
        span, middle_half = max(kept) - min(kept), self.quartiles[2] - self.quartiles[0]
        if span <= 1e-9 * max(map(abs, kept)):
            size = abs(kept[0]) or 1.0
            counts, edges = histogram(kept, bins=1, range=(kept[0] - 0.05 * size, kept[0] + 0.05 * size))
        else:
            # Freedman and Diaconis: bars as wide as the spread and the number of values can fill.
            wanted = span / (2 * middle_half / len(kept) ** (1 / 3)) if middle_half else math.sqrt(len(kept))
            counts, edges = histogram(kept, bins=min(max(math.ceil(wanted), 5), _MOST_BARS))
        return [float(edge) for edge in edges], [int(count) for count in counts]

    def draw(self) -> str:
        """The SVG file: a histogram with the mean (the estimate that the claim is judged by), the median and the middle half
        marked, and the expected range shaded; drawn once for all claims that show it.
        """
        return _drawn(self)

    def note(self) -> str:
        """What a reader must know besides the drawing: how many prompts, and which values it does not show."""
        said = [f"{_prompts(len(self.values))}."]
        gathered = [
            f"{count} {where} {short(fence)}"
            for count, where, fence in zip((self.below, self.above), ("below", "above"), self.fences, strict=True)
            if count
        ]
        if gathered:
            far = f"more than {_FAR} interquartile ranges from the quartiles"
            said.append(f"Dotted, gathered at the edge: {' and '.join(gathered)}, {far}.")
        if self.dropped:
            said.append(f"{_prompts(self.dropped)} without a number left out.")
        if self.mean is not None and self.name_of_mean != "mean":
            said.append("The estimate is taken over all prompts together: it is not the mean of these values.")
        marks = {self.name_of_mean: self.mean, "lower bound": self.expected[0], "upper bound": self.expected[1]}
        hidden = [f"the {name} {short(at)}" for name, at in marks.items() if at is not None and not self.near(at)]
        if hidden:
            said.append(f"Beyond the axis: {', '.join(hidden)}.")
        return " ".join(said)

    def summary(self) -> str:
        """The picture in a sentence, for those who hear the page."""
        said = [f"{name} {short(self.mean)}" for name in [self.name_of_mean] if self.mean is not None]
        said += [f"quartiles {', '.join(short(quartile) for quartile in self.quartiles)}"]
        said += [f"smallest {short(min(self.values))}", f"largest {short(max(self.values))}"]
        said += [f"{self.whose or 'expected'} {_range(*self.expected)}"] if self.expected != (None, None) else []
        return f"Distribution over {_prompts(len(self.values))}{f', in {self.unit}' if self.unit else ''}: {'; '.join(said)}."


@lru_cache(maxsize=64)
def _drawn(spread: Distribution) -> str:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    edges, counts = spread.bars()
    width, tallest = edges[1] - edges[0], max(*counts, spread.below, spread.above)
    # The gathered values stand apart from the rest, half a bar away.
    left = edges[0] - 1.5 * width if spread.below else edges[0]
    right = edges[-1] + 1.5 * width if spread.above else edges[-1]
    shown = [left, right, *(at for at in (spread.mean, *spread.expected) if at is not None and spread.near(at))]
    room = 0.04 * (max(shown) - min(shown))
    view = min(shown) - room, max(shown) + room
    with drawing():
        canvas, paper = Figure(), Paper(left=0.55, below=0.42, above=0.08, high=2.0)
        axes = paper.add(canvas, 4.5, after=2.1)
        axes.set_facecolor("none")
        low, high = spread.expected
        if low is not None or high is not None:
            # Held within the view: an end that is far out would be written into the drawing at a coordinate of its own.
            ends = (view[0] if low is None else low, view[1] if high is None else high)
            axes.axvspan(
                *(min(max(end, view[0]), view[1]) for end in ends),
                color=BAND, linewidth=0, label=f"{spread.whose or 'expected'} {_range(low, high)}",
            )  # fmt: skip
        axes.bar(edges[:-1], counts, width, align="edge", color=INK, alpha=0.35, linewidth=0)
        gathered = ((left, spread.below, f"← {spread.below}"), (right - width, spread.above, f"{spread.above} →"))
        for at, count, said in gathered:
            if count:
                axes.bar(at, count, width, align="edge", fill=False, edgecolor=INK, linewidth=0.8, linestyle="dotted")
                # The bar's place on the axis is not its values': the arrow says that they lie further out.
                axes.text(at + width / 2, count + 0.02 * tallest, said, ha="center", va="bottom", fontsize=7)
        above_bars = 1.07 * tallest
        axes.plot(
            [spread.quartiles[0], spread.quartiles[2]], [above_bars] * 2,
            color=INK, linewidth=4, solid_capstyle="butt", alpha=0.7,
            label=f"middle half {short(spread.quartiles[0])} … {short(spread.quartiles[2])}",
        )  # fmt: skip
        axes.axvline(
            spread.quartiles[1], color=INK, linewidth=1.2, linestyle="dashed", label=f"median {short(spread.quartiles[1])}"
        )
        if spread.mean is not None:
            # Where it is out of view the line is not seen, and the note says so.
            axes.axvline(spread.mean, color=INK, linewidth=1.8, label=f"{spread.name_of_mean} {short(spread.mean)}")
        axes.set_xlim(*view)
        axes.set_ylim(0, 1.15 * tallest)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        axes.tick_params(length=2, width=0.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel(spread.unit)
        axes.set_ylabel("prompts")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, handlelength=1.6)
        paper.settle(canvas)
        return svg_of(canvas)


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"up to {short(high)}" if high is not None else f"from {short(low or 0.0)}"
    return f"{short(low)} … {short(high)}"


def _prompts(count: int) -> str:
    return f"{count:,} prompt{'' if count == 1 else 's'}"
