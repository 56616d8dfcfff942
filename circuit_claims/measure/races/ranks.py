"""The race for a rank: are these cells among the k highest of a sweep, or the k lowest?

Resampled ranks are no measure of how sure a rank is: every resample adds noise to all cells, so a cell that truly leads a crowd
of equals by a hair is outranked in nearly every one (tests/measure/test_calibration.py: a true "among the top 3" refuted in
most runs). What can be told is of pairs: which cells surely lie above, and which surely do not. From these counts follows which
ranks are excluded (`circuit_claims.measure.races.counts`).
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from circuit_claims.measure import ties
from circuit_claims.measure.races import Expected, counts
from circuit_claims.measure.races.one_sided_tests import ByTemplate
from circuit_claims.measure.samples import Grid, GridStatistic

#: Whatever it is: of a rank that nothing is expected of.
ANY = Expected()


class RankRace:
    """The worst rank among some cells: 1 is the highest mean, or with `lowest` the lowest; cells that tie share the better."""

    def __init__(
        self, shape: tuple[int, int], cells: Sequence[tuple[int, int]], confidence: float, *, lowest: bool = False
    ) -> None:
        """cells: (row, column) each, of a grid of `shape`; confidence: of the interval at each look."""
        self._shape, self._sign = shape, -1 if lowest else 1
        self._places = [row * shape[1] + column for row, column in cells]
        self._tail = (1 - confidence) / 2
        # For each of the cells against every cell, the lowest p-values of all looks, and where it stood at the last one.
        size = len(self._places), shape[0] * shape[1]
        self._against_not_above, self._against_above = np.ones(size), np.ones(size)
        self._above = np.zeros(size, dtype=bool)

    def look(self, taken: Grid | GridStatistic, expected: Expected = ANY) -> tuple[float, float, float]:
        """(observed, low, high): the observed worst rank and its interval."""
        assert isinstance(taken, Grid)
        means = taken.estimate.ravel() * self._sign
        of_template = ByTemplate.of(taken)
        there = {int(cell): place for place, cell in enumerate(of_template.cells)}
        for number, cell in enumerate(self._places):
            if cell in there:
                now = of_template.cells
                self._above[number, now] = means[now] > means[cell] + ties.rounding(means)
                tests = of_template.above(self._sign * of_template.over(there[cell]))
                for lowest, found in zip((self._against_not_above, self._against_above), tests, strict=True):
                    lowest[number, now] = np.minimum(lowest[number, now], found)
        observed = float(1 + self._above.sum(1).max())
        if means.size < 2 or taken.exact:
            return observed, observed, observed
        first = 0 if math.isinf(expected.high) else int(expected.high)  # as many others above are one too many
        low = max(counts.at_least(true, self._tail / len(self._places), first) for true, _ in self._tests())
        high = max(counts.at_most(false, self._tail, first) for _, false in self._tests())
        return observed, float(1 + low), float(1 + high)

    def bearing(self, expected: Expected) -> Bool[np.ndarray, "row column"]:
        """The cells of which it is open whether they lie above one of these, and these, while their rank is open."""
        bearing, most = np.zeros(self._shape[0] * self._shape[1], dtype=bool), int(expected.high) - 1
        for place, (true, false) in zip(self._places, self._tests(), strict=True):
            if counts.at_most(false, self._tail, most + 1) <= most:
                continue
            still = counts.undecided(true, false, most, self._tail / len(self._places), self._tail)
            others = np.delete(np.arange(len(bearing)), place)
            bearing[others[still]] = True
            bearing[place] |= still.any()
        return bearing.reshape(self._shape)

    def _tests(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each of the cells the p-values of all others, against "it is not above" and against "it is above"."""
        return [
            (np.delete(not_above, place), np.delete(above, place))
            for place, not_above, above in zip(self._places, self._against_not_above, self._against_above, strict=True)
        ]
