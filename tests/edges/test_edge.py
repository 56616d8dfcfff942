"""Edges as texts and as numbers: what a model of some shape has, and what it has not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuit_claims.edges.edge import Edge, Receiver, Sender
from circuit_claims.edges.errors import EdgeError
from circuit_claims.edges.graph import EdgeGraph

SHAPES = st.builds(EdgeGraph, st.integers(1, 4), st.integers(1, 4), st.booleans())


def test_gpt2_small_has_32491_edges():
    """Conmy et al. 2023, table of edges; so do Hanna et al. 2024 and MIB count them."""
    assert len(EdgeGraph(12, 12)) == 32_491


def test_side_by_side_a_layer_has_no_edges_from_its_heads_into_its_mlp():
    beside, after = EdgeGraph(12, 12, parallel=True), EdgeGraph(12, 12)
    gone = set(after) - set(beside)
    assert set(beside) < set(after)
    assert gone == {Edge(Sender(layer, head), Receiver(layer)) for layer in range(12) for head in range(12)}


@given(SHAPES)
def test_edges_are_all_pairs_in_which_the_sender_comes_first(graph):
    """The plain twin: every pair, with the time at which each end has its turn in the forward pass."""

    def written(sender: Sender) -> float:
        layer = -1 if sender.layer is None else sender.layer
        return layer + (0.9 if sender.head is None and (layer >= 0) else 0.5)

    def read(receiver: Receiver) -> float:
        if receiver.layer is None:
            return graph.n_layers
        return receiver.layer + (0.6 if receiver.kind == "MLP" and not graph.parallel else 0.1)

    pairs = {(s, r) for s in graph.senders for r in graph.receivers if written(s) < read(r)}
    found = list(graph)
    assert set(found) == pairs
    assert len(found) == len(pairs) == len(graph)


@given(SHAPES)
def test_every_edge_is_read_as_it_is_printed(graph):
    for number, edge in enumerate(graph):
        assert graph.index(edge) == number
        assert graph.parse(str(edge)) == edge
        assert graph.senders[graph.sender_of_edge[number]] == edge.sender
        assert graph.receivers[graph.receiver_of_edge[number]] == edge.receiver


@pytest.mark.parametrize("text", ["L0H1 -> L2H3.q", "embed -> MLP2", "MLP3 -> logits", "L1H0 -> MLP1", "embed -> L0H0.k"])
def test_an_edge_prints_as_it_is_written(text):
    assert str(Edge.parse(text)) == text


@pytest.mark.parametrize("text", ["L0H1", "L0H1 -> L2H3", "logits -> MLP1", "L0H1 to MLP1", "L0H1.q -> MLP1", "", 3])
def test_what_is_no_edge_is_refused_with_what_to_write(text):
    with pytest.raises(EdgeError, match=r"write it as|name "):
        Edge.parse(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("L1H0 -> L1H1.q", "does not come before"),
        ("MLP2 -> L2H0.v", "does not come before"),
        ("L0H4 -> logits", "heads are 0 to 3"),
        ("L3H0 -> logits", "layers are 0 to 2"),
    ],
)
def test_an_edge_that_the_model_lacks_is_refused_with_the_reason(text, reason):
    with pytest.raises(EdgeError, match=reason):
        EdgeGraph(3, 4).parse(text)


def test_a_head_into_the_mlp_beside_it_is_refused_with_the_reason():
    assert EdgeGraph(3, 4).parse("L1H2 -> MLP1")
    with pytest.raises(EdgeError, match="side by side"):
        EdgeGraph(3, 4, parallel=True).parse("L1H2 -> MLP1")


def test_a_list_of_another_models_edges_is_refused():
    small, large = EdgeGraph(2, 2), EdgeGraph(3, 4)
    with pytest.raises(EdgeError, match=rf"{len(large):,} edges, and a model of 2 layers of 2 heads has {len(small):,}"):
        small.edges(large.all_edges())
    with pytest.raises(EdgeError, match="no edge of a model of 2 layers of 2 heads"):
        small.mask(["L2H3 -> logits"])


def test_masks_and_lists_are_the_same_sets():
    graph = EdgeGraph(3, 4)
    mask = np.random.default_rng(0).random(len(graph)) < 0.3
    assert (graph.mask(graph.edges(mask)) == mask).all()
    matrices = graph.matrices(np.stack([mask, graph.all_edges(), graph.no_edges()]))
    assert matrices.sum((1, 2)).tolist() == [mask.sum(), len(graph), 0]
    for edge in graph.edges(mask):
        assert matrices[0, graph.receiver_index(edge.receiver), graph.sender_index(edge.sender)]


def test_the_edges_of_a_set_of_nodes_are_those_that_they_send():
    graph = EdgeGraph(2, 2)
    nodes = [Sender(), Sender(0, 1), Sender(1)]
    assert {edge.sender for edge in graph.edges(graph.of_nodes(nodes))} == set(nodes)
    assert graph.of_nodes(graph.senders).all()
