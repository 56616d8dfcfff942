"""Scores and circuits of tasks: directions, corruptions, metrics, intervals, and what is refused in a sentence."""

import numpy as np
import pytest
import torch

from circuit_claims.edges.circuit import EdgeCircuit, values_of_sets
from circuit_claims.edges.errors import EdgeError
from circuit_claims.edges.graph import EdgeGraph
from circuit_claims.edges.scores import BASELINES, METHODS, WITHOUT_GRADIENTS, edge_scores
from circuit_claims.engine.unsupported import NoGradients, Unsupported
from circuit_claims.notebook import IOI, Contrast, Induction
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.metric import PROBABILITY
from tests.support.other_architectures import load, only_hooks, save_tiny_decoder
from tests.tasks.contrast.capitals import capitals

N = 10


@pytest.fixture(scope="module")
def ioi(mini: Subject):
    return IOI(mini)


@pytest.fixture(scope="module")
def graph(mini: Subject) -> EdgeGraph:
    return EdgeGraph.of(mini.transformer)


def without(graph: EdgeGraph, *edges: str) -> np.ndarray:
    return ~graph.mask(edges)


def test_an_exact_score_is_the_clean_metric_minus_the_one_with_the_edge_noised(ioi, graph):
    scores = edge_scores(ioi, "exact", n=N)
    names = [str(graph[int(i)]) for i in np.argsort(-np.abs(scores.mean))[:6]]
    masks = np.stack([without(graph, name) for name in names])
    expected = ioi.logit_difference().take(N).values[:, None] - values_of_sets(ioi, masks, N)
    for column, name in enumerate(names):
        assert np.allclose(scores.of(name).values, expected[:, column], atol=1e-4)
    assert np.abs(expected.mean(0)).min() > 0.1


@pytest.mark.parametrize("method", [method for method in METHODS if method not in BASELINES])
def test_every_method_of_effects_puts_the_same_edges_first_on_the_embedded_model(ioi, method):
    """A bound of chance, not of what came out: random scores correlate by less than 4 / √edges."""
    exact, found = edge_scores(ioi, "exact", n=N), edge_scores(ioi, method, n=N)
    assert np.corrcoef(exact.mean, found.mean)[0, 1] > 0.3 > 4 / len(exact.graph) ** 0.5
    assert found.values.shape == (N, len(found.graph)) and found.unit == "logits" and found.corruption == "ABC"


