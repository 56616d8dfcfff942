"""Keeping a circuit's own nodes and losing all others: `Edit.keep` against plain hooks, and identities."""

import pytest
import torch

from circuit_claims.engine.edits import Edit
from tests.conftest import HEADS, LAYERS

D_HEAD = 8
EVERYWHERE = torch.ones(LAYERS, 5, 9, HEADS, dtype=torch.bool)
SHAPE = (LAYERS, 5, 9, HEADS, D_HEAD)


def random_masks(share: float, seed: int = 0) -> torch.Tensor:
    """Another mask in every layer and prompt: `[layer, prompt, pos, head]`, this share of it True."""
    return torch.rand(LAYERS, 5, 9, HEADS, generator=torch.Generator().manual_seed(seed)) < share


def random_values(seed: int = 1) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def keeping(masks, values, layers=range(LAYERS)) -> list[Edit]:
    """One intervention: in each of these layers, what is not kept is set to `values`."""
    return [Edit(layer, "z", values[layer], keep=masks[layer]) for layer in layers]


def plainly(bridge, tokens, masks, values, layers=range(LAYERS), more=()):
    """The slow twin: a full forward pass in which every place that is not kept is set, one after the other."""

    def hook_for(layer):
        def hook(z, hook):
            z = z.clone()
            for prompt, position, head in (~masks[layer]).nonzero().tolist():
                z[prompt, position, head] = values[layer, prompt, position, head]
            return z

        return f"blocks.{layer}.attn.hook_z", hook

    hooks = [hook_for(layer) for layer in layers]
    return bridge.run_with_hooks(tokens, fwd_hooks=[*hooks, *more], prepend_bos=False)[:, -1]


@pytest.mark.parametrize("layers", [[0], [1], [2], [0, 2], [0, 1, 2]], ids=str)
@pytest.mark.parametrize("share", [0.2, 0.8])
@torch.inference_mode()
def test_a_kept_circuit_is_the_one_that_hooks_keep(tiny, pair, share, layers):
    bridge, model = tiny
    tokens, _ = pair
    masks, values = random_masks(share), random_values()
    ours = model.logits(model.intervene(model.run(tokens), [keeping(masks, values, layers)]))[0]
    theirs = plainly(bridge, tokens, masks, values, layers)
    assert (ours - theirs).abs().max() < 1e-4
    assert (theirs - bridge(tokens, prepend_bos=False)[:, -1]).abs().max() > 1e-2, "the twin does nothing"


@torch.inference_mode()
def test_kept_places_hold_what_the_circuit_computes_and_not_what_the_whole_model_did(tiny, pair):
    """The difference between a circuit, whose later nodes hear what its earlier nodes say, and heads frozen to another run."""
    bridge, model = tiny
    tokens, _ = pair
    masks, values = random_masks(0.5), random_values()
    run = model.run(tokens)
    own = model.intervene(run, [keeping(masks, values)])
    untouched = torch.stack([model.attention(layer, run.resid[layer]).z for layer in range(LAYERS)])
    mixed = torch.where(masks[..., None], untouched, values)
    frozen = model.intervene(run, [[Edit(layer, "z", mixed[layer]) for layer in range(LAYERS)]])
    assert (own - frozen).abs().max() > 1e-2
    assert (model.logits(own)[0] - plainly(bridge, tokens, masks, values)).abs().max() < 1e-4
    assert (model.logits(frozen)[0] - plainly(bridge, tokens, ~EVERYWHERE, mixed)).abs().max() < 1e-4


@torch.inference_mode()
def test_keeping_everything_changes_nothing(tiny, pair):
    _, model = tiny
    tokens, _ = pair
    run = model.run(tokens)
    all_kept, all_but_one = EVERYWHERE, EVERYWHERE.clone()
    all_but_one[1, 2, 8, 3] = False
    kept, but_one = model.intervene(run, [keeping(all_kept, random_values()), keeping(all_but_one, random_values())])
    assert (kept - run.resid[-1][:, -1]).abs().max() < 1e-5
    changed = (but_one - run.resid[-1][:, -1]).abs().amax(-1) > 1e-3
    assert changed.tolist() == [False, False, True, False, False]


@torch.inference_mode()
def test_keeping_nothing_of_zeros_is_a_model_without_heads(tiny, pair):
    """Twice: as hooks that make all z zero, and as a stream to which attention adds its biases alone."""
    bridge, model = tiny
    tokens, _ = pair
    run = model.run(tokens)
    (ours,) = model.intervene(run, [keeping(~EVERYWHERE, torch.zeros(SHAPE))])
    hooks = [(f"blocks.{layer}.attn.hook_z", lambda z, hook: torch.zeros_like(z)) for layer in range(LAYERS)]
    theirs = bridge.run_with_hooks(tokens, fwd_hooks=hooks, prepend_bos=False)[:, -1]
    assert (model.logits(ours) - theirs).abs().max() < 1e-4
    stream = run.resid[0, :, -1]
    for layer, block in enumerate(model.weights().layers):
        stream = stream + block.b_O
        stream = stream + model.mlp_out(layer, stream)
    assert (ours - stream).abs().max() < 1e-4
    assert (ours - run.resid[-1][:, -1]).abs().max() > 1e-2


