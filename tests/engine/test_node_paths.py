"""Path patching at END among heads and MLPs: against plain passes with hooks, and identities that hold on any weights."""

import pytest
import torch

from circuit_claims.engine.decoder.module_decoder import ModuleDecoder
from circuit_claims.engine.hooked.decoder import HookedDecoder
from circuit_claims.engine.paths import Part
from circuit_claims.engine.unsupported import Unsupported
from tests.conftest import HEADS, LAYERS
from tests.support.other_architectures import engine_of, load, save_tiny_decoder

END = 8
HEAD_PARTS = [Part(layer, head) for layer in range(LAYERS) for head in range(HEADS)]
MLP_PARTS = [Part(layer) for layer in range(LAYERS)]
#: A head, an MLP, heads of several layers, heads and MLPs of one layer and of several.
SETS = [
    [Part(0, 1)],
    [Part(1)],
    [Part(0, 3), Part(1, 2), Part(2, 0)],
    [Part(1, 0), Part(1)],
    [Part(0), Part(1, 1), Part(2)],
    [],
]
THROUGH = [(), (1,), (0, 2), (0, 1, 2)]
NAMES = {True: "attn.hook_z", False: "hook_mlp_out"}


def cached(bridge, tokens):
    """All heads' and MLPs' outputs, and the final stream at END, of an untouched pass."""
    with torch.inference_mode():
        cache = bridge.run_with_cache(tokens, prepend_bos=False)[1]
    outputs = {f"blocks.{layer}.{name}": cache[f"blocks.{layer}.{name}"] for layer in range(LAYERS) for name in NAMES.values()}
    return outputs, cache[f"blocks.{LAYERS - 1}.hook_resid_post"][:, END]


def plain(bridge, base_tokens, new_tokens, parts, through):
    """One pass on the base prompts: everything is set to what it was there, but for the senders, and but for MLPs that see."""
    base, _ = cached(bridge, base_tokens)
    new, _ = cached(bridge, new_tokens)

    def setting(name, layer, of_heads):
        def hook(activation, hook):
            value = base[name].clone()
            for part in parts:
                if part.layer == layer and (part.head is not None) == of_heads:
                    place = (slice(None), END, part.head) if of_heads else (slice(None), END)
                    value[place] = new[name][place]
            return value

        return name, hook

    hooks = [setting(f"blocks.{layer}.{NAMES[True]}", layer, True) for layer in range(LAYERS)]
    set_mlps = [layer for layer in range(LAYERS) if layer not in through or Part(layer) in parts]
    hooks += [setting(f"blocks.{layer}.{NAMES[False]}", layer, False) for layer in set_mlps]
    found = {}

    def look(activation, hook):
        found["resid"] = activation[:, END].clone()

    with torch.inference_mode():
        hooks.append((f"blocks.{LAYERS - 1}.hook_resid_post", look))
        bridge.run_with_hooks(base_tokens, fwd_hooks=hooks, prepend_bos=False)
    return found["resid"]


@pytest.mark.parametrize("through", THROUGH)
def test_it_is_a_pass_in_which_everything_else_is_frozen(tiny, pair, through):
    bridge, model = tiny
    ours = model.path_patch_parts(model.run(pair[0]), model.run(pair[1]), SETS, through)
    for parts, resid in zip(SETS, ours, strict=True):
        assert torch.allclose(resid, plain(bridge, pair[0], pair[1], parts, through), atol=1e-4), (parts, through)


def test_of_all_heads_through_all_MLPs_nothing_of_the_base_is_left(tiny, pair):
    """The prompts end with the same token at the same place: what heads bring there is all that tells them apart."""
    _, model = tiny
    base, new = (model.run(tokens) for tokens in pair)
    whole, none = model.path_patch_parts(base, new, [HEAD_PARTS, []], range(LAYERS))
    assert torch.allclose(whole, new.resid[-1][:, END], atol=1e-4)
    assert torch.equal(none, base.resid[-1][:, END])
    # The same by parts: every head and every MLP straight to the logits.
    straight = model.path_patch_parts(base, new, [HEAD_PARTS + MLP_PARTS])[0]
    assert torch.allclose(straight, new.resid[-1][:, END], atol=1e-4)


def test_direct_paths_add_up(tiny, pair):
    """Nothing but the stream lies between a part and the logits, so changes along direct paths are summed in it."""
    _, model = tiny
    base, new = (model.run(tokens) for tokens in pair)
    untouched = base.resid[-1][:, END]
    parts = [*HEAD_PARTS, *MLP_PARTS]
    alone = model.path_patch_parts(base, new, [[part] for part in parts]) - untouched
    assert torch.allclose(alone.sum(0), model.path_patch_parts(base, new, [parts])[0] - untouched, atol=1e-4)


def test_what_is_patched_with_itself_changes_nothing(tiny, pair):
    _, model = tiny
    run = model.run(pair[0])
    ours = model.path_patch_parts(run, run, SETS, range(LAYERS))
    assert torch.allclose(ours, run.resid[-1][:, END].expand_as(ours), atol=1e-5)


def test_prompts_that_are_measured_a_few_at_a_time_give_the_same(tiny, pair, monkeypatch):
    _, model = tiny
    base, new = (model.run(tokens) for tokens in pair)
    together = model.path_patch_parts(base, new, SETS, (1, 2))
    monkeypatch.setattr("circuit_claims.engine.node_paths.ROWS", 2 * len(SETS))
    assert torch.allclose(model.path_patch_parts(base, new, SETS, (1, 2)), together, atol=1e-5)


def test_parts_are_called_by_their_names():
    assert [str(Part(9, 1)), str(Part(10))] == ["L9H1", "MLP 10"]


@pytest.mark.parametrize("kind", [ModuleDecoder, HookedDecoder])
@pytest.mark.parametrize("architecture", ["Llama", "Qwen3", "sequential NeoX"])
def test_other_architectures_agree_with_the_plain_passes(architecture, kind, tmp_path, pair):
    subject = load(save_tiny_decoder(tmp_path / "model", architecture), "processed")
    bridge, model = subject.bridge, engine_of(subject, kind)
    ours = model.path_patch_parts(model.run(pair[0]), model.run(pair[1]), SETS, (0, 2))
    for parts, resid in zip(SETS, ours, strict=True):
        assert torch.allclose(resid, plain(bridge, pair[0], pair[1], parts, (0, 2)), atol=1e-4), parts


@pytest.mark.parametrize("architecture", ["NeoX", "Gemma2"])
def test_where_parts_do_not_add_up_in_the_stream_it_is_untested(architecture, tmp_path, pair):
    """Attention and MLP side by side; a norm after the heads."""
    model = load(save_tiny_decoder(tmp_path / "model", architecture), "processed").transformer
    with pytest.raises(Unsupported):
        model.path_patch_parts(model.run(pair[0]), model.run(pair[1]), SETS)
