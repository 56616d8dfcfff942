"""Each sweep as it is done elsewhere: TransformerLens's own functions, and plain loops over its hooks.

A peer's calls can be thinned out (`every`), for benchmarks that must be quick: every n-th of its interventions is made, and its
time is scaled. It returns the values of those it made, and their places in the grid.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import patching
from transformer_lens.tools.analysis.attribution_patching import cache_activation_and_gradient

from benchmarks.gpt2_small_shaped import Work
from benchmarks.ours import RECEIVERS
from circuit_claims.heads import Head


@dataclass(frozen=True)
class Answer:
    """What a peer found: values, and where they stand in the flattened grid; how many calls it made, and would have made."""

    values: Float[Tensor, " call"]
    places: Int[Tensor, " call"]
    of: int


Peer = Callable[[Work, int], Answer]


def _names(n_layers: int, *sites: str) -> list[str]:
    return [f"blocks.{layer}.{site}" for layer in range(n_layers) for site in sites]


def _cache(work: Work, tokens: Tensor, *sites: str):
    """Activations under TransformerLens's usual names."""
    names = _names(work.model.n_layers, *sites)
    return work.bridge.run_with_cache(tokens, names_filter=names, prepend_bos=False)[1]


def _heads(work: Work) -> list[Head]:
    return [Head(layer, head) for layer in range(work.model.n_layers) for head in range(work.model.n_heads)]


def loop_over_heads_at_end(work: Work, every: int) -> Answer:
    """One `run_with_hooks` for each head: its z at END from the clean prompts."""

    def put(z: Tensor, clean: Tensor, head: int) -> None:
        z[:, -1, head] = clean[:, -1, head]

    return _loop_over_heads(work, every, work.corrupted, work.clean, put)


def loop_over_mean_ablations(work: Work, every: int) -> Answer:
    """One `run_with_hooks` for each head: its z replaced with the mean over the corrupted prompts."""

    def put(z: Tensor, others: Tensor, head: int) -> None:
        z[:, :, head] = others[:, :, head].mean(0)

    return _loop_over_heads(work, every, work.clean, work.corrupted, put)


@torch.inference_mode()
def _loop_over_heads(
    work: Work, every: int, tokens: Tensor, source: Tensor, put: Callable[[Tensor, Tensor, int], None]
) -> Answer:
    """Run `tokens` once a head, with what `put` makes of its z and of all heads' z on `source`."""
    cache, heads = _cache(work, source, "attn.hook_z"), _heads(work)
    values, places = [], list(range(0, len(heads), every))
    for place in places:
        name = f"blocks.{heads[place].layer}.attn.hook_z"

        def hook(z, hook, head=heads[place].head, there=cache[name]):
            put(z, there, head)
            return z

        values.append(work.metric(work.bridge.run_with_hooks(tokens, fwd_hooks=[(name, hook)], prepend_bos=False)))
    return Answer(torch.stack(values), torch.tensor(places), len(heads))


def attribution_patching(work: Work, every: int = 1) -> Answer:
    """Two forward passes and one backward, by TransformerLens's own caches: first-order estimates of all patches at once.

    For heads at END: the corrupted metric plus the estimated effect, to be compared with the exact one.
    """
    names = _names(work.model.n_layers, "attn.hook_z")
    # The backward pass goes no further than the first point asked for, whose own hook stays silent.
    watched = ["hook_embed", *names]
    with torch.enable_grad():
        work.bridge.requires_grad_(True)
        try:
            clean = cache_activation_and_gradient(work.bridge, work.clean, work.metric, names, compute_gradient=False)
            corrupted = cache_activation_and_gradient(work.bridge, work.corrupted, work.metric, watched)
        finally:
            work.bridge.requires_grad_(False)
    gradients: Any = corrupted.gradients  # of all that was watched
    change = [((clean.activations[name] - corrupted.activations[name]) * gradients[name])[:, -1].sum((0, 2)) for name in names]
    values = corrupted.metric + torch.cat(change)
    return Answer(values, torch.arange(len(values)), len(values))


