"""Sweeps put together, cell by cell, for a rule that looks at two of them."""

from dataclasses import replace

from circuit_claims.measure.measurement import Measurement, Wanted
from circuit_claims.measure.samples import Grid


def minus(one: Measurement[Grid], other: Measurement[Grid]) -> Measurement[Grid]:
    """The difference of two sweeps of the same cells over the same prompts, which are shares of the same whole, or of none."""

    def take(n: int, cells: Wanted | None = None) -> Grid:
        first, second = (sweep.take(n) if cells is None else sweep.take(n, cells) for sweep in (one, other))
        return replace(first, values=first.values - second.values)

    return Measurement(take, one.prepend_bos, one.limit, one.whole, one.cells)
