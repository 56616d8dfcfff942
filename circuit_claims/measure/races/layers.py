"""The race for the earliest layer among the k brightest cells of a sweep."""

import math

import numpy as np
from jaxtyping import Bool, Int

from circuit_claims.measure.races import Expected, counts
from circuit_claims.measure.races.one_sided_tests import ByTemplate
from circuit_claims.measure.samples import Grid, GridStatistic

#: Cells beside the k highest that the others are held against: one of the k may turn out to be none of them.
SPARE = 2
#: Differences of pairs of cells, template by template, that are tested in one go.
AT_ONCE = 100_000


class EarliestLayerRace:
    """The earliest row in which one of the k highest cells lies, from a test of every pair of cells.

    A layer is excluded where every cell up to it has k others surely above it. It is certain where a cell up to it has fewer
    than k others that may be above it.
    """

    def __init__(self, shape: tuple[int, int], k: int, confidence: float) -> None:
        """confidence: of the interval at each look."""
        self._shape, self._k, self._tail = shape, k, (1 - confidence) / 2
        self._cells = shape[0] * shape[1]
        # [one, other]: against "the other is not above the one", and against "it is above".
        self._against_not_above, self._against_above = np.ones((2, self._cells, self._cells))
        np.fill_diagonal(self._against_above, 0.0)  # no cell is above itself
        self._highest: Int[np.ndarray, " cell"] = np.arange(self._cells)

    def look(self, taken: Grid | GridStatistic, expected: Expected) -> tuple[float, float, float]:
        """(observed, low, high) of the layer."""
        assert isinstance(taken, GridStatistic)
        grid, observed = taken.grid, taken.estimate
        self._highest = np.argsort(-grid.estimate.ravel(), kind="stable")
        if grid.exact:
            return observed, observed, observed
        of_template = ByTemplate.of(grid)
        now = of_template.cells
        at_once = max(1, AT_ONCE // max(1, of_template.totals.size))
        for start in range(0, len(now), at_once):
            places = np.arange(start, min(start + at_once, len(now)))
            differences = of_template.over_each(places)
            tests = of_template.above(differences.reshape(len(differences), -1))
            pairs = np.ix_(now[places], now)
            for lowest, found in zip((self._against_not_above, self._against_above), tests, strict=True):
                of_pairs = found.reshape(len(places), -1)
                of_pairs[np.arange(len(places)), places] = 1.0  # a cell is not tested against itself
                lowest[pairs] = np.minimum(lowest[pairs], of_pairs)
        low = self._layers[self._possible].min(initial=self._shape[0] - 1)
        high = self._layers[self._certain].min(initial=self._shape[0] - 1)
        return observed, min(float(low), observed), max(float(high), observed)

    def bearing(self, expected: Expected) -> Bool[np.ndarray, "row column"]:
        """The cells that may be among the k highest where that decides, and those that they are held against."""
        ahead = np.zeros(self._cells, dtype=bool)  # layers in which one of the k highest would decide
        if math.isfinite(expected.low):
            ahead |= self._layers < expected.low
        if math.isfinite(expected.high):
            ahead |= self._layers <= expected.high
        open_ = self._possible & ~self._certain & ahead
        bearing = open_.copy()
        if open_.any():
            bearing[self._highest[: self._k + SPARE]] = True
        for cell in self._highest[: self._k]:
            if open_[cell]:  # to be among them, it needs nearly all others not to be above it
                bearing |= ~counts.surely_false(self._against_above[cell], self._k, self._tail / self._cells)
        return bearing.reshape(self._shape)

    @property
    def _layers(self) -> Int[np.ndarray, " cell"]:
        return np.arange(self._cells) // self._shape[1]

    @property
    def _possible(self) -> Bool[np.ndarray, " cell"]:
        """Which cells are not excluded from the k highest."""
        surely_above = counts.surely_true(self._against_not_above, self._k, self._tail, of=self._cells - 1)
        return surely_above.sum(1) < self._k

    @property
    def _certain(self) -> Bool[np.ndarray, " cell"]:
        """Which are among the k highest for certain; the error rate is shared among all cells, since any of them might be."""
        return (~counts.surely_false(self._against_above, self._k, self._tail / self._cells)).sum(1) < self._k
