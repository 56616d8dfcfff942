"""A measurement that can be asked for more prompts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

import numpy as np
from jaxtyping import Float

from circuit_claims.measure.samples import Grid, GridStatistic, Samples, Shown


@dataclass(frozen=True)
class Measurement:
    """One quantity on one population of prompts, measured on as many prompts as the verdict needs.

    take(n): the samples of the first n prompts of the population's seeded stream. Asking for more extends the same sample,
    and prompts already measured are not measured again.
    limit: how many prompts there are, where the population is finite.
    whole: for a share, what it is a share of, as a measurement of its own: cheap where the share itself is dear.
    """

    take: Callable[[int], Samples | Grid | GridStatistic]
    prepend_bos: bool
    limit: int | None = None
    whole: Optional["Measurement"] = None

    def of(
        self, statistic: Callable[[Float[np.ndarray, "*resample row column"]], np.ndarray], quantity: str, unit: str
    ) -> "Measurement":
        """A number read off the grid that this measures."""
        return replace(self, take=lambda n: GridStatistic(self.take(n), statistic, quantity, unit))

    def share_of(self, whole: "Measurement", quantity: str, unit: str = "share") -> "Measurement":
        """This as a share of `whole`: the ratio of the means over the same prompts."""

        def take(n: int) -> Samples:
            part, of = self.take(n), whole.take(n)
            _same_prompts(part, of)
            besides = part.denominator if of.denominator is None else of.denominator
            of_whole = {"weights": of.values, "whole_unit": of.unit, "whole_shown": of.shown, "denominator": besides}
            return replace(part, **of_whole, quantity=quantity, unit=unit, shown=None)

        return replace(self, take=take, limit=_least_limit([self, whole]), whole=whole)

    def share_by_prompt_of(self, whole: "Measurement", quantity: str, unit: str = "share") -> "Measurement":
        """This as a share of `whole` on every prompt by itself: its mean is the mean of the ratios, outliers and all."""

        def take(n: int) -> Samples:
            part, of = self.take(n), whole.take(n)
            _same_prompts(part, of)
            return replace(part, values=part.values / of.values, quantity=quantity, unit=unit, shown=None)

        return replace(self, take=take, limit=_least_limit([self, whole]))

    def minus(self, other: "Measurement", quantity: str, unit: str) -> "Measurement":
        """The difference, prompt by prompt."""
        return combined([self, other], lambda a, b: a - b, quantity, unit)

    def showing(self, shown: Shown) -> "Measurement":
        """The same, as what says of each prompt, by a value above zero, that something is so (see `Shown`)."""
        return replace(self, take=lambda n: replace(self.take(n), shown=shown))

    def presupposing(self, whole: "Measurement") -> "Measurement":
        """The same, said of a model for which `whole` is above zero, and what it presupposes: of others, claims are refuted."""
        return replace(self, take=lambda n: replace(self.take(n), denominator=whole.take(n)), whole=whole)

    def with_distribution(self) -> "Measurement":
        """The same, with its distribution over prompts drawn in the report."""
        return replace(self, take=lambda n: replace(self.take(n), distribution=True))

    def drawn_as(self, figure: Callable[[], Mapping[str, Any] | None]) -> "Measurement":
        """The same, with a figure of its own in the report, made only when samples are taken."""
        return replace(self, take=lambda n: replace(self.take(n), drawn=figure()))


def combined(
    measurements: Sequence[Measurement], formula: Callable[..., Float[np.ndarray, " prompt"]], quantity: str, unit: str
) -> Measurement:
    """A number that follows from several measurements of the same prompts, prompt by prompt.

    Raises ValueError where they were not taken on the same prompts.
    """
    first = measurements[0]

    def take(n: int) -> Samples:
        taken = [measurement.take(n) for measurement in measurements]
        for samples in taken:
            _same_prompts(taken[0], samples)
        values = formula(*(samples.values for samples in taken))
        return replace(taken[0], values=values, weights=None, quantity=quantity, unit=unit, shown=None)

    return Measurement(take, first.prepend_bos, _least_limit(measurements))


def _least_limit(measurements: Sequence[Measurement]) -> int | None:
    return min((measurement.limit for measurement in measurements if measurement.limit is not None), default=None)


def _same_prompts(a: Samples, b: Samples) -> None:
    """Prompts may differ by a change (clean against corrupted), but not in number or template."""
    if a.n != b.n or list(a.clusters) != list(b.clusters):
        raise ValueError(f"{a.quantity} and {b.quantity} were not measured on the same prompts: measure them on one story")
    if a.weights is not None or b.weights is not None:
        raise ValueError(f"{a.quantity} and {b.quantity}: a share is no part of a further sum; combine what it is made of")


def pooled(measurements: Sequence[Measurement], quantity: str, unit: str) -> Measurement:
    """Several measurements of the same kind as one sample: every word of a prompt counts by itself, in its prompt's cluster."""

    def take(n: int) -> Samples:
        taken = [measurement.take(n) for measurement in measurements]
        for samples in taken:
            _same_prompts(taken[0], samples)
        return replace(
            taken[0],
            values=np.concatenate([samples.values for samples in taken]),
            clusters=[cluster for samples in taken for cluster in samples.clusters],
            prompts=[prompt for samples in taken for prompt in samples.prompts],
            quantity=quantity,
            unit=unit,
        )

    return Measurement(take, measurements[0].prepend_bos, _least_limit(measurements))


def side_by_side(
    measurements: Sequence[Measurement],
    labels: Sequence[str],
    quantity: str,
    unit: str,
    *,
    whole: Measurement | None = None,
    presupposes: Measurement | None = None,
) -> Measurement:
    """Several measurements of the same prompts as the columns of a grid of one row, for numbers that follow from their means.

    whole: where it is given, every column is a share of it (ratio of means). presupposes: what must be above zero for the
    numbers to mean anything, where they are no plain shares of it.
    """

    def take(n: int) -> Grid:
        taken = [measurement.take(n) for measurement in measurements]
        of = whole.take(n) if whole is not None else None
        for samples in [*taken, *([of] if of is not None else [])]:
            _same_prompts(taken[0], samples)
        return Grid(
            values=np.stack([samples.values for samples in taken], axis=1)[:, None, :],
            weights=None if of is None else of.values,
            quantity=quantity,
            unit=unit,
            clusters=taken[0].clusters,
            row_axis="",
            row_labels=[""],
            column_axis="",
            column_labels=labels,
            denominator=None if presupposes is None else presupposes.take(n),
        )

    of_all = [*measurements, *(each for each in (whole, presupposes) if each is not None)]
    return Measurement(take, measurements[0].prepend_bos, _least_limit(of_all), whole or presupposes)
