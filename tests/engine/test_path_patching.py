"""Path patching against a slow and plain twin, four whole forward passes through the bridge with hooks, and identities."""

from typing import NamedTuple

import pytest
import torch

from circuit_claims.engine.edits import Edit
from circuit_claims.engine.paths import Receivers
from circuit_claims.heads import Head
from tests.conftest import HEADS, LAYERS

END = 8
ONLY_END = torch.full((5, 1), END)
ALL = torch.arange(9).expand(5, 9)
#: A different position in every prompt; and the same with END, where a direct path to the logits must start.
SCATTERED = torch.tensor([[5], [6], [7], [8], [4]])
SCATTERED_AND_END = torch.tensor([[5, 8], [6, 8], [7, 8], [2, 8], [4, 8]])

EVERY_HEAD = [[Head(layer, head)] for layer in range(LAYERS) for head in range(HEADS)]
#: Heads of one layer, of two, of three, and all heads at once.
SETS = [
    [Head(0, 1), Head(0, 2)],
    [Head(1, 2), Head(0, 3)],
    [Head(2, 2), Head(0, 0), Head(1, 1)],
    [head for alone in EVERY_HEAD for head in alone],
]

ONE = (Head(2, 1),)
#: In different layers, so that the later of them hear the senders, but not the earlier ones.
SEVERAL = (Head(2, 3), Head(1, 0), Head(2, 1))
RECEIVERS = [None, *(Receivers(heads, into) for into in ("q", "k", "v") for heads in (ONE, SEVERAL))]

#: TransformerLens's names of what the twin reads and writes.
LAST_RESID = f"blocks.{LAYERS - 1}.hook_resid_post"
HOOKS = {"q": "attn.hook_q", "k": "attn.hook_k", "v": "attn.hook_v", "z": "attn.hook_z", "mlp_out": "hook_mlp_out"}
OUTPUTS = [f"blocks.{layer}.{HOOKS[site]}" for layer in range(LAYERS) for site in ("z", "mlp_out")]


class Put(NamedTuple):
    """One write of the twin: activation `name` becomes `value` (of the activation's own shape), in all heads or in one."""

    name: str
    value: torch.Tensor
    head: int | None = None
    positions: torch.Tensor | None = None

    def into(self, activation: torch.Tensor) -> None:
        if self.head is None and self.positions is None:
            activation[:] = self.value
            return
        rows = torch.arange(len(activation))[:, None]
        places = torch.arange(activation.shape[1])[None] if self.positions is None else self.positions
        here = (rows, places) if self.head is None else (rows, places, self.head)
        activation[here] = self.value[here]


def name_of(layer: int, site: str) -> str:
    return f"blocks.{layer}.{HOOKS[site]}"


def forward(bridge, tokens, writes=(), read=()) -> dict[str, torch.Tensor]:
    """One whole forward pass with hooks; gives back what was to be read or written as it was in the end, and the logits."""
    left = {}

    def hook_for(name):
        def hook(activation, hook):  # whose own name may be another, of which `name` is an alias
            activation = activation.clone()
            for write in writes:
                if write.name == name:
                    write.into(activation)
            left[name] = activation
            return activation

        return name, hook

    names = dict.fromkeys([LAST_RESID, *read, *(write.name for write in writes)])  # each once: every hook slows the twin
    hooks = [hook_for(name) for name in names]
    left["logits"] = bridge.run_with_hooks(tokens, fwd_hooks=hooks, prepend_bos=False)
    return left