@torch.inference_mode()
def _transformer_lens(work: Work, every: int, name: str, axes: tuple[str, ...], site: str) -> Answer:
    """One of TransformerLens's `get_act_patch_*` functions, on every n-th row of its table of indices."""
    cache = _cache(work, work.clean, site)
    model = work.model
    sizes = {"layer": model.n_layers, "pos": work.n_tokens, "head": model.n_heads, "head_index": model.n_heads}
    rows = torch.cartesian_prod(*(torch.arange(sizes[axis]) for axis in axes))[::every]
    table = pd.DataFrame(rows.numpy(), columns=list(axes))
    function = getattr(patching, name)
    values = function(work.bridge, work.corrupted, cache, work.metric, index_axis_names=None, index_df=table)
    total = 1
    for axis in axes:
        total *= sizes[axis]
    return Answer(values, torch.arange(0, total, every), total)


heads_at_every_position = partial(
    _transformer_lens, name="get_act_patch_attn_head_out_by_pos", axes=("layer", "pos", "head"), site="attn.hook_z"
)
residual_stream = partial(_transformer_lens, name="get_act_patch_resid_pre", axes=("layer", "pos"), site="hook_resid_pre")
heads_at_all_positions = partial(
    _transformer_lens, name="get_act_patch_attn_head_out_all_pos", axes=("layer", "head"), site="attn.hook_z"
)


def every_part_at_all_positions(work: Work, every: int) -> Answer:
    """The five functions that `get_act_patch_attn_head_all_pos_every` is made of, one after the other."""
    parts = [
        _transformer_lens(work, every, f"get_act_patch_attn_head_{part}_all_pos", ("layer", "head"), f"attn.hook_{site}")
        for part, site in (("out", "z"), ("q", "q"), ("k", "k"), ("v", "v"), ("pattern", "pattern"))
    ]
    n = parts[0].of
    places = torch.cat([part.places + i * n for i, part in enumerate(parts)])
    return Answer(torch.cat([part.values for part in parts]), places, len(parts) * n)


def paths_to_logits(work: Work, every: int) -> Answer:
    """Wang et al. 2022, appendix B, by hooks: passes A and B once, C and D for each sender."""
    return _paths(work, every, [f"blocks.{work.model.n_layers - 1}.hook_resid_post"], None)


def paths_to_queries(work: Work, every: int) -> Answer:
    """The same to three heads' queries."""
    return _paths(work, every, sorted({f"blocks.{head.layer}.attn.hook_q" for head in RECEIVERS}), RECEIVERS)


@torch.inference_mode()
def _paths(work: Work, every: int, inputs: list[str], receivers: tuple[Head, ...] | None) -> Answer:
    bridge, heads = work.bridge, _heads(work)
    original = _cache(work, work.clean, "attn.hook_z")
    new = _cache(work, work.corrupted, "attn.hook_z")
    values, places = [], list(range(0, len(heads), every))
    for place in places:
        sender, seen = heads[place], {}

        def freeze(z, hook, layer, sender=sender):
            z = original[f"blocks.{layer}.attn.hook_z"].clone()
            if layer == sender.layer:
                z[:, -1, sender.head] = new[f"blocks.{layer}.attn.hook_z"][:, -1, sender.head]
            return z

        def look(activation, hook, name, seen=seen):
            seen[name] = activation.clone()

        frozen = [(f"blocks.{i}.attn.hook_z", partial(freeze, layer=i)) for i in range(work.model.n_layers)]
        looks = [(name, partial(look, name=name)) for name in inputs]
        bridge.run_with_hooks(work.clean, fwd_hooks=frozen + looks, prepend_bos=False)

        def put(activation, hook, name, seen=seen):
            if receivers is None:
                activation[:, -1] = seen[name][:, -1]
            else:
                for head in receivers:
                    if name == f"blocks.{head.layer}.attn.hook_q":
                        activation[:, -1, head.head] = seen[name][:, -1, head.head]
            return activation

        puts = [(name, partial(put, name=name)) for name in inputs]
        values.append(work.metric(bridge.run_with_hooks(work.clean, fwd_hooks=puts, prepend_bos=False)))
    return Answer(torch.stack(values), torch.tensor(places), len(heads))
