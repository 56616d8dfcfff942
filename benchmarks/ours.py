"""Each sweep by the engine, from tokens to a grid of logit differences: the forward passes that it needs are counted too."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks.gpt2_small_shaped import Work
from circuit_claims.engine.edits import Edit, Site
from circuit_claims.engine.paths import Receivers
from circuit_claims.engine.run import Run, first_difference, slice_run
from circuit_claims.heads import Head
from circuit_claims.tasks.operations.ablation import head_outputs

#: The receivers whose queries path patching goes to, as in Wang et al. 2022, figure 4: three heads of the last layers.
RECEIVERS = (Head(9, 6), Head(9, 9), Head(10, 0))

Ours = Callable[[Work, int | None], Float[Tensor, "..."]]


def _both_runs(work: Work) -> tuple[Run, Run]:
    """The runs on the clean and on the corrupted prompts, made as one batch."""
    both = work.model.run(torch.cat([work.clean, work.corrupted]), keep=True)
    return slice_run(both, slice(None, work.n_prompts)), slice_run(both, slice(work.n_prompts, None))


def heads_at_end(work: Work, memory: int | None = None) -> Float[Tensor, "layer head"]:
    """z of every head at END, clean into corrupted."""
    model, clean, corrupted = work.model, *_both_runs(work)
    edits = []
    for layer in range(model.n_layers):
        z = model.head_outputs_at(clean, layer, work.end)
        edits += [[Edit(layer, "z", z[:, :, head], head, work.end)] for head in range(model.n_heads)]
    return work.difference(model.intervene(corrupted, edits, memory=memory)).view(model.n_layers, model.n_heads)


def heads_at_every_position(work: Work, memory: int | None = None) -> Float[Tensor, "layer pos head"]:
    """z of every head at each position, clean into corrupted."""
    model, clean, corrupted = work.model, *_both_runs(work)
    outputs, edits = head_outputs(model, clean, range(model.n_layers)), []
    for layer, z in outputs.items():
        for pos, place in _places(work).items():
            edits += [[Edit(layer, "z", z[:, pos : pos + 1, head], head, place)] for head in range(model.n_heads)]
    found = work.difference(model.intervene(corrupted, edits, memory=memory))
    return _with_shared_positions(work, corrupted, found.view(model.n_layers, -1, model.n_heads))


def residual_stream(work: Work, memory: int | None = None) -> Float[Tensor, "layer pos"]:
    """The residual stream before each layer at each position, clean into corrupted."""
    model, clean, corrupted = work.model, *_both_runs(work)
    edits = [
        [Edit(layer, "resid_pre", clean.resid[layer, :, pos : pos + 1], None, place)]
        for layer in range(model.n_layers)
        for pos, place in _places(work).items()
    ]
    found = work.difference(model.intervene(corrupted, edits, memory=memory))
    return _with_shared_positions(work, corrupted, found.view(model.n_layers, -1))


def _places(work: Work) -> dict[int, Int[Tensor, "prompt 1"]]:
    """The positions from the first on at which clean and corrupted prompts differ: before it, a patch changes nothing."""
    return {pos: torch.full_like(work.end, pos) for pos in range(first_difference(work.clean, work.corrupted), work.n_tokens)}


def _with_shared_positions(work: Work, corrupted: Run, found: Float[Tensor, "layer some *n"]) -> Float[Tensor, "layer pos *n"]:
    """A grid over all positions, with the corrupted prompts' own value at those before the first difference."""
    own = work.difference(corrupted.resid[-1][:, -1])
    shared = own.expand(len(found), work.n_tokens - found.shape[1], *found.shape[2:])
    return torch.cat([shared, found], dim=1)


def heads_at_all_positions(work: Work, memory: int | None = None, sites: Sequence[Site] = ("z",)) -> Float[Tensor, "..."]:
    """z, or several parts, of every head at all positions together, clean into corrupted: `[(site) layer head]`."""
    model, clean, corrupted = work.model, *_both_runs(work)
    if tuple(sites) == ("z",):
        parts = [{"z": z} for z in head_outputs(model, clean, range(model.n_layers)).values()]
    else:
        inside = [model.attention(layer, clean.resid[layer]) for layer in range(model.n_layers)]
        parts = [{site: getattr(attention, site) for site in sites} for attention in inside]
    edits = []
    for site in sites:
        for layer, part in enumerate(parts):
            value = part[site]
            for head in range(model.n_heads):
                edits.append([Edit(layer, site, value[:, head] if site == "pattern" else value[:, :, head], head)])
    grid = work.difference(model.intervene(corrupted, edits, memory=memory))
    return grid.view(len(sites), model.n_layers, model.n_heads).squeeze(0)


def every_part_at_all_positions(work: Work, memory: int | None = None) -> Float[Tensor, "site layer head"]:
    """Output, query, key, value and pattern of every head at all positions, clean into corrupted."""
    return heads_at_all_positions(work, memory, ("z", "q", "k", "v", "pattern"))


def paths_to_logits(work: Work, memory: int | None = None) -> Float[Tensor, "layer head"]:
    """The direct path from every head at END to the logits."""
    return _paths(work, None, memory)


def paths_to_queries(work: Work, memory: int | None = None) -> Float[Tensor, "layer head"]:
    """The direct paths from every head at END to three heads' queries."""
    return _paths(work, Receivers(RECEIVERS, "q"), memory)


def _paths(work: Work, receivers: Receivers | None, memory: int | None) -> Float[Tensor, "layer head"]:
    model = work.model
    senders = [[Head(layer, head)] for layer in range(model.n_layers) for head in range(model.n_heads)]
    base, new = _both_runs(work)
    resid = model.path_patch(base, new, senders, receivers, work.end, memory=memory)
    return work.difference(resid).view(model.n_layers, model.n_heads)


def mean_ablations(work: Work, memory: int | None = None) -> Float[Tensor, "layer head"]:
    """Every head's z at all positions replaced with its mean over the corrupted prompts, position by position."""
    model, clean, corrupted = work.model, *_both_runs(work)
    edits = []
    for layer, z in head_outputs(model, corrupted, range(model.n_layers)).items():
        mean = z.mean(0, keepdim=True).expand_as(z)
        edits += [[Edit(layer, "z", mean[:, :, head], head)] for head in range(model.n_heads)]
    return work.difference(model.intervene(clean, edits, memory=memory)).view(model.n_layers, model.n_heads)