def plainly(bridge, original, new, senders, receivers, positions, mlps="recomputed", knocked_out=()) -> list[dict]:
    """The slow twin, word for word after Wang et al. 2022, appendix B: the last of four passes for each set of senders.

    Receivers' inputs are set at the senders' positions, as in the authors' code; elsewhere they run freely in the last pass,
    and a receiver behind another one feels there what that one does.
    """
    a = forward(bridge, original, knocked_out, read=OUTPUTS)
    b = forward(bridge, new, knocked_out, read=OUTPUTS)
    # Attention with all z frozen writes what it wrote, whatever its queries, keys and patterns are.
    frozen = [Put(name_of(layer, "z"), a[name_of(layer, "z")]) for layer in range(LAYERS)]
    if mlps == "frozen":
        frozen += [Put(name_of(layer, "mlp_out"), a[name_of(layer, "mlp_out")]) for layer in range(LAYERS)]
    last = []
    for heads in senders:
        sent = [Put(name_of(layer, "z"), b[name_of(layer, "z")], head, positions) for layer, head in heads]
        inputs = [] if receivers is None else [(name_of(layer, receivers.input), head) for layer, head in receivers.heads]
        c = forward(bridge, original, [*frozen, *sent, *knocked_out], read=[name for name, _ in inputs])
        if receivers is None:
            last.append(c)
            continue
        last.append(forward(bridge, original, [Put(name, c[name], head, positions) for name, head in inputs]))
    return last


def at_end(passes, name: str = LAST_RESID) -> torch.Tensor:
    """One activation of several passes at END: `[pass, prompt, width]`."""
    return torch.stack([each[name][:, END] for each in passes])


def unlike(pair) -> torch.Tensor:
    """Prompts that have nothing in common with the first of the pair, END included, where the pair's own are alike."""
    a, _ = pair
    return (a + torch.arange(3, 12)) % 195 + 5


def knock_outs(tokens) -> list[Edit]:
    """Heads of all layers set to something of their own at END."""
    generator = torch.Generator().manual_seed(7)
    heads = [Head(0, 2), Head(1, 3), Head(1, 0), Head(2, 2)]
    return [Edit(layer, "z", torch.randn(len(tokens), 1, 8, generator=generator), head, ONLY_END) for layer, head in heads]


def as_writes(edits, tokens) -> list[Put]:
    """The same edits for the twin."""
    writes = []
    for edit in edits:
        value = torch.full((*tokens.shape, HEADS, 8), torch.nan)  # what the hook must not touch would be seen
        value[:, END, edit.head] = edit.value[:, 0]
        writes.append(Put(name_of(edit.layer, "z"), value, edit.head, ONLY_END))
    return writes


def heard_by(receivers) -> list[int]:
    """The lone senders that some receiver can hear."""
    last = LAYERS if receivers is None else max(head.layer for head in receivers.heads)
    return [i for i, (head,) in enumerate(EVERY_HEAD) if head.layer < last]


@pytest.mark.parametrize("mlps", ["recomputed", "frozen"])
@pytest.mark.parametrize("where", ["one place a prompt", "two places a prompt", "all positions"])
@pytest.mark.parametrize("receivers", RECEIVERS, ids=lambda r: "logits" if r is None else str(r).replace(", ", " "))
@torch.inference_mode()
def test_path_patching_agrees_with_four_plain_forward_passes(tiny, pair, receivers, where, mlps):
    bridge, model = tiny
    original, new = pair
    one = ONLY_END if receivers is None else SCATTERED
    positions = {"one place a prompt": one, "two places a prompt": SCATTERED_AND_END, "all positions": ALL}[where]
    base = model.run(original)
    senders = EVERY_HEAD + SETS
    ours = model.path_patch(base, model.run(new), senders, receivers, positions, mlps=mlps)
    passes = plainly(bridge, original, new, senders, receivers, positions, mlps)
    theirs = at_end(passes)
    assert (ours - theirs).abs().max() < 1e-4
    assert (model.logits(ours) - at_end(passes, "logits")).abs().max() < 1e-4
    effects = (theirs - base.resid[-1][:, -1]).abs().amax((1, 2))
    assert effects[heard_by(receivers)].min() > 1e-3, "the twin does nothing, so agreeing with it would mean nothing"


