"""What the report draws: a heatmap over heads, a distribution over prompts, and a strip that lays an observation beside its
expected range.

All are SVG to be set inside an HTML page: text stays text, ids are unique to the figure, nothing is fetched, and equal
input gives equal bytes. Ink is `currentColor`, so that a figure follows the page into dark mode.
"""

import io
import math
import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import Any

from reports import wording

# Colours that no map contains mark what shall become currentColor, and the page's colour for the expected range.
_INK, _BAND = "#010203", "#010204"
_PRINTED_CELLS = 12 * 12
_SETTINGS = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 8.5,
    "text.parse_math": False,
    "axes.linewidth": 0.5,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
}
_STRIP_WIDTH, _STRIP_HEIGHT = 168, 22
_MOST_BARS = 40
#: A value further from the quartiles than this many interquartile ranges would squeeze all others into one bar.
_FAR = 5


def heatmap(figure: dict[str, Any], prefix: str) -> str:
    """Draw {"title", "rows", "columns", "values", "row_axis", "column_axis", "unit", "marks"}; marked cells are outlined.

    Every id begins with `prefix`, so that several figures fit in one page. Raises ValueError where the values are no table.
    """
    values = [[float("nan") if cell is None else float(cell) for cell in line] for line in figure.get("values") or []]
    n_rows, n_columns = len(values), len(values[0]) if values else 0
    if not n_columns or any(len(line) != n_columns for line in values):
        raise ValueError("the figure's values are not a table of numbers")
    row_labels = _labels(figure.get("rows"), n_rows)
    column_labels = _labels(figure.get("columns"), n_columns)
    finite = [abs(cell) for line in values for cell in line if math.isfinite(cell)]
    limit = max(finite, default=0.0) or 1.0
    # Many claims show one sweep: it is drawn once, and set into the page under each one's own ids.
    axes = (wording.one_line(figure.get("row_axis") or ""), wording.one_line(figure.get("column_axis") or ""))
    unit, marks = wording.one_line(figure.get("unit") or ""), tuple((row, column) for row, column in figure.get("marks") or [])
    table = tuple(tuple(line) for line in values)
    svg = _heatmap(table, tuple(row_labels), tuple(column_labels), axes, unit, marks, limit)
    return _inline(svg, prefix, "heatmap", str(figure.get("title") or ""), _summary(figure, values, row_labels, column_labels))


@lru_cache(maxsize=64)
def _heatmap(
    values: tuple[tuple[float, ...], ...],
    row_labels: tuple[str, ...],
    column_labels: tuple[str, ...],
    axis_labels: tuple[str, str],
    unit: str,
    marks: tuple[tuple[int, int], ...],
    limit: float,
) -> str:
    # Drawing libraries cost a second to import, and most runs of the tests draw nothing.
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    n_rows, n_columns = len(values), len(values[0])
    printed = n_rows * n_columns <= _PRINTED_CELLS
    cell_width, cell_height = (0.46, 0.34) if printed else (max(5.4 / n_columns, 0.12), max(3.9 / n_rows, 0.12))
    # A missing glyph is the reader's font's affair: it must not turn into an error where warnings are errors.
    with rc_context({**_SETTINGS, "svg.hashsalt": "heatmap"}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        canvas = Figure(figsize=(cell_width * n_columns + 1.9, cell_height * n_rows + 0.9), layout="constrained")
        axes = canvas.add_subplot()
        axes.set_facecolor("none")
        mesh = axes.pcolormesh(
            values, cmap="RdBu_r", vmin=-limit, vmax=limit,
            edgecolors="white", linewidth=0.4 if printed else 0.0,
            rasterized=not printed,  # thousands of cells as paths would weigh more than the rest of the page
        )  # fmt: skip
        axes.invert_yaxis()
        axes.set_xticks(*_ticks(list(column_labels), spread=1 if printed else math.ceil(n_columns / 16)))
        axes.set_yticks(*_ticks(list(row_labels), spread=1 if printed else math.ceil(n_rows / 16)))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel(axis_labels[1])
        axes.set_ylabel(axis_labels[0])
        bar = canvas.colorbar(mesh, ax=axes, shrink=0.9, aspect=24, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=2, width=0.5)
        bar.set_label(unit)
        if printed:
            for row, line in enumerate(values):
                for column, cell in enumerate(line):
                    said, ink = _cell_text(cell, limit)
                    text = axes.text(column + 0.5, row + 0.5, said, ha="center", va="center", fontsize=7, color=ink)
                    text.set_in_layout(False)  # it lies inside its cell, and measuring it takes most of the drawing's time
        for row, column in marks:
            axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor="black", linewidth=1.6, clip_on=False))
        return _svg(canvas)


