"""A table of numbers as colours: of heads, of layers by tokens; beside the published one, where there is one.

Matplotlib draws the frame; the cells are laid into it by hand, each with its name and number as a tooltip, and weigh less than
what matplotlib would write for them.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from textwrap import wrap
from typing import Any

from circuit_claims.reports import wording
from circuit_claims.reports.figures.canvas import (
    INK,
    LETTER,
    Frame,
    Paper,
    drawing,
    finite,
    in_unit,
    listed,
    put_into,
    short,
    shown_label,
    spread_ticks,
    svg_of,
    text_of,
)

#: Cells in a map whose numbers are printed; in one of three maps side by side there is less room.
_PRINTED, _PRINTED_BESIDE = 12 * 12, 6 * 6
#: Cells in a map that are drawn one by one; of more, as one picture.
_MOST_CELLS = 4000
_MAP, _MAP_OF_DIFFERENCES = "RdBu_r", "PuOr_r"

Table = tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Heatmap:
    """{"rows", "columns", "values", "row_axis", "column_axis", "unit", "marks"}, read and checked; marked cells are outlined.

    expected: the published table, of the same shape: then three maps are drawn, expected, observed and their difference.
    counts: the different numbers of prompts that cells were measured on, where a race left some out early.
    whose: what to call that table where it is another model's, such as "published for GPT-2 small".
    """

    values: Table
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_axis: str = ""
    column_axis: str = ""
    unit: str = ""
    marks: tuple[tuple[int, int], ...] = ()
    expected: Table | None = None
    counts: tuple[int, ...] = ()
    whose: str = ""

    @classmethod
    def read(cls, figure: dict[str, Any]) -> "Heatmap":
        """Raises ValueError or TypeError where the values are no table, or labels, marks or expected values do not fit it."""
        values = _table(figure.get("values"), "values")
        n_rows, n_columns = len(values), len(values[0])
        marks = tuple((int(row), int(column)) for row, column in listed(figure.get("marks") or [], "marks"))
        if any(not (0 <= row < n_rows and 0 <= column < n_columns) for row, column in marks):
            raise ValueError("a mark of the figure lies outside its table")
        expected = None if figure.get("expected") is None else _table(figure["expected"], "expected values")
        if expected is not None and (len(expected), len(expected[0])) != (n_rows, n_columns):
            raise ValueError(
                f"the figure has {n_rows} by {n_columns} values and {len(expected)} by {len(expected[0])} expected ones"
            )
        return cls(
            values=values,
            rows=_labels(figure.get("rows"), n_rows),
            columns=_labels(figure.get("columns"), n_columns),
            row_axis=text_of(figure, "row_axis"),
            column_axis=text_of(figure, "column_axis"),
            unit=text_of(figure, "unit"),
            marks=marks,
            expected=expected,
            whose=text_of(figure, "whose"),
            counts=tuple(sorted({int(n) for line in listed(figure.get("counts") or [], "counts") for n in line})),
        )

    def draw(self) -> str:
        """The SVG file. Many claims show one sweep: it is drawn once."""
        return _drawn(self)

    def note(self) -> str:
        """What a reader must know besides the drawing."""
        cells = "heads" if (self.row_axis, self.column_axis) == ("layer", "head") else "cells"
        marks = f"Outlined: the {cells} that the card names." if self.marks else ""
        raced = f"Cells were measured on {self.counts[0]} to {self.counts[-1]} prompts." if len(self.counts) > 1 else ""
        return " ".join(part for part in (marks, raced, self.comparison()) if part)

    def summary(self) -> str:
        """The picture in a sentence, for those who hear the page."""
        shape = f"Heatmap of {len(self.rows)} by {len(self.columns)} cells"
        cells = [
            (cell, row, column) for row, line in enumerate(self.values) for column, cell in enumerate(line) if cell is not None
        ]
        if not cells:
            return f"{shape}, all of them empty."
        # Of equal cells, the first: labels of all maps are in reading order.
        ends = (max(cells, key=lambda cell: cell[0]), min(cells, key=lambda cell: cell[0]))
        high, low = (f"{short(cell)}{in_unit(self.unit)} at {self.name(row, column)}" for cell, row, column in ends)
        said = f"{shape}. Largest {high}; smallest {low}."
        return f"{said} {self.comparison()}" if self.expected is not None else said

    def comparison(self) -> str:
        """How what was observed goes with what was expected: Pearson's correlation over the cells, the largest difference."""
        if self.expected is None:
            return ""
        name = self.whose or "expected"
        pairs = [
            (expected, observed, row, column)
            for row, (before, after) in enumerate(zip(self.expected, self.values, strict=True))
            for column, (expected, observed) in enumerate(zip(before, after, strict=True))
            if expected is not None and observed is not None
        ]
        if not pairs:
            return f"No cell is both {name} and observed."
        r = _pearson([pair[0] for pair in pairs], [pair[1] for pair in pairs])
        correlation = "without a correlation, for want of variation" if r is None else f"correlation {wording.number(r, 3)}"
        expected, observed, row, column = max(pairs, key=lambda pair: abs(pair[1] - pair[0]))
        return (
            f"{name[:1].upper()}{name[1:]} against observed over {len(pairs):,} cells: {correlation}; largest difference "
            f"{short(observed - expected)}{in_unit(self.unit)} at {self.name(row, column)} "
            f"({name} {short(expected)}, observed {short(observed)})."
        )

    def name(self, row: int, column: int) -> str:
        """A cell's name: `L9H9` of a head, else its two labels, each with its axis where the label is a bare number."""
        labels = self.rows[row], self.columns[column]
        layer, head = (re.fullmatch(rf"{letter}?(\d+)", label) for letter, label in zip("LH", labels, strict=True))
        axes = self.row_axis, self.column_axis
        if layer and head and (axes == ("layer", "head") or all(not label.isdigit() for label in labels)):
            return f"L{layer[1]}H{head[1]}"
        named = (f"{axis} {label}" if axis and label.isdigit() else label for axis, label in zip(axes, labels, strict=True))
        return ", ".join(label for label in named if label) or "an unnamed cell"


