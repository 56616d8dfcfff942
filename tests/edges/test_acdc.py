"""ACDC: trying several edges in one batch is trying them one by one, and what is lost is under the threshold."""

import numpy as np
import pytest
import torch

from circuit_claims.edges.acdc import acdc, prune_edges
from circuit_claims.edges.errors import EdgeError
from circuit_claims.edges.evaluate import evaluate
from circuit_claims.edges.graph import EdgeGraph
from circuit_claims.notebook import IOI
from tests.edges.conftest import Pairs
from tests.edges.plain import PlainModel


def one_by_one(graph: EdgeGraph, loss, threshold: float) -> tuple[np.ndarray, float]:
    """Conmy et al. 2023, algorithm 1, word by word."""
    mask, last = graph.all_edges(), loss(graph.all_edges())
    for receiver in reversed(graph.receivers):
        senders = [edge.sender for edge in graph if edge.receiver == receiver]
        for sender in reversed(senders):
            without = mask.copy()
            without[graph.index(edge := next(e for e in graph if e == (sender, receiver)))] = False
            assert edge.receiver == receiver
            now = loss(without)
            if now - last < threshold:
                mask, last = without, now
    return mask, last


def losses_of(pairs: Pairs):
    """Minus the mean of the metric."""

    def losses(masks: np.ndarray) -> np.ndarray:
        ends = evaluate(pairs.model, pairs.clean, pairs.corrupted, masks)
        return -pairs.value(slice(None))(ends).mean(-1).numpy()

    return losses


@pytest.mark.parametrize("threshold", [0.001, 0.03, 0.2])
@torch.inference_mode()
def test_it_is_the_published_algorithm_edge_by_edge(two_layers, threshold):
    graph, losses = EdgeGraph.of(two_layers.model), losses_of(two_layers)
    plain: PlainModel = two_layers.plain
    tables = [[plain.run(run.tokens[row])[0] for row in range(2)] for run in (two_layers.clean, two_layers.corrupted)]

    def by_hand(mask: np.ndarray) -> float:
        kept, values = graph.edges(mask), []
        for row in range(2):
            logits = plain.run(two_layers.clean.tokens[row], tables[1][row], kept)[1]
            values.append(float(two_layers.plain_value(row, logits)))
        return -float(np.mean(values))

    expected, last = one_by_one(graph, by_hand, threshold)
    found = prune_edges(graph, losses, threshold)
    assert (found.mask == expected).all()
    assert found.loss == pytest.approx(last) and found.loss_before == pytest.approx(by_hand(graph.all_edges()))
    assert 0 < found.mask.sum() < len(graph)


@torch.inference_mode()
def test_how_many_are_tried_at_once_changes_nothing(two_layers):
    graph, losses = EdgeGraph.of(two_layers.model), losses_of(two_layers)
    masks = [prune_edges(graph, losses, 0.03, at_once=width).mask for width in (1, 3, 32)]
    assert (masks[0] == masks[1]).all() and (masks[0] == masks[2]).all()


def test_a_higher_threshold_leaves_fewer_edges_of_the_embedded_model(mini):
    ioi = IOI(mini)
    few, many = (acdc(ioi, threshold, n=4, loss="KL") for threshold in (0.3, 0.02))
    assert 0 < few.mask.sum() < many.mask.sum() < len(EdgeGraph.of(mini.transformer))
    assert few.loss_before == pytest.approx(0, abs=1e-4)
    assert 0 < many.loss < few.loss


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan")])
def test_a_threshold_that_lets_rounding_decide_is_refused(two_layers, threshold):
    with pytest.raises(EdgeError, match="give one above 0"):
        prune_edges(EdgeGraph.of(two_layers.model), losses_of(two_layers), threshold)


def test_an_unknown_loss_is_refused(mini):
    with pytest.raises(EdgeError, match="use KL or metric"):
        acdc(IOI(mini), 0.1, loss="accuracy")  # type: ignore[arg-type]


def test_of_a_model_that_does_not_do_the_task_there_is_no_circuit(random_subject):
    with pytest.raises(EdgeError, match=r"no circuit of .* for this task"):
        acdc(IOI(random_subject), 0.1, n=12)
