"""Sweeps put together, cell by cell, for rules that look at several of them: sums, differences, one beside the other."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from circuit_claims.measure.measurement import Measurement, Wanted
from circuit_claims.measure.samples import Grid


def plus(one: Measurement[Grid], other: Measurement[Grid]) -> Measurement[Grid]:
    """The sum of two sweeps of the same cells over the same prompts, which are shares of the same whole, or of none."""
    return _cell_by_cell(one, other, np.add)


def minus(one: Measurement[Grid], other: Measurement[Grid]) -> Measurement[Grid]:
    """The difference, as for `plus`."""
    return _cell_by_cell(one, other, np.subtract)


def beside(sweeps: Sequence[Measurement[Grid]], at_a_time: int) -> Measurement[Grid]:
    """The columns of several sweeps over the same prompts, one sweep's behind the other's.

    at_a_time: so many prompts of all sweeps are measured before more of any, while their forward passes are at hand.
    """

    def take(n: int) -> Grid:
        for some in [*range(at_a_time, n, at_a_time), n]:
            grids = [sweep.take(some) for sweep in sweeps]
        return replace(grids[0], values=np.concatenate([grid.values for grid in grids], axis=2), column_labels=(), marks=())

    return Measurement(take, sweeps[0].prepend_bos, sweeps[0].limit)


def _cell_by_cell(
    one: Measurement[Grid], other: Measurement[Grid], combine: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Measurement[Grid]:
    def take(n: int, cells: Wanted | None = None) -> Grid:
        first, second = (sweep.take(n) if cells is None else sweep.take(n, cells) for sweep in (one, other))
        return replace(first, values=combine(first.values, second.values))

    return Measurement(take, one.prepend_bos, one.limit, one.whole, one.cells)
