"""Weights alone: what it hands to `expect`, and that its null distributions are ones."""

import dataclasses

import numpy as np
import pytest
import torch

from circuit_claims.cards.card import CARD_DIR, read_card
from circuit_claims.cards.schema import PublishedTable
from circuit_claims.heads import Edge, FamilyEdge, Head
from circuit_claims.measure.intervals import grid_interval
from circuit_claims.measure.rank_intervals import rank_interval
from circuit_claims.tasks.weights import composition
from circuit_claims.tasks.weights.attention_weights import AttentionWeights
from circuit_claims.tasks.weights.task import DRAWS, Weights
from circuit_claims.untested import Untested
from tests.support.tiny_weights import TWELVE, read, save_attention

FACTS = {"subject": "made up", "weights_sha256": "0" * 64}
MOVERS = [Head(9, 9), Head(10, 0), Head(9, 6)]


@pytest.fixture(scope="module")
def attention(tmp_path_factory) -> AttentionWeights:
    return read(save_attention(tmp_path_factory.mktemp("twelve"), shape=TWELVE))


@pytest.fixture(scope="module")
def weights(attention) -> Weights:
    return Weights(attention, read_card(CARD_DIR / "gpt2-small.toml"), FACTS, seed=0)


def as_table(values: np.ndarray) -> PublishedTable:
    layers, heads = (tuple(map(str, range(n))) for n in values.shape)
    return PublishedTable("made up", layers, heads, tuple(map(tuple, values.tolist())), "score", 0.1, "made up")


def test_the_largest_difference_is_over_all_heads(weights):
    scores = weights.copying_sweep().estimate
    assert grid_interval(weights.copying_difference(as_table(scores)), 0.95, 0) == (0.0, 0.0, 0.0)
    off = scores.copy()
    off[3, 5] += 0.25
    assert grid_interval(weights.copying_difference(as_table(off)), 0.95, 0)[0] == pytest.approx(0.25)


def test_a_table_that_does_not_cover_all_heads_is_untested(weights):
    with pytest.raises(Untested, match="not one number for every head"):
        weights.copying_difference(as_table(np.zeros((12, 11))))


def test_the_published_extremes_are_read_off_the_table(weights):
    table = as_table(np.arange(144.0).reshape(12, 12))
    assert weights.published_extremes(table, 2) == {"highest": [Head(11, 10), Head(11, 11)], "lowest": [Head(0, 0), Head(0, 1)]}


def test_the_best_rank_is_that_of_the_best_of_them(weights):
    scores = weights.copying_sweep().estimate
    observed, low, high = grid_interval(weights.best_copying_rank(MOVERS, "they"), 0.95, 0)
    assert observed == low == high == 1 + (scores > max(scores[head] for head in MOVERS)).sum()


def test_what_is_known_exactly_has_an_interval_of_no_width(weights):
    """Though attention differs from position to position: these are all positions, and not a sample of them."""
    grid = weights.attention_back()
    assert grid.exact and grid.n == TWELVE[3] - 1 and grid.values.std(0).min() > 0
    observed, low, high = rank_interval(grid, MOVERS, 0.95)
    assert observed == low == high
    assert grid.figure()["marks"] and len(grid.figure()["values"]) == 12


def test_the_facts_of_the_weights_go_with_every_measurement(weights):
    edge = Edge.parse("L4H11 into L5H5 by k")
    measured = [
        weights.copying_sweep(),
        weights.best_copying_rank(MOVERS, "they"),
        weights.composition(edge.into, edge.by),
        weights.chance_composition([edge.sender], edge.into, edge.by),
        weights.attention_back(),
        weights.chance_attention_back(edge.sender),
    ]
    assert all(each.facts == FACTS for each in measured)


def test_an_edge_is_read_and_a_wrong_one_refused():
    assert Edge.parse("L4H11 into L5H5 by k") == Edge(Head(4, 11), Head(5, 5), "k")
    for wrong in ("L4H11 into L5H5", "L4H11 into L5H5 by z", "L5H5 into L4H11 by k", "4.11 into 5.5 by k"):
        with pytest.raises(ValueError, match="is no edge"):
            Edge.parse(wrong)