def _table(given: Any, what: str) -> Table:
    lines = given.tolist() if hasattr(given, "tolist") else given
    if not isinstance(lines, list | tuple) or not all(isinstance(line, list | tuple) for line in lines):
        raise ValueError(f"the figure's {what} are not a table of numbers")
    table = tuple(tuple(finite(cell) for cell in line) for line in lines)
    if not table or not table[0] or any(len(line) != len(table[0]) for line in table):
        raise ValueError(f"the figure's {what} are not a table of numbers")
    return table


def _labels(given: Any, count: int) -> tuple[str, ...]:
    labels = tuple(shown_label(label) for label in given or range(count))
    if len(labels) != count:
        raise ValueError(f"the figure has {count} lines of values and {len(labels)} labels for them")
    return labels


def _pearson(one: list[float], other: list[float]) -> float | None:
    """Pearson's correlation; None where one of them does not vary, or is too large to square."""
    import numpy as np

    with np.errstate(all="ignore"):
        r = float(np.corrcoef(one, other)[0, 1]) if len(one) > 1 else float("nan")
    return r if np.isfinite(r) else None


def _difference(heatmap: Heatmap) -> Table:
    return tuple(
        tuple(None if a is None or b is None else finite(b - a) for a, b in zip(before, after, strict=True))
        for before, after in zip(heatmap.expected or (), heatmap.values, strict=True)
    )


def _limit(*tables: Table) -> float:
    """The end of a scale that is symmetric about zero."""
    return max((abs(cell) for table in tables for line in table for cell in line if cell is not None), default=0.0) or 1.0