@pytest.mark.parametrize("receivers", [None, Receivers(SEVERAL, "v")], ids=["logits", "values"])
@torch.inference_mode()
def test_stopping_the_path_at_mlps_makes_a_difference(tiny, pair, receivers):
    """Were it none, agreement in both modes would be agreement in one."""
    _, model = tiny
    base, new = (model.run(tokens) for tokens in pair)
    through, past = (
        model.path_patch(base, new, EVERY_HEAD[:HEADS], receivers, ALL, mlps=mlps) for mlps in ("recomputed", "frozen")
    )
    assert (through - past).abs().amax((1, 2)).min() > 1e-3


@pytest.mark.parametrize("mlps", ["recomputed", "frozen"])
@pytest.mark.parametrize("where", ["END", "two places a prompt"])
@torch.inference_mode()
def test_path_patching_with_heads_knocked_out_agrees_with_the_twin(tiny, pair, where, mlps):
    """All passes are made with the knock-outs in place; a sender that is knocked out itself sends nothing."""
    bridge, model = tiny
    original, new = pair
    positions = ONLY_END if where == "END" else SCATTERED_AND_END
    base, edits = model.run(original), knock_outs(original)
    senders = [*EVERY_HEAD, *SETS, []]
    ours = model.path_patch(base, model.run(new), senders, None, positions, mlps=mlps, knocked_out=edits)
    writes = as_writes(edits, original)
    theirs = at_end(plainly(bridge, original, new, senders, None, positions, mlps, writes))
    assert (ours - theirs).abs().max() < 1e-4
    untouched = theirs[-1]  # without senders: the knock-outs alone
    assert (untouched - base.resid[-1][:, -1]).abs().max() > 1e-2
    silent = {Head(edit.layer, edit.head) for edit in edits if edit.head is not None}
    for heads, moved in zip(senders, theirs, strict=True):
        assert bool((moved - untouched).abs().max() > 1e-3) is not set(heads).issubset(silent), heads


@torch.inference_mode()
def test_knock_outs_may_be_of_all_heads_and_at_all_positions(tiny, pair):
    """Like any edit of z: with a head or without, with positions or without, or with places that are kept."""
    bridge, model = tiny
    original, new = pair
    generator = torch.Generator().manual_seed(11)
    values = torch.randn(4, 5, 9, HEADS, 8, generator=generator)
    keep = torch.rand(5, 9, HEADS, generator=generator) < 0.5
    edits = [
        Edit(0, "z", values[0][:, :, 3], 3),
        Edit(1, "z", values[1][:, [END]], None, ONLY_END),
        Edit(1, "z", values[2], keep=keep),
        Edit(2, "z", values[3][:, [END], 0], 0, ONLY_END),
    ]
    senders = [*EVERY_HEAD, *SETS]

    class Kept(Put):
        def into(self, activation):
            activation[:] = torch.where(keep[..., None], activation, self.value)

    writes = [
        Put(name_of(0, "z"), values[0], 3),
        Put(name_of(1, "z"), values[1], None, ONLY_END),
        Kept(name_of(1, "z"), values[2]),
        Put(name_of(2, "z"), values[3], 0, ONLY_END),
    ]
    theirs = at_end(plainly(bridge, original, new, senders, None, ONLY_END, knocked_out=writes))
    base, source = model.run(original), model.run(new)
    ours = model.path_patch(base, source, senders, None, ONLY_END, knocked_out=edits)
    assert (ours - theirs).abs().max() < 1e-4
    split = model.path_patch(base, source, senders, None, ONLY_END, knocked_out=edits, memory=1)
    assert (ours - split).abs().max() < 1e-5