@torch.inference_mode()
def test_keeping_all_places_but_one_heads_is_knocking_out_that_head(tiny, pair):
    _, model = tiny
    tokens, _ = pair
    run, values = model.run(tokens), random_values()
    where = torch.tensor([[5], [6], [7], [8], [4]])
    rows = torch.arange(5)[:, None]
    for layer in range(LAYERS):
        masks = EVERYWHERE.clone()
        masks[layer, rows, where, 2] = False
        setting = [Edit(layer, "z", values[layer][rows, where, 2], 2, where)]
        by_keeping, by_setting = model.intervene(run, [keeping(masks, values), setting])
        assert (by_keeping - by_setting).abs().max() < 1e-5
        assert (by_keeping - run.resid[-1][:, -1]).abs().max() > 1e-3


@pytest.mark.parametrize("memory", [None, 1], ids=["at once", "prompt by prompt"])
@torch.inference_mode()
def test_kept_circuits_travel_with_other_interventions(tiny, pair, memory):
    """In one batch with interventions that enter at other layers and positions; none of them changes another."""
    _, model = tiny
    tokens, other = pair
    run, source = model.run(tokens), model.run(other)
    where = torch.tensor([[5], [6], [7], [8], [4]])
    rows = torch.arange(5)[:, None]
    interventions = [
        [Edit(2, "resid_post", source.resid[3])],
        keeping(random_masks(0.5, seed=2), random_values(3), range(1, 3)),
        [Edit(1, "resid_pre", source.resid[1][rows, where], None, where)],
        keeping(random_masks(0.3, seed=4), random_values(5)),
        [],
        [Edit(1, "z", random_values(6)[1][:, :, 3], 3)],
        keeping(random_masks(0.7, seed=7), random_values(8), range(2, 3)),
    ]
    together = model.intervene(run, interventions, **({} if memory is None else {"memory": memory}))
    alone = torch.cat([model.intervene(run, [edits]) for edits in interventions])
    assert (together - alone).abs().max() < 1e-5
    effects = (together - run.resid[-1][:, -1]).abs().amax((1, 2))
    assert (effects > 1e-2).tolist() == [True, True, True, True, False, True, True]


@torch.inference_mode()
def test_a_kept_circuit_goes_together_with_other_edits(tiny, pair):
    """One intervention of several edits, in the order of the forward pass: queries are set, z is kept or not, an MLP is set.

    Two edits of one z are made in their order.
    """
    bridge, model = tiny
    tokens, _ = pair
    masks, values = random_masks(0.6), random_values()
    generator = torch.Generator().manual_seed(9)
    queries = torch.randn(5, 9, D_HEAD, generator=generator)
    out = torch.randn(5, 9, model.d_model, generator=generator)
    z = torch.randn(5, 9, D_HEAD, generator=generator)

    def set_head(value, head):
        def hook(activation, hook):
            activation = activation.clone()
            activation[:, :, head] = value
            return activation

        return hook

    more = [
        ("blocks.0.attn.hook_q", set_head(queries, 1)),
        ("blocks.1.hook_mlp_out", lambda activation, hook: out),
        ("blocks.2.attn.hook_z", set_head(z, 3)),
    ]
    edits = [Edit(0, "q", queries, 1), *keeping(masks, values), Edit(1, "mlp_out", out), Edit(2, "z", z, 3)]
    ours = model.logits(model.intervene(model.run(tokens), [edits]))[0]
    theirs = plainly(bridge, tokens, masks, values, more=more)
    assert (ours - theirs).abs().max() < 1e-4
    assert (theirs - plainly(bridge, tokens, masks, values)).abs().max() > 1e-2


@pytest.mark.parametrize("memory", [None, 1], ids=["at once", "prompt by prompt"])
@torch.inference_mode()
def test_a_circuit_that_keeps_the_start_of_the_prompt_may_start_later(tiny, pair, memory):
    """The cone of an edit at all positions starts at `start`, when what lies before is kept: the mask is cut along with z."""
    _, model = tiny
    tokens, _ = pair
    run, values = model.run(tokens), random_values()
    masks = random_masks(0.5)
    masks[:, :, :4] = True
    limit = {} if memory is None else {"memory": memory}
    whole = model.intervene(run, [keeping(masks, values)])
    cone = model.intervene(run, [keeping(masks, values)], start=4, **limit)
    assert (whole - cone).abs().max() < 1e-5
    assert (whole - run.resid[-1][:, -1]).abs().max() > 1e-2


@torch.inference_mode()
def test_splitting_for_memory_changes_nothing(tiny, pair):
    _, model = tiny
    tokens, _ = pair
    run = model.run(tokens)
    circuits = [keeping(random_masks(0.5, seed), random_values(seed + 10)) for seed in range(3)]
    whole, split = model.intervene(run, circuits), model.intervene(run, circuits, memory=1)
    assert (whole - split).abs().max() < 1e-5
    assert (whole[0] - whole[1]).abs().max() > 1e-2


@pytest.mark.parametrize(
    "more",
    [{"site": "q"}, {"site": "attn_out"}, {"head": 1}, {"positions": torch.full((5, 1), 8)}],
    ids=["queries", "attention output", "a head", "positions"],
)
def test_places_are_kept_in_all_heads_outputs_alone(more):
    """A mask beside a head or positions would be passed over in silence, or broadcast."""
    with pytest.raises(ValueError, match="places are kept in z of all heads at all positions"):
        Edit(**{"layer": 0, "site": "z", "value": random_values()[0], "keep": EVERYWHERE[0], **more})
