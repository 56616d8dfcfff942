"""Numbers read off the grid of a sweep.

Each makes a function from mean grids `[..., layer, column]` to numbers `[...]`; the bootstrap applies it to every resample.
Those with a method `race` are raced (`circuit_claims.measure.races`): all cells on a few prompts, then only the cells that the
verdict still turns on.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from circuit_claims.measure import ties
from circuit_claims.measure.races import Race
from circuit_claims.measure.races.few_cells import FewCellsRace
from circuit_claims.measure.races.layers import EarliestLayerRace
from circuit_claims.measure.races.shares import NearZeroRace
from circuit_claims.prompts.roles import SWEPT_ROLES
from circuit_claims.untested import Untested

Statistic = Callable[[Float[np.ndarray, "*resample layer column"]], Float[np.ndarray, "*resample"]]


@dataclass(frozen=True)
class NearZeroShare:
    """The share of cells whose size is below `threshold`."""

    threshold: float

    def __call__(self, means: Float[np.ndarray, "*resample layer column"]) -> Float[np.ndarray, "*resample"]:
        return (np.abs(means) < self.threshold).mean((-2, -1))

    def race(self, shape: tuple[int, int], confidence: float, seed: int) -> Race:
        """From a test of every cell against the threshold."""
        return NearZeroRace(shape, self.threshold, confidence)


@dataclass(frozen=True)
class EarliestLayerOfTheBrightest:
    """The earliest layer among the k cells with the highest values."""

    k: int

    def __call__(self, means: Float[np.ndarray, "*resample layer column"]) -> Float[np.ndarray, "*resample"]:
        return _layers_of_the_brightest(means, self.k).min(-1)

    def race(self, shape: tuple[int, int], confidence: float, seed: int) -> Race:
        """From a test of every pair of cells."""
        return EarliestLayerRace(shape, self.k, confidence)


@dataclass(frozen=True)
class OfFewCells:
    """A statistic that reads some cells alone: (row, column) each, where None stands for a whole row or column."""

    statistic: Statistic
    reads: Sequence[tuple[int | None, int | None]]

    def __call__(self, means: Float[np.ndarray, "*resample row column"]) -> Float[np.ndarray, "*resample"]:
        return self.statistic(means)

    def race(self, shape: tuple[int, int], confidence: float, seed: int) -> Race:
        """From these cells, with the bootstrap's interval."""
        read = np.zeros(shape, dtype=bool)
        for row, column in self.reads:
            read[slice(None) if row is None else row, slice(None) if column is None else column] = True
        return FewCellsRace(read, confidence, seed)


#: As they read in a claim.
near_zero_share, earliest_layer_of_the_brightest = NearZeroShare, EarliestLayerOfTheBrightest


def cell(layer: int, role: str, roles: Sequence[str] = SWEPT_ROLES) -> Statistic:
    """One cell of a residual sweep; negative layers count from the end. roles: those of the sweep, IOI's unless given."""
    return at_cell(layer, roles.index(role))


def at_cell(row: int, column: int) -> Statistic:
    """One cell of a grid."""
    return OfFewCells(lambda means: means[..., row, column], [(row, column)])


def handover_layer(source: str, target: str, roles: Sequence[str] = SWEPT_ROLES) -> Statistic:
    """The first layer before which the target position restores more than the source; the number of layers where none does."""
    a, b = roles.index(source), roles.index(target)

    def statistic(means: np.ndarray) -> np.ndarray:
        over = means[..., b] > means[..., a] + ties.rounding(means[..., [a, b]].reshape(*means.shape[:-2], -1))
        return np.where(over.any(-1), over.argmax(-1), means.shape[-2])

    return OfFewCells(statistic, [(None, a), (None, b)])


def at_head(head: tuple[int, int]) -> Statistic:
    """One head's cell of a sweep over heads."""
    return at_cell(*head)


def size_at_head(head: tuple[int, int]) -> Statistic:
    """The size of one head's cell, whatever its sign."""
    return OfFewCells(lambda means: np.abs(means[..., head[0], head[1]]), [head])


