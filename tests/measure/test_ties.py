"""Numbers that differ by rounding alone are put in order by their place, so that no choice depends on the processor."""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from circuit_claims.heads import Head
from circuit_claims.measure import ties
from circuit_claims.measure.grid_statistics import (
    best_rank,
    earliest_layer_of_the_brightest,
    handover_layer,
    latest_layer_of_the_brightest,
)
from circuit_claims.measure.rank_intervals import rank_interval
from circuit_claims.measure.samples import Grid
from circuit_claims.measure.store import SessionStore
from circuit_claims.prompts.roles import LAST, SUBJECT, SWEPT_ROLES
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.operations import circuits
from circuit_claims.tasks.operations.direct_statistics import highest_layer, largest_layer, lowest_layer
from circuit_claims.tasks.operations.tracing_statistics import handover
from tests.support import plain_twins

#: What another processor may add to a number: float32's last bits, in either direction.
NOISES = [np.random.default_rng(seed).uniform(-1, 1, (6, 4)) * 3e-7 for seed in range(20)]


@pytest.mark.parametrize("noise", NOISES, ids=range(len(NOISES)))
class TestWhateverTheLastBits:
    def test_the_first_of_the_highest_is_the_same(self, noise):
        values = np.array([0.0, 1.0, 0.5, 1.0])
        assert ties.first_highest(values + noise).tolist() == [1] * 6
        assert ties.first_lowest(-values + noise).tolist() == [1] * 6

    def test_the_highest_are_the_same(self, noise):
        grid = np.array([[0.0, 0.7, 0.0, 0.0], [0.7, 0.7, 0.9, 0.0]])
        found = ties.highest((grid + noise[:2]).ravel(), 3)
        assert set(found.tolist()) == {6, 1, 4}, "the highest, and the first two of the three that tie"

    def test_layers_of_the_highest_cells_are_the_same(self, noise):
        """One cell does something; which of the others come second and third is the order's to say."""
        grid = np.zeros((6, 4))
        grid[4, 1] = 0.8
        assert earliest_layer_of_the_brightest(3)(grid + noise) == 0
        assert latest_layer_of_the_brightest(3)(grid + noise) == 4

    def test_a_handover_needs_more_than_rounding(self, noise):
        grid = np.zeros((6, len(SWEPT_ROLES)))
        grid[:, : noise.shape[1]] += noise
        grid[4:, SWEPT_ROLES.index("END")] = 0.5
        assert handover_layer("S2", "END")(grid) == 4
        traced = np.zeros((6, 8)) + np.tile(noise, 2)
        traced[3:, LAST] = 0.5
        traced[:2, SUBJECT] = 0.5
        assert handover(traced) == 3

    def test_the_layer_that_counts_most_is_the_same(self, noise):
        grid = np.zeros((6, 2))
        grid[[2, 5], 0] = -0.5, 0.5
        grid[[3, 4], 1] = 0.25
        grid += noise[:, :2]
        assert (largest_layer(0)(grid), lowest_layer(0)(grid), highest_layer(0)(grid)) == (2, 2, 5)
        assert highest_layer(1)(grid) == 3

    def test_ranks_are_the_same(self, noise):
        """Three cells of one value share the better rank, and no interval says that one of them lies above another."""
        cells = np.zeros((6, 4))
        cells[0, 0], cells[1, :3] = 0.9, 0.4
        assert best_rank([(1, 2)])(cells + noise) == 2
        # The same last bits on every prompt: a difference that is the machine's looks certain.
        grid = Grid(np.stack([cells + noise] * 40), "effect", "share", clusters=[i % 10 for i in range(40)])
        observed, low, high = rank_interval(grid, [(1, 2)], 0.95)
        assert (observed, low) == (2, 2) and high <= 4

    def test_a_greedy_search_takes_the_same_set(self, noise, mini: Subject, monkeypatch):
        """All sets that hold the one node that matters are equally bad: the smallest of them is kept."""
        nodes = frozenset((Head(layer, 0), "END") for layer in range(4))
        last = iter(np.tile(noise.ravel(), 10))

        def made_up(task, batch, settings):
            gaps = [2.0 if (Head(2, 0), "END") in s.removed and s.kept is not None else 0.0 for s in settings]
            return np.array([[7.0 - gap + next(last)] * len(batch.prompts) for gap in gaps])

        monkeypatch.setattr(circuits, "knocked_out_values", made_up)
        ioi = replace(plain_twins.task(mini, bos=False), store=SessionStore())
        assert ioi.circuit(nodes).greedy_subset(steps=3, candidates=4, prompts=2) == {(Head(2, 0), "END")}


def test_what_is_not_rounding_is_told_apart():
    values = np.array([1.0, 1.001, 0.999])
    assert ties.first_highest(values) == 1 and ties.first_lowest(values) == 2
    assert set(ties.highest(values, 2).tolist()) == {0, 1}
    assert ties.above(values, np.array([1.0])).tolist() == [False, True, False]
    assert best_rank([(0, 0)])(values[None]) == 2


def test_equal_numbers_of_a_published_table_keep_their_order():
    """A plain argsort settles ties as the processor's vector instructions do."""
    from circuit_claims.cards.schema import PublishedTable
    from circuit_claims.tasks.weights.task import Weights

    numbers = tuple(tuple(0.25 for _ in range(12)) for _ in range(12))
    table = PublishedTable(
        "copying", tuple(f"L{i}" for i in range(12)), tuple(f"H{i}" for i in range(12)), numbers, "", None, ""
    )
    extremes = Weights.published_extremes(cast(Any, None), table, 2)  # of the table alone
    assert extremes == {"highest": [Head(11, 10), Head(11, 11)], "lowest": [Head(0, 0), Head(0, 1)]}
