"""On how many prompts something is measured: as few as show what all of the prompts would.

A search has N prompts at most. What n of them show is off from what all N would by sampling alone, and less so the nearer n is
to N: for a mean, by sd · √(1/n − 1/N). Prompts are added, twice as many at a time, until that is small beside what is asked:
beside a tolerance, or beside the distance of a cell to a threshold. Intervals, which say how far any other sample may be off,
are another matter: they are those of the prompts that were measured.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Grid, Samples

#: Standard deviations within which a value has to stay: one in twenty would be further off than the tolerance.
OF_VALUES = 2.0
#: Standard deviations that keep a cell from a threshold: of a thousand cells, one in three searches has one on the other side.
OF_CELLS = 3.5


def looks(first: int, most: int) -> list[int]:
    """Numbers of prompts, each twice the one before, and `most` at last."""
    sizes = [min(first, most)]
    while sizes[-1] < most:
        sizes.append(min(2 * sizes[-1], most))
    return sizes


def off_by(samples: Samples, most: int) -> float:
    """By how much the mean, or ratio of means, of all `most` prompts may be off from that of these."""
    if samples.n < 2:
        return np.inf
    return OF_VALUES * float(_deviation(samples.values, samples.weights)) * _share_left(samples.n, most)


def cells_told(
    sweep: Measurement[Grid], sizes: Sequence[int], thresholds: Sequence[float], among: Bool[np.ndarray, "row column"]
) -> Grid:
    """A sweep with each cell on as many prompts as tell on which side of every threshold it lies.

    sizes: the numbers of prompts to look at. among: the cells of which that is asked; the others are measured at the first
    look alone. Of a sweep whose cells are not measured one by one, all are measured on as many as the last needs.
    """
    counts: np.ndarray | None = None
    for n in sizes:
        grid = sweep.take(n) if counts is None or sweep.cells is None else sweep.take(n, counts)
        open_ = among & undecided(grid, sizes[-1], thresholds)
        if n == sizes[-1] or not open_.any():
            return grid
        following = sizes[list(sizes).index(n) + 1]
        counts = np.where(open_, following, n if counts is None else counts)
    raise ValueError("a sweep is looked at once at least: give a number of prompts")


def undecided(grid: Grid, most: int, thresholds: Sequence[float]) -> Bool[np.ndarray, "row column"]:
    """The cells of which all `most` prompts might say otherwise than these, as to one of the thresholds."""
    estimate, open_ = grid.estimate, np.zeros(grid.values.shape[1:], dtype=bool)
    counts = np.full(open_.shape, grid.n) if grid.counts is None else grid.counts
    for n in np.unique(counts):
        weights = None if grid.weights is None else grid.weights[:n]
        reach = OF_CELLS * _deviation(grid.values[:n], weights) * _share_left(int(n), most)
        near = np.min([np.abs(estimate - threshold) for threshold in thresholds], axis=0, initial=np.inf) <= reach
        open_ |= near & (counts == n) & (n == grid.n)  # what was left out before was decided then
    return open_


def _deviation(values: Float[np.ndarray, "prompt ..."], weights: Float[np.ndarray, " prompt"] | None) -> np.ndarray:
    """The standard deviation of the prompts: of a ratio of means, of what each adds to it, in first order."""
    if weights is None:
        return values.std(0, ddof=1)
    of_prompts = weights.reshape(-1, *[1] * (values.ndim - 1))
    parts = (values - values.mean(0) / weights.mean() * of_prompts) / abs(weights.mean())
    return parts.std(0, ddof=1)


def _share_left(n: int, most: int) -> float:
    return float(np.sqrt(max(0.0, 1 / n - 1 / most)))
