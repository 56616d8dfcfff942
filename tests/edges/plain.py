"""Slow, plain twins: one prompt, one edge and one position's stream at a time, from the bridge's weights by hand."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from circuit_claims.edges.edge import Edge, Receiver, Sender


def norm(module: Any, x: Tensor, eps: float) -> Tensor:
    """A layer norm by hand."""
    x = x - x.mean(-1, keepdim=True)
    x = x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    return (x if weight is None else x * weight) + (0 if bias is None else bias)


class PlainModel:
    """GPT-2's forward pass, sender by sender and receiver by receiver, on one prompt."""

    def __init__(self, bridge: Any) -> None:
        self.bridge, self.cfg = bridge, bridge.cfg
        self.weights = {name: getattr(bridge, name).detach() for name in ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V")}
        self.n_layers, self.n_heads = bridge.cfg.n_layers, bridge.cfg.n_heads
        #: Of the last pass, by layer and head.
        self.patterns: dict[tuple[int, int], Tensor] = {}

    def embed(self, tokens: Tensor) -> Tensor:
        """The stream before the first layer, `[pos, d_model]`."""
        return self.bridge.W_E[tokens] + self.bridge.pos_embed.weight[: len(tokens)]

    def project(self, layer: int, head: int, which: str, stream: Tensor) -> Tensor:
        """A head's query, key or value from the stream that it reads."""
        name = which.upper()
        normed = norm(self.bridge.blocks[layer].ln1, stream, self.cfg.eps)
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
        block = self.bridge.blocks[layer]
        hidden = norm(block.ln2, reads, self.cfg.eps) @ block.mlp.W_in + block.mlp.b_in
        return F.gelu(hidden, approximate="tanh") @ block.mlp.W_out + block.mlp.b_out

    def logits(self, stream: Tensor) -> Tensor:
        """Logits at END."""
        bias = 0 if self.bridge.b_U is None else self.bridge.b_U
        return norm(self.bridge.ln_final, stream[-1], self.cfg.eps) @ self.bridge.W_U + bias

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
                inputs: Any = {which: reads(Receiver(layer, head, which)) for which in "qkv"}
                output = self.head(layer, head, inputs)
                written[Sender(layer, head)] = fixed.get(Sender(layer, head), output)
            now |= written
            bias = bias + self.bridge.blocks[layer].attn.b_O
            output = self.mlp(layer, reads(Receiver(layer)))
            now[Sender(layer)] = fixed.get(Sender(layer), output)
        return now, self.logits(reads(Receiver())), read
