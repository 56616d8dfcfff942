"""What the report draws: a heatmap over heads, and a strip that lays an observation beside its expected range.

Both are SVG to be set inside an HTML page: text stays text, ids are unique to the figure, nothing is fetched, and equal
input gives equal bytes. Ink is `currentColor`, so that a figure follows the page into dark mode.
"""

import io
import math
import re
import warnings
from html import escape
from typing import Any

from reports import wording

_INK = "#010203"  # a colour no map contains: it marks what shall become currentColor
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


def heatmap(figure: dict[str, Any], prefix: str) -> str:
    """Draw {"title", "rows", "columns", "values", "row_axis", "column_axis", "unit", "marks"}; marked cells are outlined.

    Every id begins with `prefix`, so that several figures fit in one page. Raises ValueError where the values are no table.
    """
    # Drawing libraries cost a second to import, and most runs of the tests draw nothing.
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    values = [[float("nan") if cell is None else float(cell) for cell in line] for line in figure.get("values") or []]
    n_rows, n_columns = len(values), len(values[0]) if values else 0
    if not n_columns or any(len(line) != n_columns for line in values):
        raise ValueError("the figure's values are not a table of numbers")
    row_labels = _labels(figure.get("rows"), n_rows)
    column_labels = _labels(figure.get("columns"), n_columns)
    finite = [abs(cell) for line in values for cell in line if math.isfinite(cell)]
    limit = max(finite, default=0.0) or 1.0
    printed = n_rows * n_columns <= _PRINTED_CELLS
    cell_width, cell_height = (0.46, 0.34) if printed else (max(5.4 / n_columns, 0.12), max(3.9 / n_rows, 0.12))
    # A missing glyph is the reader's font's affair: it must not turn into an error where warnings are errors.
    with rc_context({**_SETTINGS, "svg.hashsalt": prefix}), warnings.catch_warnings():
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
        axes.set_xticks(*_ticks(column_labels, spread=1 if printed else math.ceil(n_columns / 16)))
        axes.set_yticks(*_ticks(row_labels, spread=1 if printed else math.ceil(n_rows / 16)))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel(wording.one_line(figure.get("column_axis") or ""))
        axes.set_ylabel(wording.one_line(figure.get("row_axis") or ""))
        bar = canvas.colorbar(mesh, ax=axes, shrink=0.9, aspect=24, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=2, width=0.5)
        bar.set_label(wording.one_line(figure.get("unit") or ""))
        if printed:
            for row, line in enumerate(values):
                for column, cell in enumerate(line):
                    said, ink = _cell_text(cell, limit)
                    axes.text(column + 0.5, row + 0.5, said, ha="center", va="center", fontsize=7, color=ink)
        for row, column in figure.get("marks") or []:
            axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor="black", linewidth=1.6, clip_on=False))
        file = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        canvas.savefig(file, format="svg", dpi=150, transparent=True, metadata=nothing)
    return _inline(
        file.getvalue(), prefix, str(figure.get("title") or "heatmap"), _summary(figure, values, row_labels, column_labels)
    )


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
    ends = [
        f"{wording.number(float(f'{cell:.3g}'))}{unit} at {row}, {column}" for cell, row, column in (max(cells), min(cells))
    ]
    return f"{shape}. Largest {ends[0]}; smallest {ends[1]}."


def _inline(svg: str, prefix: str, title: str, summary: str) -> str:
    """Matplotlib's file made fit to stand inside a page beside others."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Matplotlib's style sheet begins with `*`: inside a page it would reach every element of it.
    svg = re.sub(r"\s*<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    svg = svg.replace(_INK, "currentColor")
    title, summary = escape(wording.one_line(title)), escape(wording.one_line(summary))
    opening, closing, rest = svg.partition(">")
    named = f' class="heatmap" role="img" aria-label="{title}. {summary}"'
    return f"{opening}{named}{closing}<title>{title}</title><desc>{summary}</desc>{rest}".strip()
