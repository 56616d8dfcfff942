"""Slow, plain twins: one prompt, one edge and one position's stream at a time, from the bridge's weights by hand."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from circuit_claims.edges.edge import INPUTS, Edge, Receiver, Sender

Norm = tuple[Tensor | float, Tensor | float]


def norm_of(module: Any) -> Norm:
    """Gain and bias of a layer norm; one that processing has folded away has none."""
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    return (1.0 if weight is None else weight.detach()), (0.0 if bias is None else bias.detach())


def norm(its: Norm, x: Tensor, eps: float) -> Tensor:
    """A layer norm by hand."""
    x = x - x.mean(-1, keepdim=True)
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * its[0] + its[1]


class PlainModel:
    """GPT-2's forward pass, sender by sender and receiver by receiver, on one prompt."""

    def __init__(self, bridge: Any) -> None:
        self.cfg = bridge.cfg
        # Taken once: the bridge makes them anew whenever it is asked.
        names = ("W_E", "W_U", "W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V")
        self.weights = {name: getattr(bridge, name).detach() for name in names}
        self.W_pos = bridge.pos_embed.weight.detach()
        self.b_U = 0 if bridge.b_U is None else bridge.b_U.detach()
        self.mlps = [
            tuple(getattr(block.mlp, name).detach() for name in ("W_in", "b_in", "W_out", "b_out")) for block in bridge.blocks
        ]
        self.n_layers, self.n_heads = bridge.cfg.n_layers, bridge.cfg.n_heads
        self.ln1, self.ln2 = ([norm_of(getattr(block, name)) for block in bridge.blocks] for name in ("ln1", "ln2"))
        self.ln_final, self.b_O = norm_of(bridge.ln_final), [block.attn.b_O.detach() for block in bridge.blocks]
        #: Of the last pass, by layer and head.
        self.patterns: dict[tuple[int, int], Tensor] = {}

    def embed(self, tokens: Tensor) -> Tensor:
        """The stream before the first layer, `[pos, d_model]`."""
        return self.weights["W_E"][tokens] + self.W_pos[: len(tokens)]

    def project(self, layer: int, head: int, which: str, stream: Tensor) -> Tensor:
        """A head's query, key or value from the stream that it reads."""
        name = which.upper()
        normed = norm(self.ln1[layer], stream, self.cfg.eps)
        return normed @ self.weights[f"W_{name}"][layer, head] + self.weights[f"b_{name}"][layer, head]

    def head(self, layer: int, head: int, reads: dict[str, Tensor]) -> Tensor:
        """What a head writes, without the layer's bias, from what its queries, keys and values read."""
        q, k, v = (self.project(layer, head, which, reads[which]) for which in "qkv")
        pattern = self.pattern(q, k)
        self.patterns[layer, head] = pattern
        return pattern @ v @ self.weights["W_O"][layer, head]

    def pattern(self, q: Tensor, k: Tensor) -> Tensor:
        """Attention probabilities, `[query, key]`."""
        scores = q @ k.T / self.cfg.d_head**0.5
        return scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf).softmax(-1)

    def mlp(self, layer: int, reads: Tensor) -> Tensor:
        """What an MLP writes."""
        W_in, b_in, W_out, b_out = self.mlps[layer]
        hidden = norm(self.ln2[layer], reads, self.cfg.eps) @ W_in + b_in
        return F.gelu(hidden, approximate="tanh") @ W_out + b_out

    def logits(self, stream: Tensor) -> Tensor:
        """Logits at END."""
        return norm(self.ln_final, stream[-1], self.cfg.eps) @ self.weights["W_U"] + self.b_U

    def run(
        self,
        tokens: Tensor,
        instead: dict[Sender, Tensor] | None = None,
        kept: Collection[Edge] = (),
        fixed: dict[Sender, Tensor] | None = None,
    ) -> tuple[dict[Sender, Tensor], Tensor, dict[Receiver, Tensor]]:
        """What every sender writes, the logits at END, and what every receiver reads.

        instead: what a receiver reads in place of what a sender writes, over every edge that is not kept; None for an
        untouched pass. fixed: what some senders write, whatever they read.
        """
        kept, fixed = set(kept), fixed or {}
        now: dict[Sender, Tensor] = {Sender(): fixed.get(Sender(), self.embed(tokens))}
        bias = torch.zeros_like(now[Sender()])
        read: dict[Receiver, Tensor] = {}

        def reads(receiver: Receiver) -> Tensor:
            total = bias.clone()
            for sender, output in now.items():
                total = total + (output if instead is None or Edge(sender, receiver) in kept else instead[sender])
            read[receiver] = total
            return total

        for layer in range(self.n_layers):
            written = {}
            for head in range(self.n_heads):
                inputs: Any = {which: reads(Receiver(layer, head, which)) for which in INPUTS}
                output = self.head(layer, head, inputs)
                written[Sender(layer, head)] = fixed.get(Sender(layer, head), output)
            now |= written
            bias = bias + self.b_O[layer]
            output = self.mlp(layer, reads(Receiver(layer)))
            now[Sender(layer)] = fixed.get(Sender(layer), output)
        return now, self.logits(reads(Receiver())), read
