"""Circuits from scores: which edges are taken, in which order, and what is not connected."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuit_claims.edges.edge import Sender
from circuit_claims.edges.errors import EdgeError
from circuit_claims.edges.graph import EdgeGraph
from circuit_claims.edges.search import Order, found_edges, greedy_edges, pruned, top_edges

GRAPH = EdgeGraph(3, 3)
SEEDS = st.integers(0, 10**6)


def scores_of(seed: int, graph: EdgeGraph = GRAPH) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(len(graph))


@given(SEEDS, st.integers(0, len(GRAPH)))
def test_the_top_edges_are_those_of_the_highest_scores(seed, n):
    scores = scores_of(seed)
    by_order: dict[Order, np.ndarray] = {"size": np.abs(scores), "value": scores}
    for order, ranked in by_order.items():
        mask = top_edges(GRAPH, scores, n, order=order)
        assert mask.sum() == n
        assert not mask.any() or mask.all() or ranked[mask].min() >= ranked[~mask].max()


def test_of_equal_scores_the_first_edge_is_taken():
    assert np.flatnonzero(top_edges(GRAPH, np.ones(len(GRAPH)), 5)).tolist() == [0, 1, 2, 3, 4]


@given(SEEDS, st.integers(0, len(GRAPH)), st.sampled_from(["size", "value"]))
def test_the_greedy_search_takes_the_best_edge_into_what_is_there(seed, n, order):
    """The plain twin: all edges are looked at in every step."""
    scores = scores_of(seed)
    ranked = np.abs(scores) if order == "size" else scores
    taken: set[int] = set()
    there: set[Sender | None] = {None}
    for _ in range(n):
        open_to = [i for i, edge in enumerate(GRAPH) if i not in taken and edge.receiver.node in there]
        best = max(open_to, key=lambda i: (ranked[i], -i))
        taken.add(best)
        there.add(GRAPH[best].sender)
    assert set(np.flatnonzero(greedy_edges(GRAPH, scores, n, order=order, prune=False)).tolist()) == taken


@given(SEEDS, st.floats(0.02, 0.5))
def test_what_is_left_after_pruning_lies_on_paths_from_the_embedding_to_the_logits(seed, share):
    """The plain twin: a walk from each end."""
    mask = np.random.default_rng(seed).random(len(GRAPH)) < share
    edges = GRAPH.edges(mask)
    fed, heard = {Sender()}, {None}
    for _ in range(GRAPH.n_senders):
        fed |= {edge.receiver.node for edge in edges if edge.sender in fed}
        heard |= {edge.sender for edge in edges if edge.receiver.node in heard}
    on_paths = {edge for edge in edges if edge.sender in fed and edge.receiver.node in heard}
    assert set(GRAPH.edges(pruned(GRAPH, mask))) == on_paths


def test_a_circuit_without_a_path_is_pruned_to_nothing():
    lonely = GRAPH.mask(["L0H1 -> L1H0.q", "L1H0 -> MLP2", "L0H0 -> logits"])
    assert not pruned(GRAPH, lonely).any()
    whole = GRAPH.mask(["embed -> L0H1.v", "L0H1 -> L1H0.q", "L1H0 -> logits"])
    assert pruned(GRAPH, whole | lonely).sum() == 3


def test_more_edges_than_there_are_cannot_be_asked_for():
    for search in ("top", "greedy"):
        assert found_edges(GRAPH, scores_of(0), len(GRAPH), search=search).all()
        with pytest.raises(EdgeError, match=rf"a circuit of {len(GRAPH) + 1} edges is asked for, and .* has {len(GRAPH)}"):
            found_edges(GRAPH, scores_of(0), len(GRAPH) + 1, search=search)


def test_scores_of_another_model_are_refused():
    with pytest.raises(EdgeError, match="take the scores of this very model"):
        top_edges(GRAPH, scores_of(0, EdgeGraph(2, 2)), 3)


@pytest.mark.parametrize("wrong", [{"search": "best"}, {"order": "high"}])
def test_an_unknown_search_or_order_is_refused(wrong):
    with pytest.raises(EdgeError, match="unknown"):
        found_edges(GRAPH, scores_of(0), 3, **wrong)
