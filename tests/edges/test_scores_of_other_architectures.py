"""Scores where keys are shared, where attention and MLP stand side by side, with rotations and gates: against sets of edges.

The twin is `evaluate`, with one edge left out at a time: what it gives is what noising that edge gives, and the slope of it,
where what stands in for senders is a little away from what they write, is what EAP estimates.
"""

import numpy as np
import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from circuit_claims.edges.attribution import eap, eap_ig_activations, eap_ig_inputs
from circuit_claims.edges.evaluate import evaluate
from circuit_claims.edges.exact import exact_effects
from circuit_claims.edges.graph import EdgeGraph
from circuit_claims.edges.saturation import atp_qk_fix
from circuit_claims.edges.written import Outputs, outputs_of
from circuit_claims.engine.decoder.module_decoder import ModuleDecoder
from circuit_claims.engine.hooked.decoder import HookedDecoder
from circuit_claims.engine.unsupported import Unsupported
from circuit_claims.subjects.subject import Settings, Subject, prepare
from tests.conftest import HEADS, LAYERS
from tests.edges.conftest import Pairs, pairs_of
from tests.support.other_architectures import engine_of, save_tiny_decoder
from tests.support.tiny_models import save_tiny_card

STEP = 1e-6


def in_double(self, x: torch.Tensor) -> torch.Tensor:
    """An RMS norm that stays in double precision, where transformers goes through single: slopes are told from rounding."""
    return self.weight * x * (x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()


@pytest.fixture(scope="module", autouse=True)
def norms_in_double():
    with pytest.MonkeyPatch.context() as patch:
        for norm in (LlamaRMSNorm, Qwen3RMSNorm):
            patch.setattr(norm, "forward", in_double)
        yield


@pytest.fixture(scope="module", params=["NeoX", "Llama", "Qwen3"])
def subject(request, tmp_path_factory) -> Subject:
    folder = save_tiny_decoder(tmp_path_factory.mktemp("other") / "model", request.param)
    card = save_tiny_card(folder.parent / "card.toml", n_layer=LAYERS, n_head=HEADS)
    return Subject(prepare(Settings(name=str(folder), card=str(card), mode="raw", dtype="float64", device="cpu")))


@pytest.fixture(scope="module")
def pairs(subject) -> Pairs:
    return pairs_of(subject)


def one_left_out(pairs: Pairs, stand_in) -> torch.Tensor:
    """The metric of the model without each edge, `[prompt, edge]`."""
    masks = ~np.eye(len(EdgeGraph.of(pairs.model)), dtype=bool)
    return pairs.value(slice(None))(evaluate(pairs.model, pairs.clean, stand_in, masks)).T


@torch.inference_mode()
def test_exact_effects_are_those_of_the_sets_without_one_edge(pairs):
    found = exact_effects(pairs.model, pairs.clean, pairs.corrupted, pairs.value)
    before = pairs.value(slice(None))(pairs.clean.resid[-1][:, -1])
    expected = before[:, None] - one_left_out(pairs, pairs.corrupted)
    assert expected.abs().max() > 0.1
    assert (found - expected).abs().max() < 1e-8


@torch.inference_mode()
def test_eap_is_the_slope_of_the_sets_without_one_edge(pairs):
    clean, corrupted = (outputs_of(pairs.model, run)[0] for run in pairs.runs)

    def towards(share: float) -> Outputs:
        return Outputs(*(torch.lerp(getattr(clean, name), getattr(corrupted, name), share) for name in vars(clean)))

    there, back = (one_left_out(pairs, towards(share)) for share in (STEP, -STEP))
    found = eap(pairs.model, pairs.clean, pairs.corrupted, pairs.value)
    assert found.abs().max() > 0.1
    assert (found - (back - there) / (2 * STEP)).abs().max() < 1e-5


def test_splitting_prompts_and_senders_changes_no_score(pairs):
    for score in (exact_effects, eap, eap_ig_inputs, atp_qk_fix):
        at_once, one_by_one = (
            score(pairs.model, pairs.clean, pairs.corrupted, pairs.value, memory=memory) for memory in (None, 1)
        )
        assert (at_once - one_by_one).abs().max() < 1e-8, score.__name__


@torch.inference_mode()
def test_the_qk_fix_is_eap_into_all_but_queries_and_keys_and_the_slope_of_both_there(pairs):
    """Of a sender whose change is small, the attention anew and its gradient agree."""
    graph = EdgeGraph.of(pairs.model)
    fixed, linear = (score(pairs.model, pairs.clean, pairs.corrupted, pairs.value) for score in (atp_qk_fix, eap))
    saturating = np.array([graph.receivers[r].kind in ("q", "k") for r in graph.receiver_of_edge])
    assert (fixed - linear)[:, ~saturating].abs().max() < 1e-8
    assert (fixed - linear)[:, saturating].abs().max() > 1e-3
    # Corrupted all but as the clean prompts: the embeddings a millionth of the way, and everything that follows from them.
    near = pairs.model.run(pairs.clean.tokens, embedded=torch.lerp(pairs.clean.resid[0], pairs.corrupted.resid[0], STEP))
    fixed, linear = (score(pairs.model, pairs.clean, near, pairs.value) / STEP for score in (atp_qk_fix, eap))
    assert linear.abs().max() > 0.1
    assert (fixed - linear).abs().max() < 1e-3


def test_through_hooks_exact_effects_are_the_same_and_attributions_are_refused(subject, pairs):
    hooked = engine_of(subject, HookedDecoder)
    runs = [hooked.run(run.tokens) for run in pairs.runs]
    few = np.zeros(len(EdgeGraph.of(hooked)), dtype=bool)
    few[::7] = True
    theirs = exact_effects(hooked, runs[0], runs[1], pairs.value, among=few)
    ours = exact_effects(engine_of(subject, ModuleDecoder), pairs.clean, pairs.corrupted, pairs.value, among=few)
    assert (ours - theirs)[:, few].abs().max() < 1e-6
    assert ours[:, ~few].isnan().all() and not ours[:, few].isnan().any()
    for score in (eap, eap_ig_inputs, eap_ig_activations, atp_qk_fix):
        with pytest.raises(Unsupported, match="hooks, which keep no gradients"):
            score(hooked, runs[0], runs[1], pairs.value)


def test_where_the_norm_or_a_projection_is_of_an_unknown_kind_another_backward_pass_gives_the_same(pairs, monkeypatch):
    kind = type(pairs.model)
    expected = [score(pairs.model, pairs.clean, pairs.corrupted, pairs.value) for score in (eap, eap_ig_inputs, atp_qk_fix)]
    for name in ("reading_norm", "head_weights"):
        with monkeypatch.context() as patch:
            patch.setattr(kind, name, lambda *_: None)
            found = [
                score(pairs.model, pairs.clean, pairs.corrupted, pairs.value) for score in (eap, eap_ig_inputs, atp_qk_fix)
            ]
        assert all((one - other).abs().max() < 1e-8 for one, other in zip(found, expected, strict=True)), name