def highest_besides(cells: Sequence[tuple[int, int]]) -> Statistic:
    """The highest of all cells but these (row, column)."""

    def statistic(means: np.ndarray) -> np.ndarray:
        others = means.copy()
        for row, column in cells:
            others[..., row, column] = -np.inf
        return others.max((-2, -1))

    return statistic


def largest_difference(published: Float[np.ndarray, "row column"]) -> Statistic:
    """The largest difference of any cell, in either direction, from a published grid."""
    return lambda means: np.abs(means - published).max((-2, -1))


def correlation_with(published: Float[np.ndarray, "row column"]) -> Statistic:
    """Pearson's correlation with a published grid, over all cells."""

    def statistic(means: np.ndarray) -> np.ndarray:
        x = means - means.mean((-2, -1), keepdims=True)
        y = published - published.mean()
        return (x * y).sum((-2, -1)) / np.sqrt((x**2).sum((-2, -1)) * (y**2).sum())

    return statistic


def lead_over_the_median(head: tuple[int, int]) -> Statistic:
    """By how much one head's cell exceeds the median cell."""
    return lambda means: means[..., head[0], head[1]] - np.median(means, axis=(-2, -1))


def best_rank(cells: Sequence[tuple[int, int]]) -> Statistic:
    """The best rank among cells (row, column), 1 for the highest of the grid.

    Cells that tie, to within rounding, share the better rank.
    """

    def statistic(means: np.ndarray) -> np.ndarray:
        flat = means.reshape(*means.shape[:-2], -1)
        best = np.max([means[..., row, column] for row, column in cells], axis=0)
        return 1 + ties.above(flat, best[..., None]).sum(-1)

    return statistic


def worst_rank(cells: Sequence[tuple[int, int]]) -> Statistic:
    """The worst rank among cells (row, column), as `best_rank`."""
    ranks = [best_rank([cell]) for cell in cells]
    return lambda means: np.max([rank(means) for rank in ranks], axis=0)


def smallest_lead(cells: Collection[tuple[int, int]], others: Collection[tuple[int, int]]) -> Statistic:
    """By how much the lowest of some cells (row, column) lies above the highest of others."""

    def statistic(means: np.ndarray) -> np.ndarray:
        lowest = np.min([means[..., row, column] for row, column in cells], axis=0)
        return lowest - np.max([means[..., row, column] for row, column in others], axis=0)

    return statistic


def latest_layer_of_the_brightest(k: int) -> Statistic:
    """The latest layer among the k cells with the highest values."""
    return lambda means: _layers_of_the_brightest(means, k).max(-1)


def mean_over_heads(means: Float[np.ndarray, "*resample layer head"]) -> Float[np.ndarray, "*resample"]:
    """The mean over all heads: what an average head does."""
    return means.mean((-2, -1))


def brightest(means: Float[np.ndarray, "*resample layer column"]) -> Float[np.ndarray, "*resample"]:
    """The highest cell."""
    return means.max((-2, -1))


def least_lead(role: str, before: int) -> Statistic:
    """By how much one role restores more than every other, in the layer from 1 up to `before` where that is least.

    Before layer 0 there is nothing to find: the role that was corrupted restores everything there, whatever the weights.

    Raises Untested where no layer is left.
    """
    if before < 2:
        raise Untested(f"the answer is handed over before layer {before}: {role} leads only where it does by construction")
    column = SWEPT_ROLES.index(role)

    def statistic(means: np.ndarray) -> np.ndarray:
        here = means[..., 1:before, :]
        return (here[..., column] - np.delete(here, column, axis=-1).max(-1)).min(-1)

    return statistic


def _layers_of_the_brightest(means: Float[np.ndarray, "*resample layer column"], k: int) -> Int[np.ndarray, "*resample k"]:
    flat = means.reshape(*means.shape[:-2], -1)
    return ties.highest(flat, k) // means.shape[-1]