@pytest.mark.parametrize("mlps", ["recomputed", "frozen"])
@pytest.mark.parametrize("receivers", RECEIVERS, ids=lambda r: "logits" if r is None else str(r).replace(", ", " "))
@torch.inference_mode()
def test_patching_from_the_same_run_or_from_no_senders_changes_nothing(tiny, pair, receivers, mlps):
    _, model = tiny
    base, new = (model.run(tokens) for tokens in pair)
    same = model.path_patch(base, base, EVERY_HEAD + SETS, receivers, ALL, mlps=mlps)
    nobody = model.path_patch(base, new, [[], []], receivers, ALL, mlps=mlps)
    among = model.path_patch(base, new, [[Head(0, 0)], [], [Head(0, 1)]], receivers, ALL, mlps=mlps)[1]
    for unchanged in (same, nobody, among):
        assert (unchanged - base.resid[-1][:, -1]).abs().max() < 1e-5


@torch.inference_mode()
def test_no_senders_under_knock_outs_leave_the_knock_outs(tiny, pair):
    _, model = tiny
    original, new = pair
    base, edits = model.run(original), knock_outs(original)
    nobody = model.path_patch(base, model.run(new), [[]], None, ONLY_END, knocked_out=edits)
    assert (nobody - model.intervene(base, [edits])).abs().max() < 1e-5


@pytest.mark.parametrize("into", ["q", "k", "v"])
@torch.inference_mode()
def test_senders_in_or_after_the_receivers_layer_change_nothing(tiny, pair, into):
    _, model = tiny
    original, _ = pair
    base, new = model.run(original), model.run(unlike(pair))
    moved = model.path_patch(base, new, EVERY_HEAD + SETS, Receivers((Head(1, 0), Head(1, 3)), into), ALL)
    effects = (moved - base.resid[-1][:, -1]).abs().amax((1, 2))
    assert effects[HEADS : LAYERS * HEADS].max() < 1e-5
    assert effects[:HEADS].min() > 1e-3
    assert effects[LAYERS * HEADS :].min() > 1e-3, "each of these sets has a sender in layer 0"


@torch.inference_mode()
def test_with_mlps_frozen_direct_effects_of_all_components_sum_to_the_whole(tiny, pair):
    """The stream is a sum: heads, MLPs and embeddings, each along its direct path alone, make the new run out of the old one.

    Hence with the final layer norm's scale frozen the direct effects sum to the change of the logit difference.
    """
    bridge, model = tiny
    original, new = pair[0], unlike(pair)
    old_run, new_run = model.run(original), model.run(new)
    passes = [forward(bridge, tokens, read=OUTPUTS) for tokens in (original, new)]
    old_resid, new_resid = at_end(passes)
    by_head = model.path_patch(old_run, new_run, EVERY_HEAD, None, ONLY_END, mlps="frozen") - old_resid
    outputs = [at_end(passes, name_of(layer, "mlp_out")) for layer in range(LAYERS)]
    by_mlp = torch.stack([after - before for before, after in outputs])
    by_embedding = (model.W_E[new] - model.W_E[original])[:, END]  # the position is the same
    direct = torch.cat([by_head, by_mlp, by_embedding[None]])
    assert (direct.sum(0) - (new_resid - old_resid)).abs().max() < 1e-4
    assert direct.abs().amax((1, 2)).min() > 1e-2

    weight, bias = model.ln_final
    direction = model.W_U[:, 7] - model.W_U[:, 11]
    constant = bias @ direction + model.b_U[7] - model.b_U[11]

    def scale(resid):
        return (resid.var(-1, unbiased=False) + model.eps).sqrt()

    old_scale, new_scale = scale(old_resid), scale(new_resid)
    effects = ((direct - direct.mean(-1, keepdim=True)) / old_scale[:, None] * weight) @ direction
    old_difference, new_difference = (each[:, 7] - each[:, 11] - constant for each in at_end(passes, "logits"))
    assert (effects.sum(0) - (new_difference * new_scale / old_scale - old_difference)).abs().max() < 1e-4
    assert effects.sum(0).abs().max() > 1e-1


