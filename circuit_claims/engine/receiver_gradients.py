"""Gradients of a metric with respect to what receivers of edges read, as an engine gives them."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class ReceiverGradients:
    """One pass, and the gradients of each prompt's metric in it; every tensor is one layer's.

    pre: the stream before each layer. q, k, v: with respect to queries, keys and values as projected, of every query head
    (where heads share a key, of what this head alone makes of it); z: with respect to head outputs. mlp: with respect to the
    stream that the MLP reads, through the MLP alone. final: with respect to the final stream at END.
    """

    pre: list[Float[Tensor, "prompt pos d_model"]]
    q: list[Float[Tensor, "prompt pos head d_head"]]
    k: list[Float[Tensor, "prompt pos head d_head"]]
    v: list[Float[Tensor, "prompt pos head d_head"]]
    z: list[Float[Tensor, "prompt pos head d_head"]]
    mlp: list[Float[Tensor, "prompt pos d_model"]]
    final: Float[Tensor, "prompt d_model"]

    def of_input(self, which: str) -> list[Float[Tensor, "prompt pos head d_head"]]:
        """Those of queries (q), keys (k) or values (v)."""
        return {"q": self.q, "k": self.k, "v": self.v}[which]
