"""Sets of edges against passes by hand, against the clean and the corrupted model, and against patching of nodes."""

import numpy as np
import pytest
import torch

from circuit_claims.edges.edge import Sender
from circuit_claims.edges.errors import EdgeError
from circuit_claims.edges.evaluate import evaluate
from circuit_claims.edges.graph import EdgeGraph
from circuit_claims.edges.written import Outputs, outputs_of
from circuit_claims.engine.decoder.module_decoder import ModuleDecoder
from circuit_claims.engine.edits import Edit
from circuit_claims.engine.hooked.decoder import HookedDecoder
from circuit_claims.engine.unsupported import Unsupported
from tests.edges.plain import PlainModel
from tests.support.other_architectures import engine_of, load, save_tiny_decoder

KINDS = ("NeoX", "sequential NeoX", "Llama", "Qwen3", "Mistral", "Granite")


def random_masks(graph: EdgeGraph, *shares: float) -> np.ndarray:
    random = np.random.default_rng(0)
    return np.stack([random.random(len(graph)) < share for share in shares])


@pytest.fixture(scope="module", params=KINDS)
def other(request, tmp_path_factory):
    """An architecture with a plan of its own, by its modules and through hooks."""
    subject = load(save_tiny_decoder(tmp_path_factory.mktemp("other") / "model", request.param), "raw")
    return [engine_of(subject, kind) for kind in (ModuleDecoder, HookedDecoder)]


def test_a_set_of_edges_is_what_a_pass_by_hand_gives(tiny, pair):
    bridge, model = tiny
    plain, graph = PlainModel(bridge), EdgeGraph.of(model)
    masks = random_masks(graph, 0.9, 0.5, 0.1)
    clean, corrupted = (model.run(tokens) for tokens in pair)
    found = model.logits(evaluate(model, clean, corrupted, masks))
    for row, (tokens, others) in enumerate(zip(*pair, strict=True)):
        instead = plain.run(others)[0]
        for number, mask in enumerate(masks):
            expected = plain.run(tokens, instead, graph.edges(mask))[1]
            assert (found[number, row] - expected).abs().max() < 1e-4
    untouched = model.logits(clean.resid[-1][:, -1])
    assert all((logits - untouched).abs().max() > 0.1 for logits in found), "leaving edges out must change something"


def test_with_all_edges_it_is_the_clean_model_and_with_none_the_corrupted_one(tiny, pair):
    _, model = tiny
    graph, (clean, corrupted) = EdgeGraph.of(model), (model.run(tokens) for tokens in pair)
    found = evaluate(model, clean, corrupted, np.stack([graph.all_edges(), graph.no_edges()]))
    for stream, run in zip(found, (clean, corrupted), strict=True):
        assert (stream - run.resid[-1][:, -1]).abs().max() < 1e-5
    assert (found[0] - found[1]).abs().max() > 0.1


def test_other_architectures_keep_the_clean_and_the_corrupted_model_and_agree_through_hooks(other, pair):
    by_modules, by_hooks = other
    graph = EdgeGraph.of(by_modules)
    masks = np.concatenate([[graph.all_edges(), graph.no_edges()], random_masks(graph, 0.9, 0.5, 0.1)])
    clean, corrupted = (by_modules.run(tokens) for tokens in pair)
    found = evaluate(by_modules, clean, corrupted, masks)
    for stream, run in zip(found, (clean, corrupted), strict=False):
        assert (stream - run.resid[-1][:, -1]).abs().max() < 1e-5 * max(1, float(run.resid[-1].abs().max()))
    theirs = evaluate(by_hooks, by_hooks.run(pair[0]), by_hooks.run(pair[1]), masks)
    assert (found - theirs).abs().max() < 1e-4
    assert (found[2:] - found[0]).abs().amax((1, 2)).min() > 1e-2


def kept_nodes(model, clean, corrupted, nodes: set[Sender]) -> torch.Tensor:
    """The final stream at END where all other heads and MLPs write what they do on the corrupted prompts: node patching."""
    instead, _ = outputs_of(model, corrupted)
    edits = []
    for layer in range(model.n_layers):
        keep = torch.tensor([Sender(layer, head) in nodes for head in range(model.n_heads)])
        edits.append(Edit(layer, "z", instead.z[layer], keep=keep.expand(*clean.tokens.shape, -1)))
        if Sender(layer) not in nodes:
            edits.append(Edit(layer, "mlp_out", instead.mlp[layer]))
    return model.intervene(clean, [edits])[0]


