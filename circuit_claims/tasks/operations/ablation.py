"""What a knocked-out part's output is replaced with.

Mean: its average over a reference distribution, prompts of the same template and order position by position (Wang et al. 2022,
section 2, "knockouts", over p_ABC). Zero: nothing. Resample: what it writes on another prompt of the reference distribution.
The choice moves results a great deal (from nothing to nine tenths of a circuit's faithfulness), so every row says which it was.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims.engine.protocol import Engine
from circuit_claims.engine.run import Run

Ablation = Literal["mean", "zero", "resample"]
ABLATIONS: tuple[Ablation, ...] = ("mean", "zero", "resample")


def head_outputs(model: Engine, run: Run, layers: Sequence[int]) -> dict[int, Float[Tensor, "prompt pos head d_head"]]:
    """z of all heads of some layers, at all positions."""
    everywhere = torch.arange(run.tokens.shape[1], device=run.tokens.device).expand(run.tokens.shape)
    return {layer: model.head_outputs_at(run, layer, everywhere) for layer in layers}