@pytest.mark.parametrize("mlps", ["recomputed", "frozen"])
@torch.inference_mode()
def test_a_last_layer_heads_direct_effect_is_plain_activation_patching_at_end(tiny, pair, mlps):
    """Behind it there is nothing but the last MLP, which plain patching recomputes."""
    _, model = tiny
    base, new = model.run(pair[0]), model.run(unlike(pair))
    last = LAYERS - 1
    z = model.attention(last, new.resid[last]).z[:, [END]]
    patched = model.intervene(base, [[Edit(last, "z", z[:, :, head], head, ONLY_END)] for head in range(HEADS)])
    ours = model.path_patch(base, new, EVERY_HEAD[-HEADS:], None, ONLY_END, mlps=mlps)
    agrees = (ours - patched).abs().amax((1, 2)) < 1e-4
    assert agrees.all() if mlps == "recomputed" else not agrees.any()
    assert (patched - base.resid[-1][:, -1]).abs().amax((1, 2)).min() > 1e-2


@torch.inference_mode()
def test_all_heads_as_senders_are_all_attention_outputs_of_the_new_run(tiny, pair):
    """MLPs follow along; of the original nothing stays but the embedding at END, which differs here."""
    bridge, model = tiny
    original, new = pair[0], unlike(pair)
    assert (original[:, END] != new[:, END]).all()
    _, cache = bridge.run_with_cache(new, prepend_bos=False)

    def hook_for(name):
        def hook(out, hook):
            out = out.clone()
            out[:, END] = cache[name][:, END]
            return out

        return name, hook

    hooks = [hook_for(f"blocks.{layer}.hook_attn_out") for layer in range(LAYERS)]
    theirs = bridge.run_with_hooks(original, fwd_hooks=hooks, prepend_bos=False)[:, END]
    everyone = [head for alone in EVERY_HEAD for head in alone]
    ours = model.logits(model.path_patch(model.run(original), model.run(new), [everyone], None, ONLY_END))[0]
    assert (ours - theirs).abs().max() < 1e-4
    assert (ours - bridge(new, prepend_bos=False)[:, END]).abs().max() > 1e-2


@torch.inference_mode()
def test_senders_elsewhere_than_at_end_do_not_reach_the_logits_directly(tiny, pair):
    """With all heads frozen nothing moves from one position to another."""
    _, model = tiny
    base, new = (model.run(tokens) for tokens in pair)
    at_end, everywhere = (model.path_patch(base, new, EVERY_HEAD + SETS, None, where) for where in (ONLY_END, ALL))
    assert (at_end - everywhere).abs().max() < 1e-5


@torch.inference_mode()
def test_a_head_named_twice_sends_once(tiny, pair):
    """A set of senders is a set, as families of heads may overlap; and so are the receivers."""
    _, model = tiny
    base, new = (model.run(tokens) for tokens in pair)
    twice = [Head(0, 1), Head(1, 2), Head(0, 1)]
    for receivers in (None, Receivers(SEVERAL, "v")):
        doubled = receivers and Receivers(receivers.heads * 2, receivers.input)
        one = model.path_patch(base, new, [twice[:2]], receivers, ALL)
        assert (model.path_patch(base, new, [twice], doubled, ALL) - one).abs().max() < 1e-5


@pytest.mark.parametrize("receivers", RECEIVERS, ids=lambda r: "logits" if r is None else str(r).replace(", ", " "))
@torch.inference_mode()
def test_splitting_for_memory_changes_nothing(tiny, pair, receivers):
    _, model = tiny
    base, new = (model.run(tokens) for tokens in pair)
    knocked_out = knock_outs(base.tokens) if receivers is None else []
    whole, split = (
        model.path_patch(base, new, EVERY_HEAD + SETS, receivers, SCATTERED_AND_END, knocked_out=knocked_out, **memory)
        for memory in ({}, {"memory": 1})
    )
    assert (whole - split).abs().max() < 1e-5