def distribution(figure: dict[str, Any], prefix: str) -> str:
    """Draw {"title", "unit", "values", "mean", "expected"}: a histogram of one value a prompt, with the mean (the estimate that
    the claim is judged by), the median and the middle half marked, and the expected range [low or None, high or None] shaded.

    Every id begins with `prefix`. Raises ValueError, TypeError or OverflowError where there is no number to draw, the figure is
    malformed, or its numbers are too large to add up.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    spread = _Spread.read(figure)
    edges, counts = spread.bars()
    width, tallest = edges[1] - edges[0], max(*counts, spread.below, spread.above)
    # The gathered values stand apart from the rest, half a bar away.
    left = edges[0] - 1.5 * width if spread.below else edges[0]
    right = edges[-1] + 1.5 * width if spread.above else edges[-1]
    shown = [left, right, *(at for at in (spread.mean, *spread.expected) if at is not None and spread.near(at))]
    room = 0.04 * (max(shown) - min(shown))
    view = min(shown) - room, max(shown) + room
    with rc_context({**_SETTINGS, "svg.hashsalt": prefix}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        canvas = Figure(figsize=(7.2, 2.5), layout="constrained")
        axes = canvas.add_subplot()
        axes.set_facecolor("none")
        low, high = spread.expected
        if low is not None or high is not None:
            # Held within the view: an end that is far out would be written into the drawing at a coordinate of its own.
            ends = (view[0] if low is None else low, view[1] if high is None else high)
            axes.axvspan(
                *(min(max(end, view[0]), view[1]) for end in ends),
                color=_BAND, linewidth=0, label=f"expected {_range(low, high)}",
            )  # fmt: skip
        axes.bar(edges[:-1], counts, width, align="edge", color=_INK, alpha=0.35, linewidth=0)
        gathered = ((left, spread.below, f"← {spread.below}"), (right - width, spread.above, f"{spread.above} →"))
        for at, count, said in gathered:
            if count:
                axes.bar(at, count, width, align="edge", fill=False, edgecolor=_INK, linewidth=0.8, linestyle="dotted")
                # The bar's place on the axis is not its values': the arrow says that they lie further out.
                axes.text(at + width / 2, count + 0.02 * tallest, said, ha="center", va="bottom", fontsize=7)
        above_bars = 1.07 * tallest
        axes.plot(
            [spread.quartiles[0], spread.quartiles[2]], [above_bars] * 2,
            color=_INK, linewidth=4, solid_capstyle="butt", alpha=0.7,
            label=f"middle half {_short(spread.quartiles[0])} … {_short(spread.quartiles[2])}",
        )  # fmt: skip
        axes.axvline(
            spread.quartiles[1], color=_INK, linewidth=1.2, linestyle="dashed", label=f"median {_short(spread.quartiles[1])}"
        )
        if spread.mean is not None:
            # Where it is out of view the line is not seen, and the note says so.
            axes.axvline(spread.mean, color=_INK, linewidth=1.8, label=f"{spread.name_of_mean} {_short(spread.mean)}")
        axes.set_xlim(*view)
        axes.set_ylim(0, 1.15 * tallest)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        axes.tick_params(length=2, width=0.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel(wording.one_line(figure.get("unit") or ""))
        axes.set_ylabel("prompts")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, handlelength=1.6)
        svg = _svg(canvas)
    return _inline(svg, prefix, "distribution", str(figure.get("title") or ""), spread.summary(str(figure.get("unit") or "")))


def distribution_note(figure: dict[str, Any]) -> str:
    """What a reader must know of a distribution besides the drawing: how many prompts, and which values it does not show.

    Raises ValueError, TypeError or OverflowError as `distribution` does.
    """
    spread = _Spread.read(figure)
    said = [f"{_prompts(len(spread.values))}."]
    gathered = [
        f"{count} {where} {_short(fence)}"
        for count, where, fence in zip((spread.below, spread.above), ("below", "above"), spread.fences, strict=True)
        if count
    ]
    if gathered:
        far = f"more than {_FAR} interquartile ranges from the quartiles"
        said.append(f"Dotted, gathered at the edge: {' and '.join(gathered)}, {far}.")
    if spread.dropped:
        said.append(f"{_prompts(spread.dropped)} without a number left out.")
    if spread.mean is not None and spread.name_of_mean != "mean":
        said.append("The estimate is taken over all prompts together: it is not the mean of these values.")
    marks = {spread.name_of_mean: spread.mean, "lower bound": spread.expected[0], "upper bound": spread.expected[1]}
    hidden = [f"the {name} {_short(at)}" for name, at in marks.items() if at is not None and not spread.near(at)]
    if hidden:
        said.append(f"Beyond the axis: {', '.join(hidden)}.")
    return " ".join(said)


def strip(row: dict[str, Any]) -> str:
    """The expected range as a band, the observation as a dot, its interval as a line; empty where nothing was observed.

    Each strip has its own scale: claims are in different units, and a strip is read within its row.
    """
    low, high = row.get("expected_low"), row.get("expected_high")
    value, ci_low, ci_high = row.get("observed"), row.get("ci_low"), row.get("ci_high")
    op = str(row.get("op") or "")
    if value is None or (low is None and high is None):
        return ""
    if wording.is_rank(row):
        low, high = 1.0, high if high is not None else low
    elif "<" in op and high is None:
        low, high = None, low
    elif ">" in op and low is None:
        low, high = high, None
    shown = [x for x in (low, high, value, ci_low, ci_high) if x is not None]
    span = max(shown) - min(shown) or max(abs(value) * 0.1, 1e-9)
    left, right = min(shown) - 0.2 * span, max(shown) + 0.2 * span

    def x(at: float) -> str:
        return f"{2 + (_STRIP_WIDTH - 4) * (at - left) / (right - left):.2f}"

    band_left, band_right = x(left if low is None else low), x(right if high is None else high)
    middle = _STRIP_HEIGHT / 2
    band_width = f"{float(band_right) - float(band_left):.2f}"
    parts = [
        f'<rect class="band" x="{band_left}" y="3" width="{band_width}" height="{_STRIP_HEIGHT - 6}"/>',
        f'<line class="axis" x1="2" y1="{middle}" x2="{_STRIP_WIDTH - 2}" y2="{middle}"/>',
    ]
    parts += [
        f'<line class="bound" x1="{x(bound)}" y1="2" x2="{x(bound)}" y2="{_STRIP_HEIGHT - 2}"/>'
        for bound in (low, high)
        if bound is not None
    ]
    if ci_low is not None and ci_high is not None:
        parts.append(f'<line class="interval" x1="{x(ci_low)}" y1="{middle}" x2="{x(ci_high)}" y2="{middle}"/>')
    parts.append(f'<circle class="dot" cx="{x(value)}" cy="{middle}" r="3.6"/>')
    said = escape(f"expected {wording.expected(row)}; observed {wording.observed_with_interval(row)}")
    return (
        f'<svg class="strip" role="img" aria-label="{said}" viewBox="0 0 {_STRIP_WIDTH} {_STRIP_HEIGHT}" '
        f'width="{_STRIP_WIDTH}" height="{_STRIP_HEIGHT}"><title>{said}</title>{"".join(parts)}</svg>'
    )


@dataclass(frozen=True)
class _Spread:
    """A distribution's figure, read and checked.

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

    @classmethod
    def read(cls, figure: dict[str, Any]) -> "_Spread":
        from numpy import percentile

        given = figure.get("values") or []
        if not isinstance(given, list | tuple):
            raise ValueError("the figure's values are not a list of numbers")
        values = tuple(number for value in given if (number := _finite(value)) is not None)
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
            mean=_finite(figure.get("mean")),
            expected=(_finite(ends[0]), _finite(ends[1])),
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

    def summary(self, unit: str) -> str:
        """The picture in a sentence, for those who hear the page."""
        said = [f"{name} {_short(self.mean)}" for name in [self.name_of_mean] if self.mean is not None]
        said += [f"quartiles {', '.join(_short(quartile) for quartile in self.quartiles)}"]
        said += [f"smallest {_short(min(self.values))}", f"largest {_short(max(self.values))}"]
        said += [f"expected {_range(*self.expected)}"] if self.expected != (None, None) else []
        return f"Distribution over {_prompts(len(self.values))}{f', in {unit}' if unit else ''}: {'; '.join(said)}."