def test_baselines_know_no_prompts_and_random_scores_go_by_their_seed(ioi, graph):
    first, again, other = (edge_scores(ioi, "random", seed=seed).mean for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()
    near = edge_scores(ioi, "layer distance").mean
    assert near[graph.index(graph.parse("MLP3 -> logits"))] == near.max() - 1
    assert near[graph.index(graph.parse("embed -> logits"))] == near.min() == 1
    assert near[graph.index(graph.parse("L1H0 -> MLP1"))] == near.max()


def test_scores_are_the_same_in_batches_of_any_size_and_whatever_memory_there_is(ioi):
    for method, n in (("exact", 1), ("EAP-IG inputs", 5)):
        whole = edge_scores(ioi, method, n=n).values  # type: ignore[arg-type]
        split = edge_scores(IOI(ioi.subject), method, n=n, memory=1).values  # type: ignore[arg-type]
        assert np.allclose(whole, split, atol=1e-4)


def test_another_metric_is_scored_in_its_own_unit(ioi, graph):
    probable = ioi.judged_by(PROBABILITY)
    exact, eap = (edge_scores(probable, method, n=4) for method in ("exact", "EAP"))
    assert exact.unit == "probability"
    name = "MLP3 -> logits"
    expected = probable.measured_by(PROBABILITY).take(4).values - values_of_sets(probable, without(graph, name)[None], 4)[:, 0]
    assert np.allclose(exact.of(name).values, expected, atol=1e-5)
    assert np.corrcoef(exact.mean, eap.mean)[0, 1] > 0.3


def test_pairs_in_ones_own_words_have_edges(mini):
    task = Contrast(mini, capitals())
    exact, eap = (edge_scores(task, method, n=6) for method in ("exact", "EAP-IG inputs"))
    assert np.corrcoef(exact.mean, eap.mean)[0, 1] > 0.3
    circuit = EdgeCircuit.of(task, exact.graph.all_edges())
    assert circuit.faithfulness().take(6).estimate == pytest.approx(1, abs=1e-4)


def test_a_frame_lists_the_largest_scores_first(ioi):
    scores = edge_scores(ioi, "EAP", n=N)
    frame = scores.to_frame(5)
    assert list(frame.columns) == ["sender", "receiver", "kind", "score"] and len(frame) == 5
    sender, receiver, _, score = next(iter(frame.itertuples(index=False, name=None)))
    assert abs(score) == pytest.approx(np.abs(scores.mean).max())
    low, high = scores.of(f"{sender} -> {receiver}").mean_interval()
    assert low < score < high


# Circuits


def test_all_edges_are_wholly_faithful_and_none_are_not_at_all(ioi, graph):
    everything, nothing = (EdgeCircuit.of(ioi, mask) for mask in (graph.all_edges(), graph.no_edges()))
    assert everything.faithfulness().take(N).estimate == pytest.approx(1, abs=1e-4)
    assert nothing.faithfulness().take(N).estimate == pytest.approx(0, abs=1e-4)
    assert everything.change().take(N).values == pytest.approx(np.zeros(N), abs=1e-3)


def test_means_in_place_of_edges_are_those_of_knocked_out_nodes(ioi, graph):
    """Where both coincide: heads that are knocked out by their means send nothing else, and the embedding is left alone."""
    from circuit_claims.heads import Head

    gone = [Head(2, 7), Head(3, 4)]
    senders = [sender for sender in graph.senders if (sender.layer, sender.head) not in gone]
    circuit = EdgeCircuit.of(ioi, graph.of_nodes(senders), by="mean")
    expected = ioi.ablate(gone, by="mean").value().take(N).values
    assert np.allclose(circuit.value().take(N).values, expected, atol=1e-3)
    assert np.abs(expected - ioi.logit_difference().take(N).values).max() > 0.1


def test_a_circuit_presupposes_a_model_that_does_the_task(random_subject):
    ioi = IOI(random_subject)
    mask = EdgeGraph.of(random_subject.transformer).all_edges()
    assert EdgeCircuit.of(ioi, mask).value().take(12).presupposed


# What is refused


def test_a_task_without_corrupted_prompts_has_no_edges(mini):
    induction = Induction(mini)
    for method in ("exact", "EAP"):
        with pytest.raises(EdgeError, match=r"Induction has no corrupted prompts, .* give pairs of your own"):
            edge_scores(induction, method)  # type: ignore[arg-type]


def test_an_unknown_corruption_method_or_stand_in_is_refused_with_what_there_is(ioi, graph):
    with pytest.raises(ValueError, match="unknown corruption 'noise': use one of"):
        edge_scores(ioi, "EAP", corruption="noise")
    with pytest.raises(EdgeError, match="unknown method 'ACDC' of scoring edges: use one of exact, EAP"):
        edge_scores(ioi, "ACDC")  # type: ignore[arg-type]
    with pytest.raises(EdgeError, match="at least one step"):
        edge_scores(ioi, "EAP-IG inputs", steps=0)
    with pytest.raises(EdgeError, match="use resample or mean"):
        values_of_sets(ioi, graph.all_edges()[None], 2, by="zero")  # type: ignore[arg-type]


def test_an_engine_without_gradients_says_which_scores_remain(tmp_path, monkeypatch):
    only_hooks(monkeypatch)
    subject = load(save_tiny_decoder(tmp_path / "model", "Llama"), "raw")
    ioi = IOI(subject)
    for method in METHODS:
        if method in WITHOUT_GRADIENTS:
            continue
        with pytest.raises(NoGradients, match="edges are scored without them, by exact, random, layer distance"):
            edge_scores(ioi, method, n=2)
    assert all(np.isfinite(edge_scores(ioi, method, n=1).values).all() for method in BASELINES)


def test_a_metric_without_a_gradient_is_refused_with_what_remains(ioi):
    from dataclasses import replace

    rounded = replace(PROBABILITY, name="rounded probability", of_logits=lambda logits, batch: logits[..., 0].detach().round())
    with pytest.raises(EdgeError, match=r"the rounded probability has no gradient, .* by exact effects"):
        edge_scores(ioi.judged_by(rounded), "EAP", n=2)


def test_heads_behind_a_norm_have_no_edges(tmp_path):
    subject = load(save_tiny_decoder(tmp_path / "model", "Gemma2"), "raw")
    for method in ("exact", "EAP"):
        with pytest.raises(Unsupported, match="do not simply add up"):
            edge_scores(IOI(subject), method, n=2)  # type: ignore[arg-type]


def test_edges_of_another_model_are_refused(ioi):
    other = EdgeGraph(12, 12)
    with pytest.raises(EdgeError, match=r"no edge of a model of 4 layers of 8 heads: its layers are 0 to 3"):
        EdgeCircuit.of(ioi, ["L9H9 -> logits"])
    with pytest.raises(EdgeError, match="32,491 edges"):
        EdgeCircuit.of(ioi, other.all_edges())


@torch.inference_mode()
def test_scores_are_measured_inside_inference_mode_as_claims_do(ioi):
    fresh = IOI(ioi.subject)
    assert np.abs(edge_scores(fresh, "EAP", n=2).values).max() > 0
