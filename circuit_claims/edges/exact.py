"""Exact edge patching: each edge noised by itself, and all that comes after it computed anew.

What the receiver reads is the clean stream less the change of the one sender (what it writes on the clean prompt minus what it
writes on the corrupted one); everything before the receiver is as on the clean prompt, and everything after it runs freely. The
effect is the clean metric minus the one with the edge noised: positive where the edge helps. This is what the attributions of
`circuit_claims.edges.attribution` estimate, and what they are held against.

Edges are taken receiver by receiver: those into the logits need no layer at all, those into an MLP enter behind it, those
into a head's queries, keys and values enter inside this head, and travel on in the engine's causal cone, many at a time.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims import forward_passes
from circuit_claims.edges.changes import Value, changes, in_prompts
from circuit_claims.edges.edge import INPUTS
from circuit_claims.edges.graph import EdgeGraph, EdgeMask
from circuit_claims.edges.written import Streams
from circuit_claims.engine.edits import Edit
from circuit_claims.engine.protocol import Engine
from circuit_claims.engine.run import Run, first_difference
from circuit_claims.heads import Reader
from circuit_claims.time_spent import spent_on

#: Edges patched on one run, by their numbers, each with the edit that noises it.
Patches = list[tuple[int, Edit]]


@spent_on("edge patching")
@torch.inference_mode()
def exact_effects(
    model: Engine,
    clean: Run,
    corrupted: Run,
    value: Callable[[slice], Value],
    *,
    among: EdgeMask | None = None,
    memory: int | None = None,
) -> Float[Tensor, "prompt edge"]:
    """What noising each edge alone costs, in the metric's unit: clean minus patched.

    value: the metric of some of the prompts. among: the edges that are patched, all unless given; the others are NaN.
    memory: bytes that the interventions may take (the engine's own cap unless given).

    Raises EdgeError for a mask of another model's edges, and Unsupported where heads' outputs do not add up.
    """
    graph = EdgeGraph.of(model)
    wanted = graph.all_edges() if among is None else graph.checked(among)
    memory = model.max_memory if memory is None else memory
    start = first_difference(clean.tokens, corrupted.tokens)

    def measure(clean: Run, corrupted: Run, value: Value) -> Tensor:
        change, streams = changes(model, clean, corrupted)
        before = value(streams.final)
        found = before.new_full((len(graph), len(before)), torch.nan)
        into_logits = np.flatnonzero(wanted[graph.offsets[-2] :])
        found[graph.offsets[-2] + into_logits] = value(streams.final - change[:, into_logits, -1].transpose(0, 1))
        forward_passes.count(len(before) * len(into_logits))
        for patches in _patches(model, clean, change, streams, wanted, memory // 2):
            numbers = [number for number, _ in patches]
            ends = model.intervene(clean, [[edit] for _, edit in patches], start=start, memory=memory // 2)
            found[numbers] = value(ends)
        return before[:, None] - found.T

    length = clean.tokens.shape[1]
    one = 2 * graph.n_senders * length * model.d_model * clean.resid.element_size()
    return in_prompts(clean, corrupted, value, one, memory, measure)


def _patches(
    model: Engine,
    clean: Run,
    change: Float[Tensor, "prompt sender pos d_model"],
    streams: Streams,
    wanted: EdgeMask,
    memory: int,
) -> Iterator[Patches]:
    """The edits that noise edges into heads and MLPs, layer by layer, as many senders at a time as memory allows."""
    graph, (n_prompts, _, length, width) = EdgeGraph.of(model), change.shape
    # The stream that is read, queries, keys, values, patterns and outputs of all heads, and copies of what edits set.
    one = n_prompts * length * (12 * width + 3 * model.n_heads * length) * change.element_size()
    step = max(1, memory // one)
    for layer in range(graph.n_layers):
        mlp = graph.inputs_of(layer, "v").stop
        for first in range(0, int(graph.fan_in[mlp]), step):
            some = range(first, min(first + step, int(graph.fan_in[mlp])))
            noised = change[:, some.start : some.stop].transpose(0, 1)
            patches = _into_heads(model, layer, streams.pre[layer] - noised, some, wanted)
            numbers = [(i, number) for i in some if wanted[number := int(graph.offsets[mlp]) + i]]
            if numbers:
                rows = [i - some.start for i, _ in numbers]
                written = model.mlp(layer, streams.mlp[layer] - noised[rows])
                patches += [(number, Edit(layer, "mlp_out", out)) for (_, number), out in zip(numbers, written, strict=True)]
            if patches:
                yield patches


def _into_heads(
    model: Engine, layer: int, read: Float[Tensor, "sender prompt pos d_model"], senders: range, wanted: EdgeMask
) -> Patches:
    """Edges from some senders into the heads of a layer, which read `read` where one is noised."""
    graph = EdgeGraph.of(model)
    n = int(graph.fan_in[graph.inputs_of(layer, "q").start])  # the layer's own heads send to its MLP alone
    places: list[tuple[Reader, int, int, int]] = [
        (which, head, sender, int(graph.offsets[graph.inputs_of(layer, which).start + head]) + sender)
        for which in INPUTS
        for head in range(graph.n_heads)
        for sender in senders
        if sender < n
    ]
    places = [place for place in places if wanted[place[-1]]]
    if not places:
        return []
    rows = read[: min(n, senders.stop) - senders.start]
    inside = model.attention(layer, rows.flatten(0, 1).contiguous())
    parts: dict[Reader, Tensor] = {which: getattr(inside, which).unflatten(0, rows.shape[:2]) for which in INPUTS}
    shared = {which: model.n_heads // part.shape[-2] for which, part in parts.items()}
    return [
        (number, Edit(layer, which, parts[which][sender - senders.start, :, :, head // shared[which]], head))
        for which, head, sender, number in places
    ]
