"""What a measurement gives: labels, frames, figures and intervals of samples and grids."""

import numpy as np

from circuit_claims.heads import Head
from circuit_claims.measure.samples import Grid


def test_a_grid_of_heads_labels_layers_and_heads():
    grid = Grid.of_heads(np.zeros((4, 2, 3)), "recovery", "share", [0, 1, 0, 1], marks=[Head(1, 2)], exact=True)
    assert (grid.row_labels, grid.column_labels) == (["L0", "L1"], ["H0", "H1", "H2"])
    assert (grid.row_axis, grid.column_axis) == ("layer", "head")
    assert list(grid.marks) == [(1, 2)] and grid.exact and list(grid.clusters) == [0, 1, 0, 1]
    assert list(Grid.of_heads(np.zeros((4, 2, 3)), "recovery", "share").clusters) == [0, 1, 2, 3]


def test_a_grid_of_heads_may_begin_at_a_later_layer():
    grid = Grid.of_heads(np.zeros((1, 2, 3)), "recovery", "share", first_layer=9, marks=[Head(9, 1), Head(10, 0), Head(8, 2)])
    assert grid.row_labels == ["L9", "L10"]
    assert list(grid.marks) == [(0, 1), (1, 0)], "marks are cells; the head of layer 8 has none"
