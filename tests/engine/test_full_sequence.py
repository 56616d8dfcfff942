"""Interventions seen at all positions, against whole passes through the bridge's own hooks, and against `intervene` at END."""

import pytest
import torch

from circuit_claims.engine.decoder.module_decoder import ModuleDecoder
from circuit_claims.engine.decoder.transformer import Transformer
from circuit_claims.engine.edits import Edit
from circuit_claims.engine.hooked.decoder import HookedDecoder
from circuit_claims.engine.paths import Receivers
from circuit_claims.engine.unsupported import Unsupported
from circuit_claims.heads import Head
from tests.conftest import HEADS, LAYERS, WIDTH
from tests.support.other_architectures import cache_of, engine_of, load, save_tiny_decoder
from tests.support.tiny_models import save_tiny_gpt2

SITES = ["q", "k", "v", "pattern", "z", "attn_out", "mlp_out", "resid_pre", "resid_post"]
NAMES = {site: f"attn.hook_{site}" for site in ("q", "k", "v", "pattern", "z")}


MODELS = [("GPT-2", "raw", Transformer), ("GPT-2", "processed", Transformer)] + [
    (name, "raw", kind) for name in ("NeoX", "Llama") for kind in (ModuleDecoder, HookedDecoder)
]


@pytest.fixture(scope="module", params=MODELS, ids=lambda param: f"{param[0]} {param[1]} {param[2].__name__}")
def model(request, tmp_path_factory):
    """(bridge, engine): GPT-2's own, raw and processed; by a model's own modules, and through hooks."""
    (name, mode, kind), folder = request.param, tmp_path_factory.mktemp("full_sequence") / "model"
    if name == "GPT-2":
        save_tiny_gpt2(folder, n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH)
    else:
        save_tiny_decoder(folder, name)
    subject = load(folder, mode)
    return subject.bridge, subject.transformer if kind is Transformer else engine_of(subject, kind)


def name_of(layer: int, site: str) -> str:
    return f"blocks.{layer}.{NAMES.get(site, f'hook_{site}')}"


def logits_with(bridge, tokens, hooks):
    return bridge.run_with_hooks(tokens, fwd_hooks=hooks, prepend_bos=False)


@torch.inference_mode()
@pytest.mark.parametrize("site", SITES)
def test_the_stream_is_that_of_a_whole_pass_with_hooks(model, pair, site):
    bridge, engine = model
    tokens, other = pair
    cache = cache_of(bridge, other)
    base = engine.run(tokens)
    for layer in range(LAYERS):
        value = cache[name_of(layer, site)]
        edit = Edit(layer, site, value.transpose(1, 2) if site == "pattern" else value)
        expected = logits_with(bridge, tokens, [(name_of(layer, site), lambda activation, hook, value=value: value)])
        stream = engine.final_stream(base, [edit])
        assert engine.logits(stream) == pytest.approx(expected, abs=1e-4)
        assert stream[:, -1] == pytest.approx(engine.intervene(base, [[edit]])[0], abs=1e-5)
        assert (stream - base.resid[-1]).abs().max() > 1e-2


@torch.inference_mode()
def test_places_that_are_kept_differ_from_prompt_to_prompt(model, pair):
    bridge, engine = model
    tokens, other = pair
    z = cache_of(bridge, other)["blocks.1.attn.hook_z"]
    keep = torch.rand(*tokens.shape, HEADS, generator=torch.Generator().manual_seed(0)) < 0.5

    def hook(activation, hook):
        return torch.where(keep[..., None], activation, z)

    stream = engine.final_stream(engine.run(tokens), [Edit(1, "z", z, keep=keep)])
    assert engine.logits(stream) == pytest.approx(logits_with(bridge, tokens, [("blocks.1.attn.hook_z", hook)]), abs=1e-4)


@torch.inference_mode()
def test_without_an_edit_the_stream_is_the_runs(model, pair):
    base = model[1].run(pair[0])
    assert (model[1].final_stream(base, []) == base.resid[-1]).all()


@torch.inference_mode()
def test_the_pattern_with_other_keys_is_the_hooked_one(model, pair):
    bridge, engine = model
    tokens, other = pair
    keys = cache_of(bridge, other)["blocks.1.attn.hook_k"]
    base = engine.run(tokens)
    group = engine.n_heads // engine.n_kv_heads
    if group > 1 and isinstance(engine, HookedDecoder):
        with pytest.raises(Unsupported, match="share keys in groups"):
            engine.pattern_with_keys(base, Edit(1, "k", keys[:, :, 0], 0))
        return
    for head in range(HEADS):
        seen = {}

        def put(activation, hook, head=head):
            activation = activation.clone()
            activation[:, :, head // group] = keys[:, :, head // group]
            return activation

        def look(activation, hook, seen=seen):
            seen["pattern"] = activation

        logits_with(bridge, tokens, [("blocks.1.attn.hook_k", put), ("blocks.1.attn.hook_pattern", look)])
        found = engine.pattern_with_keys(base, Edit(1, "k", keys[:, :, head // group], head))
        assert found == pytest.approx(seen["pattern"][:, head], abs=1e-5)
        untouched = engine.attention(1, base.resid[1]).pattern[:, head]
        assert (found - untouched).abs().max() > 1e-3


@torch.inference_mode()
def test_what_receivers_read_is_what_path_patching_sets(model, pair):
    """Pass D with these edits is path patching; a receiver before every sender gets nothing."""
    engine = model[1]
    base, new = engine.run(pair[0]), engine.run(pair[1])
    positions = torch.arange(9).expand(5, 9)
    senders, receivers = [Head(0, 1), Head(1, 2)], Receivers((Head(1, 0), Head(2, 3), Head(0, 0)), "k")
    edits = engine.receiver_inputs(base, new, senders, receivers, positions)
    assert {(edit.layer, edit.head) for edit in edits} == {(1, 0), (2, 3)}
    expected = engine.path_patch(base, new, [senders], receivers, positions)[0]
    assert engine.final_stream(base, edits)[:, -1] == pytest.approx(expected, abs=1e-5)
    assert engine.receiver_inputs(base, new, [Head(2, 0)], receivers, positions) == []
