"""The engine against slow and plain twins: the bridge's own hooks, TransformerLens's own patching functions, and identities."""

import pytest
import torch
from transformer_lens import patching

from circuit_claims.engine.edits import HEAD_SITES, Edit, Site
from circuit_claims.engine.run import first_difference
from tests.conftest import HEADS, LAYERS

HOOKS = {
    "resid_pre": "hook_resid_pre",
    "q": "attn.hook_q",
    "k": "attn.hook_k",
    "v": "attn.hook_v",
    "pattern": "attn.hook_pattern",
    "z": "attn.hook_z",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "resid_post": "hook_resid_post",
}
#: A different position in every prompt.
SCATTERED = torch.tensor([[5], [6], [7], [8], [4]])


def edits_from(cache, site: Site, positions):
    """One intervention for each layer (and head): this site set to what it is in `cache`."""
    found = []
    for layer in range(LAYERS):
        value = cache[f"blocks.{layer}.{HOOKS[site]}"]
        for head in range(HEADS) if site in HEAD_SITES else [None]:
            part = value if head is None else value[:, head] if site == "pattern" else value[:, :, head]
            if positions is not None:
                part = part[torch.arange(len(part))[:, None], positions]
            found.append([Edit(layer, site, part, head, positions)])
    return found


def plainly(bridge, tokens, cache, edit: Edit):
    """The slow twin: one full forward pass with one hook that sets one position after the other."""
    name = f"blocks.{edit.layer}.{HOOKS[edit.site]}"
    source = cache[name]

    def hook(activation, hook):
        activation = activation.clone()
        for i in range(len(tokens)):
            for p in range(tokens.shape[1]) if edit.positions is None else [int(edit.positions[i, 0])]:
                if edit.head is None:
                    activation[i, p] = source[i, p]
                elif edit.site == "pattern":
                    activation[i, edit.head, p] = source[i, edit.head, p]
                else:
                    activation[i, p, edit.head] = source[i, p, edit.head]
        return activation

    return bridge.run_with_hooks(tokens, fwd_hooks=[(name, hook)], prepend_bos=False)[:, -1]


@pytest.mark.parametrize("positions", [None, SCATTERED], ids=["all positions", "one position a prompt"])
@pytest.mark.parametrize("site", HOOKS)
@torch.inference_mode()
def test_every_intervention_agrees_with_the_bridges_hooks(tiny, pair, site, positions):
    bridge, model = tiny
    clean, corrupted = pair
    _, cache = bridge.run_with_cache(clean, prepend_bos=False)
    edits = edits_from(cache, site, positions)
    ours = model.logits(model.intervene(model.run(corrupted), edits, start=first_difference(clean, corrupted)))
    theirs = torch.stack([plainly(bridge, corrupted, cache, edit) for (edit,) in edits])
    untouched = bridge(corrupted, prepend_bos=False)[:, -1]
    assert (ours - theirs).abs().max() < 1e-4
    assert (theirs - untouched).abs().max() > 1e-2, "the twin does nothing, so agreeing with it would mean nothing"


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("get_act_patch_resid_pre", "resid_pre"),
        ("get_act_patch_attn_out", "attn_out"),
        ("get_act_patch_mlp_out", "mlp_out"),
        ("get_act_patch_attn_head_out_by_pos", "z"),
        ("get_act_patch_attn_head_q_by_pos", "q"),
        ("get_act_patch_attn_head_k_by_pos", "k"),
        ("get_act_patch_attn_head_v_by_pos", "v"),
        ("get_act_patch_attn_head_out_all_pos", "z"),
        ("get_act_patch_attn_head_pattern_all_pos", "pattern"),
    ],
)
@torch.inference_mode()
def test_sweeps_agree_with_transformer_lens(tiny, pair, name, site):
    bridge, model = tiny
    clean, corrupted = pair
    _, cache = bridge.run_with_cache(clean, prepend_bos=False)

    def metric(logits):
        return (logits[:, -1, 7] - logits[:, -1, 11]).mean()

    theirs = getattr(patching, name)(bridge, corrupted, cache, metric)
    columns = [None] if name.endswith("all_pos") else range(clean.shape[1])
    ours = torch.zeros_like(theirs)
    for column in columns:
        where = None if column is None else torch.full((len(clean), 1), column)
        edits = edits_from(cache, site, where)
        logits = model.logits(model.intervene(model.run(corrupted), edits))
        values = (logits[..., 7] - logits[..., 11]).mean(1)
        if site in HEAD_SITES:
            values = values.view(LAYERS, HEADS)
        if column is None:
            ours = values
        elif site in HEAD_SITES:
            ours[:, column] = values
        else:
            ours[:, column] = values
    assert (ours - theirs).abs().max() < 1e-4
    assert theirs.std() > 1e-4


@torch.inference_mode()
def test_a_change_of_attn_out_equals_the_same_change_of_resid_mid(tiny, pair):
    """The identity that TransformerBridge's own `hook_resid_mid` breaks (it is an alias of the MLP's input): ours keeps it."""
    _, model = tiny
    tokens, _ = pair
    run = model.run(tokens)
    delta = torch.randn(5, 9, model.d_model, generator=torch.Generator().manual_seed(0))
    for layer in range(LAYERS):
        out = model.attention(layer, run.resid[layer]).out
        edits = [[Edit(layer, "attn_out", out + delta)], [Edit(layer, "resid_mid", run.resid[layer] + out + delta)]]
        by_attn, by_mid = model.intervene(run, edits)
        assert (by_attn - by_mid).abs().max() < 1e-4
        assert (by_attn - run.resid[-1][:, -1]).abs().max() > 1e-2


