"""Gradients of a metric with respect to what receivers of edges read, as an engine gives them."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class ReceiverGradients:
    """One pass, and the gradients of each prompt's metric in it; every tensor is one layer's.

    pre: the stream before each layer. q, k, v: with respect to queries, keys and values as projected, of every query head
    (where heads share a key, of what this head alone makes of it); z: with respect to head outputs. mlp: with respect to the
    stream that the MLP reads, through the MLP alone. final: with respect to the final stream at END. projected_q,
    projected_k, projected_v: the queries, keys and values themselves.
    """

    pre: list[Float[Tensor, "prompt pos d_model"]]
    q: list[Float[Tensor, "prompt pos head d_head"]]
    k: list[Float[Tensor, "prompt pos head d_head"]]
    v: list[Float[Tensor, "prompt pos head d_head"]]
    z: list[Float[Tensor, "prompt pos head d_head"]]
    mlp: list[Float[Tensor, "prompt pos d_model"]]
    final: Float[Tensor, "prompt d_model"]
    projected_q: list[Float[Tensor, "prompt pos head d_head"]]
    projected_k: list[Float[Tensor, "prompt pos head d_head"]]
    projected_v: list[Float[Tensor, "prompt pos head d_head"]]

    def of_input(self, which: str) -> list[Float[Tensor, "prompt pos head d_head"]]:
        """Those of queries (q), keys (k) or values (v)."""
        return {"q": self.q, "k": self.k, "v": self.v}[which]

    def projected(self, which: str) -> list[Float[Tensor, "prompt pos head d_head"]]:
        """Queries (q), keys (k) or values (v) themselves."""
        return {"q": self.projected_q, "k": self.projected_k, "v": self.projected_v}[which]
