"""Numbers read off scores: what they are by hand, their intervals, and what they presuppose."""

import numpy as np
import pytest

from circuit_claims.edges.errors import EdgeError
from circuit_claims.edges.graph import EdgeGraph
from circuit_claims.edges.known import auroc_of
from circuit_claims.edges.measured import auroc_of_scores, correlation_of_scores, share_of_known
from circuit_claims.edges.scores import edge_scores
from circuit_claims.edges.search import top_edges
from circuit_claims.notebook import IOI

N = 12


@pytest.fixture(scope="module")
def ioi(mini):
    return IOI(mini)


@pytest.fixture(scope="module")
def known(ioi) -> np.ndarray:
    """The edges into the last layer's MLP, some of which matter."""
    graph = EdgeGraph.of(ioi.subject.transformer)
    return np.array([str(edge.receiver) in ("MLP3", "logits") for edge in graph])


def test_the_correlation_of_two_methods_is_pearsons_over_edges(ioi):
    found = correlation_of_scores(ioi, "EAP", "exact").take(N)
    expected = np.corrcoef(edge_scores(ioi, "EAP", n=N).mean, edge_scores(ioi, "exact", n=N).mean)[0, 1]
    low, high = found.interval()
    assert found.estimate == pytest.approx(expected, abs=1e-6) and low <= found.estimate <= high
    figure = found.figure(None, None)
    assert figure["kind"] == "scatter" and figure["points"][0]["label"].count(" -> ") == 1
    assert figure["r"] == pytest.approx(expected, abs=1e-6)


def test_known_edges_are_told_from_others_and_counted_among_the_best(ioi, known):
    mean = edge_scores(ioi, "EAP", n=N).mean
    graph = EdgeGraph.of(ioi.subject.transformer)
    auroc, share = auroc_of_scores(ioi, "EAP", known).take(N), share_of_known(ioi, "EAP", known, 100).take(N)
    assert auroc.estimate == pytest.approx(float(auroc_of(np.abs(mean), known)))
    assert share.estimate == pytest.approx((top_edges(graph, mean, 100) & known).sum() / known.sum())
    for found in (auroc, share):
        low, high = found.interval()
        assert low <= found.estimate <= high
        assert found.presupposed, "of a model that does not do the task, nothing holds"


def test_random_scores_know_no_edges_and_have_no_interval_over_prompts(ioi, known):
    found = auroc_of_scores(ioi, "random", known).take(N)
    assert abs(found.estimate - 0.5) < 4 * (1 / (12 * known.sum())) ** 0.5
    assert found.interval() == pytest.approx((found.estimate, found.estimate))


def test_known_edges_must_be_some_of_the_models_own_and_the_best_no_more_than_there_are(ioi, known):
    with pytest.raises(EdgeError, match="all edges or none"):
        auroc_of_scores(ioi, "EAP", ~(known | ~known))
    with pytest.raises(EdgeError, match="edges that were found on a model of this shape"):
        share_of_known(ioi, "EAP", EdgeGraph(2, 2).all_edges(), 5)
    with pytest.raises(EdgeError, match="ask for fewer"):
        share_of_known(ioi, "EAP", known, len(known) + 1)
