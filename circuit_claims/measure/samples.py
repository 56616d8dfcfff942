"""What a measurement gives: one number a prompt, and what an interval needs to know about the prompts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
from jaxtyping import Float

from circuit_claims.heads import head_labels, layer_labels


class Shown(NamedTuple):
    """What is so of a prompt whose value is above zero, in words, such as "IO is preferred".

    task: whether a prompt shows by it that the model does the task; else, that something makes a difference to it.
    """

    what: str
    task: bool = True


@dataclass(frozen=True)
class Samples:
    """Per-prompt observations of one quantity.

    values: one number a prompt; for a rate, 0 or 1.
    weights: per-prompt denominators where the quantity is a ratio of means (recovery: patched minus corrupted over clean
        minus corrupted, each averaged first, as TransformerLens's normalised patching metric does); None for a plain mean.
    clusters: the template each prompt came from: prompts of one template are not independent of each other.
    prompts: the texts, for the counterexample; population: which prompts they are, in words.
    exact: the prompts are the whole population that the claim speaks of (a fixed list), not a sample from it.
    shown: where the values say whether the model does the task, what a prompt shows whose value is above zero; claims that
        presuppose such values ask more of them than a mean above zero (see `circuit_claims.measure.presuppositions`).
    whole_unit, whole_shown: what the denominators are measured in, and `shown` of them.
    distribution: draw how the values are spread over the prompts: a mean can hide that.
    denominator: what must be above zero for the values to be about anything, where they are no plain share of it, or besides.
    facts: what the row says of the model, where that is not the run's subject (`subject`, `weights_sha256`, ...).
    drawn: a figure of its own for the report (see `circuit_claims.verdicts.rows.Row.figure`).
    """

    values: Float[np.ndarray, " prompt"]
    quantity: str
    unit: str
    clusters: Sequence[Any]
    weights: Float[np.ndarray, " prompt"] | None = None
    prompts: Sequence[Any] = field(default=())
    population: str = ""
    exact: bool = False
    distribution: bool = False
    denominator: "Samples | None" = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    drawn: Mapping[str, Any] | None = None
    whole_unit: str = "logits"
    shown: Shown | None = None
    whole_shown: Shown | None = None

    def __post_init__(self) -> None:
        if len(self.values) == 0:
            raise ValueError(f"no prompts were measured for {self.quantity}: a claim needs at least one")
        if not np.isfinite(self.values).all() or (self.weights is not None and not np.isfinite(self.weights).all()):
            raise FloatingPointError(f"{self.quantity} is NaN or infinite on {self._broken()} of {len(self.values)} prompts")

    def _broken(self) -> int:
        broken = ~np.isfinite(self.values)
        return int((broken | ~np.isfinite(self.weights)).sum()) if self.weights is not None else int(broken.sum())

    @property
    def n(self) -> int:
        """The number of prompts."""
        return len(self.values)

    @property
    def whole(self) -> "Samples | None":
        """What a ratio takes its share of, or the values presuppose, as samples of its own; None for a plain mean."""
        if self.weights is None:
            return self.denominator
        quantity, shown = f"what {self.quantity} is a share of", self.whole_shown
        return Samples(self.weights, quantity, self.whole_unit, self.clusters, exact=self.exact, shown=shown)

    @property
    def presupposed(self) -> "tuple[Samples, ...]":
        """All that must be above zero: what the values presuppose, and what that presupposes; then what they are a share of."""
        return _presupposed(self.whole, self.denominator)

    @property
    def estimate(self) -> float:
        """The mean, or the ratio of means where there are weights."""
        if self.weights is None:
            return float(self.values.mean())
        return float(self.values.mean() / self.weights.mean())

    def figure(self, low: float | None, high: float | None) -> dict[str, Any]:
        """The spread over prompts beside the expected range, as the report draws it; of a share, prompt by prompt."""
        values = self.values if self.weights is None else self.values / self.weights
        return {
            "kind": "distribution",
            "title": self.quantity,
            "unit": self.unit,
            "values": [float(f"{value:.5g}") for value in values],
            "mean": self.estimate,
            "expected": [low, high],
        }


def _presupposed(whole: Samples | None, denominator: Samples | None) -> tuple[Samples, ...]:
    """Each once: what shares are taken of is often what they presuppose."""
    besides = () if denominator is None else (*denominator.presupposed, denominator)
    if whole is None or any(np.array_equal(whole.values, each.values) for each in besides):
        return besides
    return (*besides, whole)


@dataclass(frozen=True)
class Grid:
    """Per-prompt scores of every cell of a sweep: of every head, or of every layer and position.

    values: `[prompt, row, column]`; weights as in `Samples`, one a prompt.
    marks: the cells that the card names, outlined in the report's heatmap.
    shown: what the heatmap shows, made from the estimate, and its column labels; None for the estimate itself.
    denominator: what the grid's numbers are shares of, where a statistic of it divides by it later, or presuppose besides.
    exact, facts, whole_unit, whole_shown, drawn: as in `Samples`; `drawn` takes the place of the heatmap.
    published: the estimate's cells as a source gives them, drawn beside what was found.
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

    def __post_init__(self) -> None:
        if not np.isfinite(self.values).all() or (self.weights is not None and not np.isfinite(self.weights).all()):
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
        return _presupposed(self.whole, self.denominator)

    @property
    def estimate(self) -> Float[np.ndarray, "row column"]:
        """The mean, or the ratio of means where there are weights, of every cell."""
        total = self.values.mean(0)
        return total if self.weights is None else total / self.weights.mean()

    def of(self, statistic: Callable[..., np.ndarray], quantity: str, unit: str) -> "GridStatistic":
        """A number read off this grid."""
        return GridStatistic(self, statistic, quantity, unit)

    def figure(self) -> dict[str, Any]:
        """The heatmap of the estimate, as the report draws it, or the figure that was drawn in its place."""
        if self.drawn is not None:
            return dict(self.drawn)
        beside = {} if self.published is None else {"expected": np.asarray(self.published).tolist()}
        return beside | {
            "kind": "heatmap",
            "title": self.quantity,
            "rows": list(self.row_labels),
            "columns": list(self.column_labels if self.shown is None else self.shown_labels),
            "row_axis": self.row_axis,
            "column_axis": self.column_axis,
            "unit": self.unit,
            "values": (self.estimate if self.shown is None else self.shown(self.estimate)).tolist(),
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
