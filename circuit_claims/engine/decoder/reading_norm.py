"""The norm before a layer's projections to queries, keys and values, as the derivative that products of edges need.

A layer norm or RMS norm is `gain × x̂ + bias`, with `x̂ = (x − mean) / scale` (of an RMS norm without the mean). By the chain
rule a change of x passes it as `gain × (change − mean of change − x̂ (x̂ · change) / d) / scale`: a linear map that all
passes have in common, but for their scales, less a term of rank one a position.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims.engine.final_norm import FinalNorm


@dataclass(frozen=True)
class ReadingNorm:
    """gain: of each entry; eps: below the root; centred: whether the mean is taken out, as by a layer norm."""

    gain: Float[Tensor, " d_model"]
    eps: float
    centred: bool

    def taken_apart(
        self, x: Float[Tensor, "*batch d_model"]
    ) -> tuple[Float[Tensor, "*batch d_model"], Float[Tensor, "*batch 1"]]:
        """x̂ and the scale."""
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        scale = (x.pow(2).mean(-1, keepdim=True) + self.eps).sqrt()
        return x / scale, scale


@torch.inference_mode(False)
@torch.no_grad()
def reading_norm_of(module: Any, like: Float[Tensor, "*batch d_model"]) -> ReadingNorm | None:
    """The norm that a module is, by what it does; None where it is neither a layer norm nor an RMS norm."""
    norm = FinalNorm(module, like)
    if not norm.known:
        return None
    # Without its scale it multiplies each entry, once the mean, which is 0 of these but for an odd width, is out.
    signs = torch.ones(1, like.shape[-1], dtype=like.dtype, device=like.device)
    signs[:, ::2] = -1.0
    centred = signs - signs.mean() if norm.centred else signs
    return ReadingNorm((norm.frozen(signs, None) / centred)[0], norm.eps, norm.centred)