def _finite(value: Any) -> float | None:
    """A number, or None for what is missing, NaN or infinite."""
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else None


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"up to {_short(high)}" if high is not None else f"from {_short(low or 0.0)}"
    return f"{_short(low)} … {_short(high)}"


def _short(value: float) -> str:
    return wording.number(float(f"{value:.3g}"))


def _prompts(count: int) -> str:
    return f"{count:,} prompt{'' if count == 1 else 's'}"


def _cell_text(value: float, limit: float) -> tuple[str, str]:
    """A cell's number, and the ink that can be read on its colour."""
    if not math.isfinite(value):
        return wording.NOTHING, _INK
    places = 2 if limit < 10 else 1 if limit < 100 else 0
    shown = 0.0 if abs(value) < 0.5 * 10**-places else value  # in a cell, a billionth is nothing
    return wording.number(shown, places), "white" if abs(value) > 0.6 * limit else "black"


def _labels(given: Any, count: int) -> list[str]:
    labels = [wording.one_line(label) for label in given or range(count)]
    if len(labels) != count:
        raise ValueError(f"the figure has {count} lines of values and {len(labels)} labels for them")
    return labels


def _ticks(labels: list[str], spread: int) -> tuple[list[float], list[str]]:
    return [index + 0.5 for index in range(0, len(labels), spread)], labels[::spread]


