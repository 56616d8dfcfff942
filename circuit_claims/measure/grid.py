"""Grids: a number a prompt for every cell of a sweep; and numbers that are read off a grid."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from jaxtyping import Bool, Float, Int

from circuit_claims.heads import head_labels, layer_labels
from circuit_claims.measure import display, intervals
from circuit_claims.measure.per_prompt import (
    SHOWN_ROWS,
    Samples,
    Shown,
    all_presupposed,
    as_share,
    presuppositions,
    same_prompts,
    spread_over_prompts,
)

if TYPE_CHECKING:  # slow to import; a claim needs neither
    from matplotlib.figure import Figure
    from pandas import DataFrame


@dataclass(frozen=True)
class Grid:
    """Per-prompt scores of every cell of a sweep: of every head, or of every layer and position.

    values: `[prompt, row, column]`; weights as in `Samples`, one a prompt.
    marks: the cells that the card names, outlined in the report's heatmap.
    shown: what the heatmap shows, made from the estimate, and its column labels; None for the estimate itself.
    denominator: what the grid's numbers are shares of, where a statistic of it divides by it later, or presuppose besides.
    besides, exact, facts, whole_unit, whole_shown, drawn: as in `Samples`; `drawn` takes the place of the heatmap.
    distribution: draw how a number read off the grid is spread over the prompts, in place of the heatmap.
    published: the estimate's cells as a source gives them, drawn beside what was found.
    counts: on how many of the prompts each cell was measured, the first so many, where a race left some out early (see
        `circuit_claims.measure.races`); None where every cell was on all. The values of the others are NaN.
    """

    values: Float[np.ndarray, "prompt row column"]
    quantity: str
    unit: str
    clusters: Sequence[Any]
    weights: Float[np.ndarray, " prompt"] | None = None
    row_axis: str = "layer"
    column_axis: str = "head"
    row_labels: Sequence[str] = ()
    column_labels: Sequence[str] = ()
    marks: Sequence[tuple[int, int]] = ()
    shown: Callable[[Float[np.ndarray, "row column"]], Float[np.ndarray, "row shown_column"]] | None = None
    shown_labels: Sequence[str] = ()
    denominator: Samples | None = None
    exact: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    drawn: Mapping[str, Any] | None = None
    published: Float[np.ndarray, "row column"] | None = None
    whole_unit: str = "logits"
    whole_shown: Shown | None = None
    besides: tuple[Samples, ...] = ()
    distribution: bool = False
    counts: Int[np.ndarray, "row column"] | None = None

    def __post_init__(self) -> None:
        finite = np.isfinite(self.values) if self.counts is None else np.isfinite(self.values) | ~self._measured
        if not finite.all() or (self.weights is not None and not np.isfinite(self.weights).all()):
            raise FloatingPointError(f"{self.quantity} is NaN or infinite on some prompts")

    @classmethod
    def of_heads(
        cls,
        values: Float[np.ndarray, "prompt layer head"],
        quantity: str,
        unit: str,
        clusters: Sequence[Any] | None = None,
        *,
        first_layer: int = 0,
        marks: Iterable[tuple[int, int]] = (),
        **more: Any,
    ) -> Self:
        """A sweep over heads: its rows are labelled L0, L1, ... and its columns H0, H1, ...

        clusters: the template of each prompt; left out, every prompt is a cluster of its own.
        first_layer: the layer of the first row. marks: heads (layer, head) to outline; those of other layers are left out.
        more: the other fields, such as `weights`, `exact` and `facts`.
        """
        n, layers, heads = values.shape
        return cls(
            values,
            quantity,
            unit,
            range(n) if clusters is None else clusters,
            row_labels=layer_labels(layers, first_layer),
            column_labels=head_labels(heads),
            marks=[(layer - first_layer, head) for layer, head in marks if 0 <= layer - first_layer < layers],
            **more,
        )

    @property
    def n(self) -> int:
        """The number of prompts."""
        return len(self.values)

    @property
    def whole(self) -> Samples | None:
        """What the cells' ratios take their share of, as samples of its own; None for plain means."""
        if self.weights is None:
            return self.denominator
        # Never exact: on a few fixed prompts even noise has a whole half of the time; the question is of prompts like these.
        quantity = f"what {self.quantity} is a share of"
        return Samples(self.weights, quantity, self.whole_unit, self.clusters, shown=self.whole_shown)

    @property
    def presupposed(self) -> tuple[Samples, ...]:
        """As for samples."""
        return all_presupposed(self.whole, self.denominator, *self.besides)

    def presupposing(self, whole: Samples) -> Self:
        """As for samples."""
        return replace(self, **presuppositions(whole, self.denominator, *self.besides))

    def share_of(self, whole: Samples, quantity: str, unit: str = "share") -> Self:
        """Every cell as a share of `whole`, as for samples."""
        same_prompts(self, whole)
        return replace(self, **as_share(self, whole, quantity, unit))

    def with_distribution(self) -> Self:
        """The same, with the distribution over prompts of a number read off it drawn in the report."""
        return replace(self, distribution=True)

    def drawn_as(self, figure: Mapping[str, Any] | None) -> Self:
        """The same, with a figure of its own in the report."""
        return replace(self, drawn=figure)

    @property
    def estimate(self) -> Float[np.ndarray, "row column"]:
        """The mean, or the ratio of means where there are weights, of every cell over the prompts that it was measured on."""
        if self.counts is not None:
            total = np.where(self._measured, self.values, 0.0).sum(0)
            return total / (self.counts if self.weights is None else np.cumsum(self.weights)[self.counts - 1])
        total = self.values.mean(0)
        return total if self.weights is None else total / self.weights.mean()

    @property
    def effects(self) -> int:
        """How many effects were measured: of one cell on one prompt each."""
        return self.values.size if self.counts is None else int(self.counts.sum())

    @property
    def _measured(self) -> Bool[np.ndarray, "prompt row column"]:
        return np.arange(self.n)[:, None, None] < (np.array(self.n) if self.counts is None else self.counts)

    def cell(self, row: int, column: int) -> Samples:
        """One cell as samples of its own."""
        rows, columns = self._labels
        named = f"{self.quantity}, {cell_name(rows[row], columns[column])}"
        more = {"weights": self.weights, "denominator": self.denominator, "besides": self.besides, "exact": self.exact}
        shown = {"whole_unit": self.whole_unit, "whole_shown": self.whole_shown, "facts": self.facts}
        values, clusters = self.values[:, row, column], self.clusters
        if self.counts is not None:
            n = int(self.counts[row, column])
            values, clusters = values[:n], list(clusters)[:n]
            more["weights"] = None if self.weights is None else self.weights[:n]
        return Samples(values, named, self.unit, clusters, **more, **shown)

    def interval(
        self, confidence: float = intervals.CONFIDENCE, seed: int = 0
    ) -> tuple[Float[np.ndarray, "row column"], Float[np.ndarray, "row column"]]:
        """The confidence interval of every cell by itself, (lows, highs), as `Samples.mean_interval`.

        The level is each cell's own: of many cells, some intervals miss.
        """
        ends = np.empty((2, *self.values.shape[1:]))
        for row, column in np.ndindex(*self.values.shape[1:]):
            ends[:, row, column] = self.cell(row, column).mean_interval(confidence, seed)
        return ends[0], ends[1]

    def to_frame(self, confidence: float = intervals.CONFIDENCE) -> "DataFrame":
        """A pandas frame of one row a cell: its row, its column, the estimate, and the interval's ends (low, high).

        The quantity and its unit are in `attrs`. `frame.nlargest(5, "estimate")` are the five highest cells.
        """
        low, high = self.interval(confidence)
        return self._frame(list(np.ndindex(*self.estimate.shape)), zip(low.ravel(), high.ravel(), strict=True))

    def plot(self) -> "Figure":
        """A matplotlib figure: the heatmap of the estimate, with the cells outlined that the card names."""
        rows, columns = self._labels
        return display.heatmap(
            self.as_shown,
            self.quantity,
            self.unit,
            rows=rows,
            columns=columns if self.shown is None else self.shown_labels,
            axes_names=(self.row_axis, self.column_axis),
            marks=self.marks,
        )

    def _repr_html_(self) -> str:
        shape = self.estimate.shape
        order = np.argsort(-np.abs(self.estimate), axis=None, kind="stable")[:SHOWN_ROWS]
        cells = [(int(place) // shape[1], int(place) % shape[1]) for place in order]
        frame = self._frame(cells, [self.cell(*cell).mean_interval() for cell in cells])
        summary = f"{self.unit}, {self.n} prompts; {len(cells)} of {self.estimate.size} cells, the largest in size"
        return display.table(self.quantity, summary, frame)

    @property
    def _labels(self) -> tuple[list[str], list[str]]:
        """Labels of rows and columns; numbers where none were given."""
        counts = self.values.shape[1:]
        given = zip((self.row_labels, self.column_labels), counts, strict=True)
        rows, columns = [list(labels) or [str(i) for i in range(count)] for labels, count in given]
        return rows, columns

    def _frame(self, cells: Sequence[tuple[int, int]], ends: Iterable[tuple[float, float]]) -> "DataFrame":
        import pandas

        rows, columns = self._labels
        estimate = self.estimate
        lines = [
            (rows[row], columns[column], estimate[row, column], *interval)
            for (row, column), interval in zip(cells, ends, strict=True)
        ]
        names = [self.row_axis or "row", self.column_axis or "column", "estimate", "low", "high"]
        frame = pandas.DataFrame(lines, columns=names)
        frame.attrs.update(quantity=self.quantity, unit=self.unit)
        return frame

    @property
    def as_shown(self) -> Float[np.ndarray, "row shown_column"]:
        """The cells that the heatmap shows: the estimate, or what `shown` makes of it."""
        return self.estimate if self.shown is None else self.shown(self.estimate)

    def of(self, statistic: Callable[..., np.ndarray], quantity: str, unit: str) -> "GridStatistic":
        """A number read off this grid."""
        return GridStatistic(self, statistic, quantity, unit)

    def figure(self) -> dict[str, Any]:
        """The heatmap of the estimate, as the report draws it, or the figure that was drawn in its place."""
        if self.drawn is not None:
            return dict(self.drawn)
        beside = {} if self.published is None else {"expected": np.asarray(self.published).tolist()}
        beside |= {} if self.counts is None or self.shown is not None else {"counts": self.counts.tolist()}
        return beside | {
            "kind": "heatmap",
            "title": self.quantity,
            "rows": list(self.row_labels),
            "columns": list(self.column_labels if self.shown is None else self.shown_labels),
            "row_axis": self.row_axis,
            "column_axis": self.column_axis,
            "unit": self.unit,
            "values": self.as_shown.tolist(),
            "marks": [list(mark) for mark in self.marks],
        }


@dataclass(frozen=True)
class GridStatistic:
    """One number read off a grid, such as a rank or a count of cells.

    statistic: from estimates `[..., row, column]` to numbers `[...]`; the bootstrap applies it to every resample.
    """

    grid: Grid
    statistic: Callable[[Float[np.ndarray, "*resample row column"]], Float[np.ndarray, "*resample"]]
    quantity: str
    unit: str

    @property
    def n(self) -> int:
        """The number of prompts."""
        return self.grid.n

    @property
    def estimate(self) -> float:
        """The number that is read off the grid's estimate."""
        return float(self.statistic(self.grid.estimate))

    def interval(self, confidence: float = intervals.CONFIDENCE, seed: int = 0) -> tuple[float, float]:
        """The confidence interval of the number: (low, high) (see `circuit_claims.measure.intervals.grid_interval`)."""
        _, low, high = intervals.grid_interval(self, confidence, seed)
        return low, high

    @property
    def whole(self) -> Samples | None:
        """As for the grid."""
        return self.grid.whole

    @property
    def presupposed(self) -> tuple[Samples, ...]:
        """As for the grid."""
        return self.grid.presupposed

    @property
    def facts(self) -> Mapping[str, Any]:
        """As for the grid."""
        return self.grid.facts

    @property
    def exact(self) -> bool:
        """As for the grid."""
        return self.grid.exact

    def presupposing(self, whole: Samples) -> Self:
        """As for samples."""
        return replace(self, grid=self.grid.presupposing(whole))

    def share_of(self, whole: Samples, quantity: str, unit: str = "share") -> Self:
        """The number read off the cells as shares of `whole`, as for samples."""
        return replace(self, grid=self.grid.share_of(whole, quantity, unit), quantity=quantity, unit=unit)

    def with_distribution(self) -> Self:
        """The same, with the distribution of the number over prompts drawn in the report."""
        return replace(self, grid=self.grid.with_distribution())

    def drawn_as(self, figure: Mapping[str, Any] | None) -> Self:
        """The same, with a figure of its own in the report."""
        return replace(self, grid=self.grid.drawn_as(figure))

    def figure(self, low: float | None, high: float | None) -> dict[str, Any]:
        """The grid's figure; with `distribution`, the number read off every prompt's cells, beside the expected range."""
        grid = self.grid
        if grid.drawn is not None or not grid.distribution:
            return grid.figure()
        cells = grid.values if grid.weights is None else grid.values / grid.weights[:, None, None]
        return spread_over_prompts(self.statistic(cells).astype(float), self.quantity, self.unit, self.estimate, (low, high))


def cell_name(row: str, column: str) -> str:
    """A cell as tables name it: "L10H7", and by position "L8 10", whatever the token there is."""
    return row + column if column.startswith("H") and column[1:].isdigit() else f"{row} {column.split(' ')[0]}"
