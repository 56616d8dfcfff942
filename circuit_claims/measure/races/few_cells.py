"""The race for a number that is read off a few cells of a sweep: after the first look, only these are measured."""

import numpy as np
from jaxtyping import Bool

from circuit_claims.measure.intervals import grid_interval
from circuit_claims.measure.races import Expected
from circuit_claims.measure.samples import Grid, GridStatistic


class FewCellsRace:
    """A number that is read off some cells of a grid, with its bootstrap interval at every look."""

    def __init__(self, read: Bool[np.ndarray, "row column"], confidence: float, seed: int) -> None:
        """read: the cells that it is read off; confidence: of the interval at each look."""
        self._read, self._confidence, self._seed = read, confidence, seed

    def look(self, taken: Grid | GridStatistic, expected: Expected) -> tuple[float, float, float]:
        """(observed, low, high) of the number."""
        assert isinstance(taken, GridStatistic)
        return grid_interval(taken, self._confidence, self._seed)

    def bearing(self, expected: Expected) -> Bool[np.ndarray, "row column"]:
        """The cells that it is read off."""
        return self._read
