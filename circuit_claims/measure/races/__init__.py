"""Races: all cells of a sweep on a few prompts, then only those that the verdict still turns on.

A sweep costs as many effects as it has cells, on every prompt. What is expected of it seldom needs them all: "these heads are
among the three highest" is settled for most of the others once they are clearly lower. A race measures every cell at its first
look (`FIRST_LOOK` prompts), and at each further look only the cells whose tests still bear on the verdict; the others stay with
the prompts that they have.

What is said is said by exact effects, and its error rate is that of all looks together: a cell is left out by a test at the
level that the final interval uses, and each look has its share of the error rate (Bonferroni over the looks, which are fixed
beforehand), so that no look, whenever the race stops, makes the chance of a wrong verdict larger than stated. Within a look,
tests share the error rate among the cells as the interval of a rank does (`circuit_claims.measure.races.counts`). The
templates are the unit, as for every interval. `tests/measure/test_races.py` simulates error rates, under heavy tails and ties
too.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool

from circuit_claims.measure.samples import Grid, GridStatistic


@dataclass(frozen=True)
class Expected:
    """The range that a number read off the sweep is expected in, ends included; an end is infinite where there is none."""

    low: float = -np.inf
    high: float = np.inf


class Race(Protocol):
    """One number read off a sweep, look by look."""

    def look(self, taken: Grid | GridStatistic, expected: Expected) -> tuple[float, float, float]:
        """(observed, low, high) after this look, which has as many prompts as `taken`; each look is given once, in order.

        expected: fixed beforehand; the interval lies on one side of an end of it wherever a test of that end says so.
        """
        ...

    def bearing(self, expected: Expected) -> Bool[np.ndarray, "row column"]:
        """The cells on which it still turns whether the number is in the expected range."""
        ...


@runtime_checkable
class Raced(Protocol):
    """A statistic of a sweep that can be raced (see `circuit_claims.measure.grid_statistics`)."""

    def race(self, shape: tuple[int, int], confidence: float, seed: int) -> Race:
        """The race for it on a grid of `shape` (rows, columns); confidence: of each look by itself."""
        ...