@torch.inference_mode()
def test_patching_nothing_changes_nothing(tiny, pair):
    _, model = tiny
    tokens, _ = pair
    run = model.run(tokens)
    for layer in range(LAYERS):
        inside = model.attention(layer, run.resid[layer])
        edits = [[Edit(layer, "z", inside.z[:, :, h], h)] for h in range(HEADS)] + [
            [Edit(layer, "resid_pre", run.resid[layer])],
            [],
        ]
        same = model.intervene(run, edits)
        assert (same - run.resid[-1][:, -1]).abs().max() < 1e-4


@torch.inference_mode()
def test_patching_everything_gives_the_other_run(tiny, pair):
    _, model = tiny
    clean, corrupted = pair
    source, base = model.run(clean), model.run(corrupted)
    everything = [Edit(0, "resid_pre", source.resid[0])]
    all_parts = [Edit(0, "resid_pre", source.resid[0])]
    for layer in range(LAYERS):
        inside = model.attention(layer, source.resid[layer])
        mid = source.resid[layer] + inside.out
        all_parts += [Edit(layer, "attn_out", inside.out), Edit(layer, "mlp_out", source.resid[layer + 1] - mid)]
    for edits in (everything, all_parts):
        assert (model.intervene(base, [edits])[0] - source.resid[-1][:, -1]).abs().max() < 1e-4


@torch.inference_mode()
def test_a_joint_intervention_differs_from_each_alone_and_agrees_with_hooks(tiny, pair):
    """Several edits in several layers at once: later ones act on what earlier ones have changed."""
    bridge, model = tiny
    clean, corrupted = pair
    _, cache = bridge.run_with_cache(clean, prepend_bos=False)
    heads = [(0, 1), (1, 3), (2, 0)]
    edits = [Edit(layer, "z", cache[f"blocks.{layer}.attn.hook_z"][:, :, head], head) for layer, head in heads]

    def hook_for(layer, head):
        def hook(z, hook):
            z = z.clone()
            z[:, :, head] = cache[f"blocks.{layer}.attn.hook_z"][:, :, head]
            return z

        return f"blocks.{layer}.attn.hook_z", hook

    theirs = bridge.run_with_hooks(corrupted, fwd_hooks=[hook_for(*head) for head in heads], prepend_bos=False)[:, -1]
    joint, *alone = model.logits(model.intervene(model.run(corrupted), [edits, *[[edit] for edit in edits]]))
    assert (joint - theirs).abs().max() < 1e-4
    assert all((joint - one).abs().max() > 1e-3 for one in alone)


@torch.inference_mode()
def test_splitting_for_memory_changes_nothing(tiny, pair):
    _, model = tiny
    clean, corrupted = pair
    source, base = model.run(clean), model.run(corrupted)
    where = SCATTERED
    rows = torch.arange(5)[:, None]
    edits = [[Edit(layer, "resid_pre", source.resid[layer][rows, where], None, where)] for layer in range(LAYERS)]
    whole, split = model.intervene(base, edits), model.intervene(base, edits, memory=1)
    assert (whole - split).abs().max() < 1e-5


@torch.inference_mode()
def test_an_intervention_after_end_would_be_lost_and_before_is_not(tiny, pair):
    """The cone: an edit at a position changes END, wherever in the prompt it stands; END's own last layer sees only itself."""
    _, model = tiny
    tokens, _ = pair
    run = model.run(tokens)
    last = LAYERS - 1
    noise = torch.randn(5, 1, model.d_model, generator=torch.Generator().manual_seed(1))
    cases: list[tuple[int, Site, bool]] = [(2, "resid_pre", True), (2, "mlp_out", False), (8, "mlp_out", True)]
    for position, site, changes in cases:
        where = torch.full((5, 1), position)
        moved = model.intervene(run, [[Edit(last, site, noise, None, where)]])[0]
        assert bool((moved - run.resid[-1][:, -1]).abs().max() > 1e-3) is changes


def test_the_first_difference_of_two_batches():
    a = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 4]])
    b = torch.tensor([[1, 2, 3, 5], [1, 2, 9, 4]])
    assert first_difference(a, b) == 2
    assert first_difference(a, a) == 3


@torch.inference_mode()
def test_answer_logits_are_the_columns_of_all_logits(tiny, pair):
    _, model = tiny
    tokens, _ = pair
    resid = model.run(tokens).resid[-1][:, -1]
    answers = torch.tensor([[3, 9], [4, 8], [5, 7], [6, 6], [7, 5]])
    assert (model.answer_logits(resid, answers) - model.logits(resid).gather(1, answers)).abs().max() < 1e-5


@torch.inference_mode()
def test_a_model_of_another_kind_is_noticed(tiny, pair):
    """The check on loading compares whole forward passes: a wrong activation function does not slip through."""
    from circuit_claims.engine.decoder.gpt2 import ACTIVATIONS
    from circuit_claims.engine.decoder.transformer import Transformer
    from circuit_claims.engine.unsupported import UnsupportedArchitecture

    bridge, _ = tiny
    tokens, _ = pair
    wrong = Transformer(bridge)
    wrong.check_against(bridge, tokens, 1e-3)
    wrong.activation = ACTIVATIONS["relu"]
    with pytest.raises(UnsupportedArchitecture, match="not GPT-2's"):
        wrong.check_against(bridge, tokens, 1e-3)
