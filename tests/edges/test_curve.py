"""MIB's measures: the areas by hand, the inequality that both obey, and circuits of the embedded model."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from circuit_claims.edges.curve import SHARES, WHOLE_AREA, EdgeCurve, cmd_of, cpr_of, faithfulness_of, sparsity_of
from circuit_claims.edges.errors import EdgeError
from circuit_claims.edges.graph import EdgeGraph
from circuit_claims.edges.scores import EdgeScores, edge_scores
from circuit_claims.notebook import IOI

CURVES = arrays(float, len(SHARES), elements=st.floats(-5, 5))


@given(CURVES)
def test_the_distance_is_no_less_than_what_the_ratio_falls_short_or_exceeds(faithfulness):
    """The property that 14 of MIB's 21 published pairs break: they cannot be of one family of circuits."""
    assert cmd_of(faithfulness) >= abs(WHOLE_AREA - cpr_of(faithfulness)) - 1e-12


@given(arrays(float, len(SHARES), elements=st.floats(-5, 1)))
def test_where_faithfulness_does_not_cross_one_both_add_up_to_the_whole(faithfulness):
    assert cmd_of(faithfulness) + cpr_of(faithfulness) == pytest.approx(WHOLE_AREA)


@given(CURVES)
def test_the_areas_are_trapezoids_over_the_ten_shares(faithfulness):
    """The plain twin, interval by interval."""
    under = away = 0.0
    for i in range(len(SHARES) - 1):
        width = SHARES[i + 1] - SHARES[i]
        under += width * (faithfulness[i] + faithfulness[i + 1]) / 2
        away += width * (abs(1 - faithfulness[i]) + abs(1 - faithfulness[i + 1])) / 2
    assert cpr_of(faithfulness) == pytest.approx(under)
    assert cmd_of(faithfulness) == pytest.approx(away)


def test_the_whole_model_at_every_size_has_the_area_that_mib_gives_it():
    assert pytest.approx(0.999) == WHOLE_AREA


def test_faithfulness_is_a_share_of_clean_minus_corrupted():
    means = np.array([[[2.0, 5.0, 4.0, 1.0]]])
    assert faithfulness_of(means).tolist() == [[1 / 3, 4 / 3]]


def test_sparsity_is_what_the_smallest_circuit_that_is_faithful_enough_leaves_out():
    faithfulness = np.array([0, 0, 0.1, 0.3, 0.95, 0.5, 0.9, 1, 1, 1])
    assert sparsity_of(faithfulness, 0.9) == pytest.approx(0.98)
    assert sparsity_of(faithfulness, 0.97) == pytest.approx(0.8)
    assert sparsity_of(faithfulness, 2) == 0
    both = np.stack([faithfulness, np.zeros(10)])
    assert sparsity_of(both, 0.9).tolist() == pytest.approx([0.98, 0])


@pytest.fixture(scope="module")
def curve(mini) -> EdgeCurve:
    ioi = IOI(mini)
    return EdgeCurve(ioi, edge_scores(ioi, "EAP-IG inputs", n=12))


def test_the_largest_circuit_is_the_model_and_sizes_grow(curve):
    graph = curve.scores.graph
    assert curve.sizes.tolist() == [int(share * len(graph)) for share in SHARES]
    assert curve.masks[-1].all()
    assert (np.diff(curve.masks.sum(1)) >= 0).all() and (curve.masks.sum(1) <= curve.sizes).all()
    grid = curve.measured(12)
    assert np.allclose(grid.values[:, 0, -3], grid.values[:, 0, -2], atol=1e-4)
    expected = curve.task.logit_difference().take(12).values
    assert np.allclose(grid.values[:, 0, -2], expected, atol=1e-4)
    lost = curve.task.baseline("ABC").take(12).values
    assert np.allclose(grid.values[:, 0, -2] - grid.values[:, 0, -1], lost, atol=1e-4)


def test_circuits_by_scores_are_more_faithful_than_random_ones(curve):
    ioi = curve.task
    random = EdgeCurve(ioi, edge_scores(ioi, "random"))
    found, chance = (one.cmd().take(24).interval() for one in (curve, random))
    assert found[0] < found[1] < chance[0]


def test_the_measures_have_intervals_around_their_estimates(curve):
    for measure in (curve.cpr(), curve.cmd(), curve.faithfulness_at(0.1), curve.sparsity_at(0.8)):
        found = measure.take(24)
        low, high = found.interval()
        assert low <= found.estimate <= high
    with pytest.raises(EdgeError, match="ten shares"):
        curve.faithfulness_at(0.3)


def test_a_model_that_does_not_do_the_task_has_no_curve_and_no_ratio(random_subject):
    ioi = IOI(random_subject)
    curve = EdgeCurve(ioi, edge_scores(ioi, "EAP", n=6))
    with pytest.raises(EdgeError, match=r"no circuit of .* for this task: there is nothing to take a share of"):
        curve.measured(24)
    assert len(curve.cpr().take(12).presupposed) >= 1


def test_scores_of_another_model_are_refused(curve):
    graph = EdgeGraph(2, 2)
    with pytest.raises(EdgeError, match="score the edges of this model"):
        EdgeCurve(curve.task, EdgeScores(graph, "EAP", np.ones((1, len(graph))), "logits", [0]))
