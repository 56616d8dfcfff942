"""Samples: one number a prompt, and what an interval needs to know about the prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np
from jaxtyping import Float

from circuit_claims.measure import display, intervals

if TYPE_CHECKING:  # the first two are slow to import; the third imports this module
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from circuit_claims.measure.grid import Grid

#: How many rows `_repr_html_` shows: of samples the first prompts, of a grid the cells that are largest in size.
SHOWN_ROWS = 8


class Shown(NamedTuple):
    """What is so of a prompt whose value is above zero, in words, such as "IO is preferred".

    task: whether a prompt shows by it that the model does the task; else, that something makes a difference to it.
    """

    what: str
    task: bool = True


class Taken(Protocol):
    """What `Measurement.take` gives: `Samples`, a `Grid`, or a `GridStatistic`. The methods go together in any order."""

    @property
    def n(self) -> int:
        """The number of prompts."""
        ...

    @property
    def quantity(self) -> str:
        """What was measured, in words."""
        ...

    @property
    def unit(self) -> str:
        """What it is measured in."""
        ...

    @property
    def exact(self) -> bool:
        """Whether the prompts are the whole population."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the row says of the model."""
        ...

    @property
    def presupposed(self) -> "tuple[Samples, ...]":
        """All that must be above zero."""
        ...

    def presupposing(self, whole: "Samples") -> Self:
        """The same, said of a model for which `whole` is above zero."""
        ...

    def share_of(self, whole: "Samples", quantity: str, unit: str = "share") -> Self:
        """This as a share of `whole`."""
        ...

    def with_distribution(self) -> Self:
        """The same, with its distribution over prompts drawn in the report."""
        ...

    def drawn_as(self, figure: Mapping[str, Any] | None) -> Self:
        """The same, with a figure of its own in the report."""
        ...


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
    besides: what else must be above zero (see `presupposing`).
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
    besides: "tuple[Samples, ...]" = ()

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
        return all_presupposed(self.whole, self.denominator, *self.besides)

    def presupposing(self, whole: "Samples") -> Self:
        """The same, said of a model for which `whole` is above zero, besides what these samples presuppose already."""
        return replace(self, **presuppositions(whole, self.denominator, *self.besides))

    def share_of(self, whole: "Samples", quantity: str, unit: str = "share") -> Self:
        """This as a share of `whole`: the ratio of the means over the same prompts.

        Raises ValueError where the prompts differ, or one of the two is a share already.
        """
        same_prompts(self, whole)
        return replace(self, **as_share(self, whole, quantity, unit), shown=None)

    def with_distribution(self) -> Self:
        """The same, with its distribution over prompts drawn in the report."""
        return replace(self, distribution=True)

    def drawn_as(self, figure: Mapping[str, Any] | None) -> Self:
        """The same, with a figure of its own in the report."""
        return replace(self, drawn=figure)

    @property
    def estimate(self) -> float:
        """The mean, or the ratio of means where there are weights."""
        if self.weights is None:
            return float(self.values.mean())
        return float(self.values.mean() / self.weights.mean())

    def mean_interval(self, confidence: float = intervals.CONFIDENCE, seed: int = 0) -> tuple[float, float]:
        """The confidence interval of the estimate: (low, high), in the unit of the samples.

        Of a rate it is Clopper and Pearson's at the effective sample size, else a bootstrap over templates
        (see `circuit_claims.measure.intervals`).
        """
        if self.unit == "rate":
            return intervals.rate_interval(self, confidence)
        return intervals.mean_interval(self, confidence, seed)

    @property
    def by_prompt(self) -> Float[np.ndarray, " prompt"]:
        """The values, of a share prompt by prompt."""
        return self.values if self.weights is None else self.values / self.weights

    def figure(self, low: float | None, high: float | None) -> dict[str, Any]:
        """The spread over prompts beside the expected range, as the report draws it; of a share, prompt by prompt."""
        return spread_over_prompts(self.by_prompt, self.quantity, self.unit, self.estimate, (low, high))

    def to_frame(self) -> "DataFrame":
        """A pandas frame of one row a prompt: the prompt's text, its cluster, its value, and of a share what it is a share of.

        The quantity and its unit are in `attrs`.
        """
        import pandas

        columns: dict[str, Any] = {"prompt": [str(prompt) for prompt in self.prompts]} if len(self.prompts) else {}
        columns |= {"cluster": pandas.Series(list(self.clusters), dtype=object).infer_objects(), "value": self.values}
        if self.weights is not None:
            columns["whole"] = self.weights
        frame = pandas.DataFrame(columns)
        frame.attrs.update(quantity=self.quantity, unit=self.unit)
        return frame

    def plot(self) -> "Figure":
        """A matplotlib figure: a histogram over prompts (of a share, prompt by prompt), with the estimate and its interval."""
        return display.histogram(self.by_prompt, self.quantity, self.unit, self.estimate, self.mean_interval())

    def _repr_html_(self) -> str:
        found = display.with_interval(self.estimate, self.mean_interval(), self.unit)
        of = f" ({self.population})" if self.population else ""
        return display.table(self.quantity, f"{found}, {self.n} prompts{of}", self.to_frame().head(SHOWN_ROWS))


def same_prompts(a: "Samples | Grid", b: Samples) -> None:
    """Two samples may be put together: their prompts may differ by a change (clean against corrupted), but not in number.

    Raises ValueError where the number or the templates differ, or one of the two is a share already.
    """
    if a.n != b.n or list(a.clusters) != list(b.clusters):
        raise ValueError(f"{a.quantity} and {b.quantity} were not measured on the same prompts: measure them on one task")
    if a.weights is not None or b.weights is not None:
        raise ValueError(f"{a.quantity} and {b.quantity}: a share is no part of a further sum; combine what it is made of")


def as_share(part: "Samples | Grid", whole: Samples, quantity: str, unit: str) -> dict[str, Any]:
    """The fields that make a share: it presupposes what the whole does, and what the part does."""
    presupposed = presuppositions(whole.denominator, *whole.besides, part.denominator, *part.besides)
    share = {"weights": whole.values, "whole_unit": whole.unit, "whole_shown": whole.shown}
    return {**share, **presupposed, "quantity": quantity, "unit": unit}


def presuppositions(*presupposed: Samples | None) -> dict[str, Any]:
    """The fields that hold what is presupposed: the first is what `whole` shows."""
    first, *others = [each for each in presupposed if each is not None] or [None]
    return {"denominator": first, "besides": tuple(others)}


def all_presupposed(whole: Samples | None, *denominators: Samples | None) -> tuple[Samples, ...]:
    """Each once: what shares are taken of is often what they presuppose."""
    chains = [(*each.presupposed, each) for each in denominators if each is not None]
    found: list[Samples] = []
    for each in [*(sample for chain in chains for sample in chain), *([] if whole is None else [whole])]:
        if not any(np.array_equal(each.values, other.values) for other in found):
            found.append(each)
    return tuple(found)


def spread_over_prompts(
    values: Float[np.ndarray, " prompt"], quantity: str, unit: str, mean: float, expected: tuple[float | None, float | None]
) -> dict[str, Any]:
    return {
        "kind": "distribution",
        "title": quantity,
        "unit": unit,
        "values": [float(f"{value:.5g}") for value in values],
        "mean": mean,
        "expected": list(expected),
    }