@lru_cache(maxsize=64)
def _drawn(heatmap: Heatmap) -> str:
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    shared = _limit(heatmap.values, *([heatmap.expected] if heatmap.expected else []))
    panels, first = [("", heatmap.values, _MAP, shared)], "another model's" if heatmap.whose else "expected"
    if heatmap.expected is not None:
        difference = _difference(heatmap)
        panels = [
            (first, heatmap.expected, _MAP, shared),
            ("observed", heatmap.values, _MAP, shared),
            ("difference", difference, _MAP_OF_DIFFERENCES, _limit(difference)),
        ]
    n_rows, n_columns = len(heatmap.rows), len(heatmap.columns)
    n_cells = n_rows * n_columns
    printed = n_cells <= (_PRINTED if len(panels) == 1 else _PRINTED_BESIDE)
    if len(panels) > 1:
        cell = (0.46, 0.34) if printed else (max(2.3 / n_columns, 0.08), max(min(2.6 / n_rows, 0.3), 0.08))
    else:
        cell = (0.46, 0.34) if printed else (max(5.4 / n_columns, 0.12), max(3.9 / n_rows, 0.12))
    wide, high = cell[0] * n_columns, cell[1] * n_rows
    # Of one map, the numbers are read off the ticks; of three, there is room for half of them.
    most = max(n_rows, n_columns) if printed else 16 if len(panels) == 1 else 12
    columns, rows = spread_ticks(n_columns, most), spread_ticks(n_rows, most)
    longest = max(len(heatmap.columns[tick]) for tick in columns)
    upright = LETTER * (longest + 1) * len(columns) > wide
    below = 0.1 + (LETTER * longest if upright else 0.16) + 0.18 * bool(heatmap.column_axis)
    left = 0.12 + LETTER * max(len(heatmap.rows[tick]) for tick in rows) + 0.2 * bool(heatmap.row_axis)
    units = {title: _unit_lines(title, heatmap.unit, high) for title, *_ in panels}
    # A unit may be longer than its scale is high, by so much above and below.
    beyond = max(LETTER * len(line) - high for lines in units.values() for line in lines or [""]) / 2
    above = max(0.24 if len(panels) > 1 else 0.06, beyond)
    # A layout of our own: matplotlib's takes twice as long as all of the drawing.
    paper = Paper(left=left, below=max(below, beyond), above=above, high=high)
    with drawing():
        canvas, drawn, bars = Figure(), [], []
        for place, (title, table, colours, limit) in enumerate(panels):
            axes = paper.add(canvas, wide, after=0.08)
            drawn.append(axes)
            axes.set_gid(f"cells-{place}")
            axes.set_facecolor("none")
            axes.set_xlim(0, n_columns)
            axes.set_ylim(n_rows, 0)
            if n_cells > _MOST_CELLS:
                given = [[float("nan") if cell is None else cell for cell in line] for line in table]
                axes.pcolormesh(given, cmap=colours, vmin=-limit, vmax=limit, rasterized=True)
            axes.set_xticks([tick + 0.5 for tick in columns], [heatmap.columns[tick] for tick in columns])
            # The maps share their rows, which the first one names.
            named = rows if place == 0 else []
            axes.set_yticks([tick + 0.5 for tick in named], [heatmap.rows[tick] for tick in named])
            axes.tick_params("x", rotation=90 if upright else 0)
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
            axes.set_xlabel(heatmap.column_axis)
            axes.set_ylabel(heatmap.row_axis if place == 0 else "")
            if title:
                axes.set_title(title, fontsize=9)
            for row, column in heatmap.marks:
                axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor="black", linewidth=1.6, clip_on=False))
            if title != first:  # the first of three shares its scale with the map beside it
                lines = units[title]
                room = 0.75 + 0.14 * max(len(lines) - 1, 0)
                bars.append(
                    (_draw_scale(paper.add(canvas, 0.11, after=room), len(bars), high, limit, "\n".join(lines)), colours)
                )
        paper.settle(canvas)
        svg = svg_of(canvas)
        for number, (axes, colours) in enumerate(bars):
            svg = put_into(svg, f"scale-{number}", _scale(axes, number, colours))
        if n_cells > _MOST_CELLS:
            return svg
        for place, (axes, (title, table, colours, limit)) in enumerate(zip(drawn, panels, strict=True)):
            cells = _cells(heatmap, Frame.of(axes), title, table, colours, limit, printed)
            svg = put_into(svg, f"cells-{place}", cells)
        return svg


