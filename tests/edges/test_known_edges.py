"""Scores against edges that are known: the area under the ROC curve by its definition, and what was found by family."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuit_claims.edges.errors import EdgeError
from circuit_claims.edges.graph import EdgeGraph
from circuit_claims.edges.known import auroc, auroc_of, shares_found
from circuit_claims.edges.scores import EdgeScores

GRAPH = EdgeGraph(2, 2)


@given(st.lists(st.integers(-3, 3), min_size=3, max_size=12), st.data())
def test_the_auroc_is_the_chance_that_a_known_edge_is_above_another(scores, data):
    """The plain twin: all pairs, ties counting half."""
    known = np.array(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    if known.all() or not known.any():
        return
    values = np.array(scores, dtype=float)
    pairs = [(a > b) + (a == b) / 2 for a in values[known] for b in values[~known]]
    assert auroc_of(values, known) == pytest.approx(np.mean(pairs))


def scores_like(known: np.ndarray, noise: float, n: int = 24) -> EdgeScores:
    """Scores of the size 1 where edges are known, of either sign, with noise on each prompt."""
    random = np.random.default_rng(0)
    sign = random.choice([-1.0, 1.0], len(known))
    values = known * sign + noise * random.standard_normal((n, len(known)))
    return EdgeScores(GRAPH, "EAP", values, "logits", [i % 6 for i in range(n)])


def test_scores_that_know_the_edges_have_an_auroc_of_one_and_noise_one_half():
    known = np.random.default_rng(1).random(len(GRAPH)) < 0.3
    sure, noise = auroc(scores_like(known, 0.01), known), auroc(scores_like(known * 0, 1.0), known)
    assert sure.estimate == 1
    low, high = noise.interval()
    assert low < 0.5 < high and low <= noise.estimate <= high
    assert auroc(scores_like(known, 0.01), known, order="value").estimate < 0.95, "edges that hinder have negative scores"


def test_known_edges_must_be_some_of_the_models_own():
    scores = scores_like(GRAPH.no_edges(), 1.0)
    for known in (GRAPH.no_edges(), GRAPH.all_edges()):
        with pytest.raises(EdgeError, match="all edges or none"):
            auroc(scores, known)
    with pytest.raises(EdgeError, match="edges that were found on a model of this shape"):
        auroc(scores, EdgeGraph(3, 2).all_edges())


def test_what_was_found_is_counted_by_family():
    known = GRAPH.mask(["embed -> L0H1.v", "L0H1 -> L1H0.q", "L0H0 -> L1H0.q", "L1H0 -> logits"])
    found = GRAPH.mask(["L0H1 -> L1H0.q", "L1H0 -> logits", "MLP1 -> logits"])
    expected = {"all": (2, 4), "embed -> v": (0, 1), "head -> logits": (1, 1), "head -> q": (1, 2)}
    assert shares_found(GRAPH, found, known) == expected