@torch.inference_mode()
def test_a_set_of_nodes_as_edges_is_patching_of_nodes(tiny, pair):
    _, model = tiny
    nodes = {Sender(), Sender(0, 1), Sender(0), Sender(1, 2), Sender(1), Sender(2, 0), Sender(2, 3)}
    clean, corrupted = (model.run(tokens) for tokens in pair)
    graph = EdgeGraph.of(model)
    (found,) = evaluate(model, clean, corrupted, graph.of_nodes(sorted(nodes, key=str))[None])
    assert (found - kept_nodes(model, clean, corrupted, nodes)).abs().max() < 1e-5
    assert (found - clean.resid[-1][:, -1]).abs().max() > 0.1


@torch.inference_mode()
def test_in_other_architectures_too_a_set_of_nodes_is_patching_of_nodes(other, pair):
    model, _ = other
    nodes = {Sender(), Sender(0, 1), Sender(0), Sender(1, 2), Sender(1), Sender(2, 0), Sender(2, 3)}
    clean, corrupted = (model.run(tokens) for tokens in pair)
    (found,) = evaluate(model, clean, corrupted, EdgeGraph.of(model).of_nodes(sorted(nodes, key=str))[None])
    assert (found - kept_nodes(model, clean, corrupted, nodes)).abs().max() < 1e-5


@torch.inference_mode()
def test_means_stand_in_as_a_corrupted_run_would(tiny, pair):
    """Of the mean over one prompt, which is that prompt's own outputs, the two must be the same; of many, by hand."""
    bridge, model = tiny
    graph, (clean, corrupted) = EdgeGraph.of(model), (model.run(tokens) for tokens in pair)
    masks = random_masks(graph, 0.7, 0.2)
    own, _ = outputs_of(model, corrupted)
    assert (evaluate(model, clean, own, masks) - evaluate(model, clean, corrupted, masks)).abs().max() < 1e-5
    mean = Outputs(
        own.embedding.mean(0, keepdim=True).expand_as(own.embedding),
        own.z.mean(1, keepdim=True).expand_as(own.z),
        own.mlp.mean(1, keepdim=True).expand_as(own.mlp),
    )
    found = model.logits(evaluate(model, clean, mean, masks))
    plain = PlainModel(bridge)
    written = [plain.run(tokens)[0] for tokens in pair[1]]
    instead = {sender: torch.stack([one[sender] for one in written]).mean(0) for sender in written[0]}
    for number, mask in enumerate(masks):
        expected = plain.run(pair[0][0], instead, graph.edges(mask))[1]
        assert (found[number, 0] - expected).abs().max() < 1e-4


def test_splitting_sets_and_prompts_changes_nothing(tiny, pair):
    _, model = tiny
    masks = random_masks(EdgeGraph.of(model), 0.9, 0.5, 0.1, 0.02)
    runs = [model.run(tokens) for tokens in pair]
    at_once, one_by_one = (evaluate(model, runs[0], runs[1], masks, memory=memory) for memory in (None, 1))
    assert (at_once - one_by_one).abs().max() < 1e-5


def test_what_is_before_the_first_edge_left_out_is_not_computed_and_nothing_changes(tiny, pair):
    _, model = tiny
    graph = EdgeGraph.of(model)
    late = graph.all_edges()
    late[[graph.index(graph.parse(text)) for text in ("L0H1 -> L2H0.q", "MLP1 -> logits")]] = False
    runs = [model.run(tokens) for tokens in pair]
    (alone,) = evaluate(model, runs[0], runs[1], late[None])
    together = evaluate(model, runs[0], runs[1], np.stack([late, graph.no_edges()]))[0]
    assert (alone - together).abs().max() < 1e-5


def test_where_a_norm_comes_behind_the_heads_there_are_no_edges(tmp_path, pair):
    model = engine_of(load(save_tiny_decoder(tmp_path / "model", "Gemma2"), "raw"), ModuleDecoder)
    runs = [model.run(tokens) for tokens in pair]
    with pytest.raises(Unsupported, match="do not simply add up"):
        evaluate(model, runs[0], runs[1], EdgeGraph.of(model).all_edges()[None])


def test_edges_of_another_models_shape_are_refused(tiny, pair):
    _, model = tiny
    runs = [model.run(tokens) for tokens in pair]
    with pytest.raises(EdgeError, match="edges that were found on a model of this shape"):
        evaluate(model, runs[0], runs[1], EdgeGraph(2, 4).all_edges()[None])