def _summary(figure: dict[str, Any], values: list[list[float]], rows: list[str], columns: list[str]) -> str:
    """The picture in a sentence, for those who hear the page."""
    cells = [(cell, rows[r], columns[c]) for r, line in enumerate(values) for c, cell in enumerate(line) if math.isfinite(cell)]
    shape = f"Heatmap of {len(rows)} by {len(columns)} cells"
    if not cells:
        return f"{shape}, all of them empty."
    unit = f" {figure['unit']}" if figure.get("unit") else ""
    ends = [f"{_short(cell)}{unit} at {row}, {column}" for cell, row, column in (max(cells), min(cells))]
    return f"{shape}. Largest {ends[0]}; smallest {ends[1]}."


def _svg(canvas: Any) -> str:
    """A figure as matplotlib's SVG file, without the date and the like that would make equal figures differ."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    canvas.savefig(file, format="svg", dpi=150, transparent=True, metadata=nothing)
    return file.getvalue()


def _inline(svg: str, prefix: str, kind: str, title: str, summary: str) -> str:
    """Matplotlib's file made fit to stand inside a page beside others."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Matplotlib's style sheet begins with `*`: inside a page it would reach every element of it.
    svg = re.sub(r"\s*<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    svg = svg.replace(_INK, "currentColor").replace(_BAND, "var(--band, #d5e3f2)")
    title, summary = escape(wording.one_line(title or kind)), escape(wording.one_line(summary))
    opening, closing, rest = svg.partition(">")
    named = f' class="{kind}" role="img" aria-label="{title}. {summary}"'
    return f"{opening}{named}{closing}<title>{title}</title><desc>{summary}</desc>{rest}".strip()
