"""Exact edge patching, by the engine and by a plain loop: every edge into the logits, and into the heads of the last layer.

One edge noised at a time: what the sender writes on the corrupted prompts in place of what it writes on the clean ones, as one
receiver reads it, and everything behind it computed anew.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.gpt2_small_shaped import Work
from benchmarks.peers import Answer
from circuit_claims.edges.attribution import eap_ig_inputs
from circuit_claims.edges.changes import Value
from circuit_claims.edges.edge import Edge
from circuit_claims.edges.exact import exact_effects
from circuit_claims.edges.graph import EdgeGraph, EdgeMask


def into_the_end(work: Work) -> EdgeMask:
    """The edges into the logits, and into queries, keys and values of the last layer."""
    graph = EdgeGraph.of(work.model)
    mask = graph.no_edges()
    for number, receiver in enumerate(graph.receivers):
        if receiver.kind == "logits" or (receiver.kind in ("q", "k", "v") and receiver.layer == graph.n_layers - 1):
            mask[graph.offsets[number] : graph.offsets[number + 1]] = True
    return mask


def value_of(work: Work) -> Callable[[slice], Value]:
    """The logit difference of some of the prompts."""

    def value(some: slice) -> Value:
        def of(streams: Tensor) -> Tensor:
            logits = work.model.answer_logits(streams, work.answers[some].clone())
            return logits[..., 0] - logits[..., 1]

        return of

    return value


def exact_edges(work: Work, memory: int | None = None) -> Float[Tensor, " edge"]:
    """The mean logit difference with each of these edges noised, by the engine."""
    model, clean, corrupted = work.model, work.model.run(work.clean), work.model.run(work.corrupted)
    mask = into_the_end(work)
    effects = exact_effects(model, clean, corrupted, value_of(work), among=mask, memory=memory)
    return work.difference(clean.resid[-1][:, -1]) - effects[:, torch.from_numpy(mask).to(effects.device)].mean(0)


def attributed_edges(work: Work, memory: int | None = None) -> Float[Tensor, "prompt edge"]:
    """EAP-IG by inputs, in five steps, of all edges there are."""
    return eap_ig_inputs(work.model, work.model.run(work.clean), work.model.run(work.corrupted), value_of(work), memory=memory)


@torch.inference_mode()
def loop_over_edges(work: Work, every: int) -> Answer:
    """The same by one `run_with_hooks` for each edge."""
    bridge, graph = work.bridge, EdgeGraph.of(work.model)
    sites = ["attn.hook_z", "hook_mlp_out", "hook_resid_pre"]
    names = [f"blocks.{layer}.{site}" for layer in range(graph.n_layers) for site in sites]
    caches = [
        bridge.run_with_cache(tokens, names_filter=names, prepend_bos=False)[1] for tokens in (work.clean, work.corrupted)
    ]
    weights = {name: getattr(bridge, name) for name in ("W_O", "W_Q", "W_K", "W_V", "b_Q", "b_K", "b_V")}

    def change(edge: Edge) -> Tensor:
        layer, head = edge.sender
        if layer is None:
            clean, corrupted = (cache["blocks.0.hook_resid_pre"] for cache in caches)
        elif head is None:
            clean, corrupted = (cache[f"blocks.{layer}.hook_mlp_out"] for cache in caches)
        else:
            clean, corrupted = (
                cache[f"blocks.{layer}.attn.hook_z"][:, :, head] @ weights["W_O"][layer, head] for cache in caches
            )
        return clean - corrupted

    edges = graph.edges(into_the_end(work))
    values, places = [], list(range(0, len(edges), every))
    for place in places:
        edge = edges[place]
        layer, head, which = edge.receiver
        if layer is None:
            name, noised = f"blocks.{graph.n_layers - 1}.hook_resid_post", change(edge)
        else:
            read = caches[0][f"blocks.{layer}.hook_resid_pre"] - change(edge)
            kind = str(which).upper()
            normed = bridge.get_submodule(f"blocks.{layer}.ln1")(read)
            noised = normed @ weights[f"W_{kind}"][layer, head] + weights[f"b_{kind}"][layer, head]
            name = f"blocks.{layer}.attn.hook_{which}"

        def hook(activation, hook, noised=noised, head=head):
            if head is None:
                return activation - noised
            activation = activation.clone()
            activation[:, :, head] = noised
            return activation

        values.append(work.metric(bridge.run_with_hooks(work.clean, fwd_hooks=[(name, hook)], prepend_bos=False)))
    return Answer(torch.stack(values), torch.tensor(places), len(edges))
