"""A measurement that can be asked for more prompts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from jaxtyping import Float, Int

from circuit_claims.measure.blocks import FULL_LOOK
from circuit_claims.measure.per_prompt import same_prompts
from circuit_claims.measure.samples import Grid, GridStatistic, Samples, Shown, Taken

#: How many prompts `take()` measures.
DEFAULT_PROMPTS = FULL_LOOK

#: On how many prompts each cell of a sweep is wanted.
Wanted = Int[np.ndarray, "row column"]

T = TypeVar("T", bound=Taken)
T_co = TypeVar("T_co", bound=Taken, covariant=True)


class Take(Protocol[T_co]):
    """What gives the samples of the first n prompts."""

    def __call__(self, n: int = DEFAULT_PROMPTS, /, cells: Wanted | None = None) -> T_co:
        """The samples of the first n prompts; with no number, of the default budget: 120, or all where there are fewer.

        cells: of a sweep, on how many of them each cell is wanted, the first so many; left out, every cell on all.
        """
        ...


@dataclass(frozen=True)
class _Taking(Generic[T_co]):
    """`take` with the default budget for whoever gives no number."""

    first: Callable[..., T_co]
    limit: int | None

    def __call__(self, n: int | None = None, /, cells: Wanted | None = None) -> T_co:
        if n is None:
            n = DEFAULT_PROMPTS if self.limit is None else min(DEFAULT_PROMPTS, self.limit)
        return self.first(n) if cells is None else self.first(n, cells)


@dataclass(frozen=True, init=False)
class Measurement(Generic[T_co]):
    """One quantity on one population of prompts, measured on as many prompts as the verdict needs.

    `Measurement[Samples]` gives a number a prompt, `Measurement[Grid]` the cells of a sweep, and `Measurement[GridStatistic]` a
    number read off a grid. `presupposing`, `share_of`, `with_distribution` and `drawn_as` are there for all three, and go
    together in any order.

    take(n): the samples of the first n prompts of the population's seeded stream. Asking for more extends the same sample,
    and prompts already measured are not measured again. `take()` uses the default budget: 120 prompts, or all where there are
    fewer.
    limit: how many prompts there are, where the population is finite.
    whole: for a share, what it is a share of, as a measurement of its own: cheap where the share itself is dear.
    cells: of a sweep whose cells can be measured one by one (then `take` is told which are wanted on how many prompts), how
        many rows and columns it has; else None.
    statistic: of a number read off a grid, what reads it.
    """

    take: Take[T_co]
    prepend_bos: bool
    limit: int | None = None
    whole: "Measurement[Samples] | None" = None
    cells: tuple[int, int] | None = None
    statistic: Callable[..., np.ndarray] | None = None

    def __init__(
        self,
        take: Callable[..., T_co],
        prepend_bos: bool,
        limit: int | None = None,
        whole: "Measurement[Samples] | None" = None,
        cells: tuple[int, int] | None = None,
        statistic: Callable[..., np.ndarray] | None = None,
    ) -> None:
        first = take.first if isinstance(take, _Taking) else take
        given = {"take": _Taking(first, limit), "prepend_bos": prepend_bos, "limit": limit, "whole": whole}
        given |= {"cells": cells, "statistic": statistic}
        for name, value in given.items():
            object.__setattr__(self, name, value)  # as the generated __init__ of a frozen dataclass does

    def mapped(self, change: Callable[[T_co], T]) -> "Measurement[T]":
        """The same prompts and the same whole, with `change` applied to what was taken."""
        take = self._then(lambda taken, _: change(taken))
        return Measurement(take, self.prepend_bos, self.limit, self.whole, self.cells, self.statistic)

    def _then(self, change: Callable[[T_co, int], T]) -> Callable[..., T]:
        """`take`, and `change` of what was taken and the number of prompts; which cells are wanted is passed on."""
        return lambda n, cells=None: change(self.take(n) if cells is None else self.take(n, cells), n)

    def of(
        self: "Measurement[Grid]",
        statistic: Callable[[Float[np.ndarray, "*resample row column"]], np.ndarray],
        quantity: str,
        unit: str,
    ) -> "Measurement[GridStatistic]":
        """A number read off the grid that this measures."""
        read = self.mapped(lambda grid: GridStatistic(grid, statistic, quantity, unit))
        return replace(read, statistic=statistic)

    def share_of(self, whole: "Measurement[Samples]", quantity: str, unit: str = "share") -> "Measurement[T_co]":
        """This as a share of `whole`: the ratio of the means over the same prompts.

        Of a grid, every cell is a share; of a number read off a grid, the number is read off the cells as shares.
        """
        take = self._then(lambda taken, n: taken.share_of(whole.take(n), quantity, unit))
        return Measurement(take, self.prepend_bos, _least_limit([self, whole]), whole, self.cells, self.statistic)

    def share_by_prompt_of(
        self: "Measurement[Samples]", whole: "Measurement[Samples]", quantity: str, unit: str = "share"
    ) -> "Measurement[Samples]":
        """This as a share of `whole` on every prompt by itself: its mean is the mean of the ratios, outliers and all."""

        def take(n: int) -> Samples:
            part, of = self.take(n), whole.take(n)
            same_prompts(part, of)
            return replace(part, values=part.values / of.values, quantity=quantity, unit=unit, shown=None)

        return replace(self, take=take, limit=_least_limit([self, whole]))

    def minus(self: "Measurement[Samples]", other: "Measurement[Samples]", quantity: str, unit: str) -> "Measurement[Samples]":
        """The difference, prompt by prompt."""
        return combined([self, other], lambda a, b: a - b, quantity, unit)

    def showing(self: "Measurement[Samples]", shown: Shown) -> "Measurement[Samples]":
        """The same, as what says of each prompt, by a value above zero, that something is so (see `Shown`)."""
        return self.mapped(lambda samples: replace(samples, shown=shown))

    def presupposing(self, whole: "Measurement[Samples]") -> "Measurement[T_co]":
        """The same, said of a model for which `whole` is above zero, and what it presupposes: of others, claims are refuted.

        What was presupposed before still is.
        """
        return replace(self, take=self._then(lambda taken, n: taken.presupposing(whole.take(n))), whole=whole)

    def with_distribution(self) -> "Measurement[T_co]":
        """The same, with its distribution over prompts drawn in the report."""
        return self.mapped(lambda taken: taken.with_distribution())

    def drawn_as(self, figure: Callable[[], Mapping[str, Any] | None]) -> "Measurement[T_co]":
        """The same, with a figure of its own in the report, made only when samples are taken."""
        return self.mapped(lambda taken: taken.drawn_as(figure()))


def combined(
    measurements: Sequence[Measurement[Samples]], formula: Callable[..., Float[np.ndarray, " prompt"]], quantity: str, unit: str
) -> Measurement[Samples]:
    """A number that follows from several measurements of the same prompts, prompt by prompt.

    Raises ValueError where they were not taken on the same prompts.
    """
    first = measurements[0]

    def take(n: int) -> Samples:
        taken = [measurement.take(n) for measurement in measurements]
        for samples in taken:
            same_prompts(taken[0], samples)
        values = formula(*(samples.values for samples in taken))
        return replace(taken[0], values=values, weights=None, quantity=quantity, unit=unit, shown=None)

    return Measurement(take, first.prepend_bos, _least_limit(measurements))


def _least_limit(measurements: Sequence[Measurement[Any]]) -> int | None:
    return min((measurement.limit for measurement in measurements if measurement.limit is not None), default=None)


def pooled(measurements: Sequence[Measurement[Samples]], quantity: str, unit: str) -> Measurement[Samples]:
    """Several measurements of the same kind as one sample: every word of a prompt counts by itself, in its prompt's cluster."""

    def take(n: int) -> Samples:
        taken = [measurement.take(n) for measurement in measurements]
        for samples in taken:
            same_prompts(taken[0], samples)
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
    measurements: Sequence[Measurement[Samples]],
    labels: Sequence[str],
    quantity: str,
    unit: str,
    *,
    whole: Measurement[Samples] | None = None,
    presupposes: Measurement[Samples] | None = None,
) -> Measurement[Grid]:
    """Several measurements of the same prompts as the columns of a grid of one row, for numbers that follow from their means.

    whole: where it is given, every column is a share of it (ratio of means). presupposes: what must be above zero for the
    numbers to mean anything, where they are no plain shares of it.
    """

    def take(n: int) -> Grid:
        taken = [measurement.take(n) for measurement in measurements]
        of = whole.take(n) if whole is not None else None
        for samples in [*taken, *([of] if of is not None else [])]:
            same_prompts(taken[0], samples)
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