def _unit_lines(title: str, unit: str, high: float) -> list[str]:
    """What stands beside a scale of so many inches: its unit, broken into lines where it is longer."""
    said = ", ".join(part for part in (title if title == "difference" else "", unit) if part)
    return wrap(said, max(int(high / LETTER), 14))


def _draw_scale(axes: Any, number: int, high: float, limit: float, unit: str) -> Any:
    """The axis of a scale of colours, so many inches high; the colours themselves are laid into it afterwards."""
    from matplotlib.ticker import MaxNLocator

    axes.set_gid(f"scale-{number}")
    axes.set_facecolor("none")
    axes.set_ylim(-limit, limit)
    axes.set_xticks([])
    axes.yaxis.set_major_locator(MaxNLocator(nbins=min(max(int(high / 0.4), 2), 7), min_n_ticks=3, symmetric=True))
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    axes.tick_params(length=2, width=0.5)
    axes.spines[:].set_visible(False)
    axes.set_ylabel(unit)
    return axes


def _scale(axes: Any, number: int, colours: str) -> list[str]:
    """The colours of a scale as a gradient, which the map's colours are the points of."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    frame, colour_of, steps = Frame.of(axes), colormaps[colours], 10
    stops = [
        f'<stop offset="{1 - step / steps:.1f}" stop-color="{to_hex(colour_of(step / steps))}"/>' for step in range(steps + 1)
    ]
    place = f'x="{frame.left:.2f}" y="{frame.top:.2f}" width="{frame.width:.2f}" height="{frame.height:.2f}"'
    gradient = f'<linearGradient id="colours-{number}" x1="0" y1="0" x2="0" y2="1">{"".join(reversed(stops))}</linearGradient>'
    return [gradient, f'<rect {place} fill="url(#colours-{number})"/>']


def _cells(heatmap: Heatmap, frame: Frame, title: str, table: Table, colours: str, limit: float, printed: bool) -> list[str]:
    """Every cell as a rectangle that says its name and number, and the numbers that are printed."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    colour_of = colormaps[colours]
    width, height = f"{frame.width / len(heatmap.columns):.2f}", f"{frame.height / len(heatmap.rows):.2f}"
    parts = [f'<g style="stroke: #fff; stroke-width: {0.8 if printed else 0.3}">']
    numbers = ['<g style="font: 7px sans-serif; text-anchor: middle; pointer-events: none">']
    what = f"{title} " if title else ""
    for row, line in enumerate(table):
        for column, cell in enumerate(line):
            said = f"{heatmap.name(row, column)}: {what}{wording.NOTHING if cell is None else short(cell)}"
            fill = "none" if cell is None else to_hex(colour_of(0.5 + 0.5 * cell / limit))
            parts.append(
                f'<rect x="{frame.x(column):.2f}" y="{frame.y(row):.2f}" width="{width}" height="{height}" fill="{fill}">'
                f"<title>{escape(said)}</title></rect>"
            )
            if printed:
                shown, ink = _cell_text(cell, limit)
                at = f'x="{frame.x(column + 0.5):.2f}" y="{frame.y(row + 0.5) + 2.5:.2f}"'
                numbers.append(f'<text {at} fill="{ink}">{shown}</text>')
    return [*parts, "</g>", *([*numbers, "</g>"] if printed else [])]


def _cell_text(value: float | None, limit: float) -> tuple[str, str]:
    """A cell's number, and the ink that can be read on its colour."""
    if value is None:
        return wording.NOTHING, INK
    places = 2 if limit < 10 else 1 if limit < 100 else 0
    shown = 0.0 if abs(value) < 0.5 * 10**-places else value  # in a cell, a billionth is nothing
    return wording.number(shown, places), "white" if abs(value) > 0.6 * limit else "black"
