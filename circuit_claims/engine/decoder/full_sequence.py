"""Interventions seen at all positions: what `circuit_claims.engine.decoder.patching.intervene` gives at the last one alone.

Claims on loss ask for every position. There is no cone to keep to then but the layers after the first edit.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims import forward_passes
from circuit_claims.engine.decoder.layer import BaseLayer, through
from circuit_claims.engine.decoder.transformer import Run, Transformer
from circuit_claims.engine.edits import Edit, set_activation
from circuit_claims.time_spent import spent_on

if TYPE_CHECKING:
    from circuit_claims.engine.hooked.decoder import HookedDecoder


@spent_on("interventions")
@torch.inference_mode()
def final_stream(model: "Transformer | HookedDecoder", base: Run, edits: Sequence[Edit]) -> Float[Tensor, "prompt pos d_model"]:
    """The final residual stream at all positions under edits that are made together, before the final layer norm.

    Raises Untested, with the reason, where an edit has no meaning in the model's architecture.
    """
    if not edits:
        return base.resid[-1]
    first = min(edit.layer for edit in edits)
    if not isinstance(model, Transformer):
        from circuit_claims.engine.hooked import patching

        return patching.all_positions(model, base, edits)
    forward_passes.count(len(base.tokens))
    stream = base.resid[first][None].clone()
    for layer in range(first, model.n_layers):
        here = BaseLayer(model, base, layer, 0, seen=0)
        stream = through(here, stream, [[edit for edit in edits if edit.layer == layer]])
    return stream[0]


@torch.inference_mode()
def pattern_with_keys(model: "Transformer | HookedDecoder", base: Run, edit: Edit) -> Float[Tensor, "prompt query key"]:
    """One head's attention probabilities with its keys set, its queries as they are.

    Raises Untested where query heads share their keys in groups: one head's alone are then in no activation.
    """
    if not isinstance(model, Transformer):
        from circuit_claims.engine.hooked import patching

        return patching.pattern_under(model, base, edit)
    inside = model.attention(edit.layer, base.resid[edit.layer])
    keys = set_activation(inside.k.clone(), edit)
    one = slice(edit.head, edit.head + 1)
    return model.pattern(inside.q[:, :, one], keys[:, :, one])[:, 0]
