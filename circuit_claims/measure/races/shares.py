"""The race for a share of cells: how many of a sweep's cells are near zero?"""

import math

import numpy as np
from jaxtyping import Bool

from circuit_claims.measure.races import Expected, counts
from circuit_claims.measure.races.one_sided_tests import ByTemplate
from circuit_claims.measure.samples import Grid, GridStatistic


class NearZeroRace:
    """The share of cells whose size is below a threshold, from a test of every cell against it."""

    def __init__(self, shape: tuple[int, int], threshold: float, confidence: float) -> None:
        """threshold: in the unit of the cells; confidence: of the interval at each look."""
        self._shape, self._threshold, self._tail = shape, threshold, (1 - confidence) / 2
        cells = shape[0] * shape[1]
        self._against_small, self._against_large = np.ones(cells), np.ones(cells)

    def look(self, taken: Grid | GridStatistic, expected: Expected) -> tuple[float, float, float]:
        """(observed, low, high) of the share that is near zero."""
        grid = taken.grid if isinstance(taken, GridStatistic) else taken
        observed = float((np.abs(grid.estimate) < self._threshold).mean())
        if grid.exact:
            return observed, observed, observed
        against_large, against_small = beyond(grid, self._threshold)
        now = ByTemplate.of(grid).cells
        self._against_small[now] = np.minimum(self._against_small[now], against_small)
        self._against_large[now] = np.minimum(self._against_large[now], against_large)
        cells, (too_many, enough) = len(self._against_small), self._ends(expected)
        low = 1 - counts.at_most(self._against_large, self._tail, too_many or enough) / cells
        high = 1 - counts.at_least(self._against_small, self._tail, enough or too_many) / cells
        return observed, min(low, observed), max(high, observed)

    def bearing(self, expected: Expected) -> Bool[np.ndarray, "row column"]:
        """The cells of which it is open whether they are near zero, where their number decides."""
        bearing = np.zeros(len(self._against_small), dtype=bool)
        for count in self._ends(expected):
            if count > 0:
                bearing |= counts.undecided(self._against_small, self._against_large, count - 1, self._tail, self._tail)
        return bearing.reshape(self._shape)

    def _ends(self, expected: Expected) -> tuple[int, int]:
        """How many large cells are too many, and how many are enough; 0 where nothing is said, or any number would do.

        "A share of at least 0.5 is near zero" is "at most half of the cells are large".
        """
        cells = len(self._against_small)
        too_many = math.floor((1 - expected.low) * cells + 1e-9) + 1 if math.isfinite(expected.low) else 0
        enough = math.ceil((1 - expected.high) * cells - 1e-9) if math.isfinite(expected.high) else 0
        return too_many if too_many <= cells else 0, max(enough, 0)


def beyond(grid: Grid, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """p-values against "its size is at least the threshold", and against "it is less", of each cell measured on all prompts.

    A share is beyond where its numerator is beyond as much of the denominator: no ratio is taken of a few prompts.
    """
    of_template = ByTemplate.of(grid)
    reach = threshold * of_template.whole[:, None]
    against_below_high, against_above_high = of_template.above(of_template.totals - reach)
    against_below_low, against_above_low = of_template.above(of_template.totals + reach)
    inside = np.maximum(against_above_high, against_below_low)
    outside = np.minimum(1.0, 2 * np.minimum(against_below_high, against_above_low))
    return inside, outside