def test_an_edge_into_a_family_is_read_and_a_wrong_one_refused():
    assert FamilyEdge.parse("L8H6 into S-inhibition by q") == FamilyEdge(Head(8, 6), "S-inhibition", "q")
    for wrong in ("L8H6 into L9H9 by q", "L8H6 by q", "L8H6 into name mover"):
        with pytest.raises(ValueError, match="is no edge into a family"):
            FamilyEdge.parse(wrong)


def test_receivers_are_ranked_among_the_heads_of_later_layers(weights):
    sender, receivers = Head(8, 6), [Head(9, 9), Head(10, 0), Head(11, 3)]
    grid = weights.received(sender, "q")
    assert grid.row_labels == ["L9", "L10", "L11"] and (0, 9) in grid.marks
    read = sorted(weights.composition(Head(layer, head), "q").estimate[sender] for layer in (9, 10, 11) for head in range(12))
    worst = min(weights.composition(receiver, "q").estimate[sender] for receiver in receivers)
    observed, _, _ = grid_interval(weights.worst_receiver_rank(sender, receivers, "q", "they"), 0.95, 0)
    assert observed == 36 - np.searchsorted(read, worst - 1e-12)
    with pytest.raises(Untested, match="L8H0 does not come after L8H6"):
        weights.worst_receiver_rank(sender, [Head(8, 0)], "q", "it")


def test_receivers_that_a_sender_is_made_for_are_beyond_chance_and_others_are_not(attention):
    sender, receivers = Head(8, 6), [Head(9, 9), Head(10, 0)]
    written = attention.W_O.clone()
    written[sender] = torch.stack([attention.W_Q[receiver][:, 0] for receiver in receivers])
    planted = Weights(dataclasses.replace(attention, W_O=written), read_card(CARD_DIR / "gpt2-small.toml"), FACTS, seed=0)
    assert planted.chance_receivers(sender, receivers, "q").estimate < 0.05
    assert planted.chance_receivers(sender, [Head(11, 1), Head(9, 2)], "q").estimate > 0.05


def test_a_head_of_the_first_layer_reads_no_head(weights):
    with pytest.raises(Untested, match="in the first layer"):
        weights.composition(Head(0, 3), "k")
    with pytest.raises(Untested, match="comes before"):
        weights.chance_composition([Head(5, 5)], Head(5, 1), "k")


def test_on_random_weights_p_values_are_spread_out(attention, weights):
    """Of heads that have nothing to do with each other, the strongest sender is no stronger than rotations make one."""
    shares = []
    for head in range(12):
        best = np.unravel_index(composition.composition(attention, Head(6, head), "q").argmax(), (6, 12))
        shares.append(weights.chance_composition([Head(*map(int, best))], Head(6, head), "q").estimate)
    assert 0.2 < np.mean(shares) < 0.8 and np.std(shares) > 0.1


def test_a_planted_edge_is_beyond_chance_and_another_is_not(attention):
    edge = Edge(Head(4, 11), Head(5, 5), "k")
    written = attention.W_O.clone()
    written[edge.sender] = attention.W_K[edge.into].mT  # it writes what these keys read
    planted = Weights(dataclasses.replace(attention, W_O=written), read_card(CARD_DIR / "gpt2-small.toml"), FACTS, seed=0)
    assert planted.composition(edge.into, "k").estimate.argmax() == 4 * 12 + 11
    assert planted.chance_composition([edge.sender], edge.into, "k").estimate == 0
    assert planted.chance_composition([Head(0, 0)], edge.into, "k").estimate > 0.5


def test_a_null_distribution_has_one_number_a_draw_and_is_its_seeds(weights):
    first, second = (weights.chance_attention_back(Head(4, 11)) for _ in range(2))
    assert len(first.values) == DRAWS and set(first.values) <= {0.0, 1.0} and not first.exact
    assert (first.values == second.values).all()


def test_what_the_card_does_not_say_can_be_put_to_the_released_weights(attention):
    elsewhere = Weights(attention, read_card(CARD_DIR / "mini.toml"), FACTS, seed=0)
    for ask in (elsewhere.table, elsewhere.value):
        with pytest.raises(Untested, match=r"add .* with its source, or set GPT2_SMALL_DIR to a folder"):
            ask("ov copying score")
