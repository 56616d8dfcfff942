"""Interventions over the full sequence: what `circuit_claims.engine.decoder.patching.intervene` gives at END, at all positions.

Claims on loss ask for every position. The causal cone is then all positions of the layers after the first edit.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims import forward_passes
from circuit_claims.engine.decoder.layer import BaseLayer, through
from circuit_claims.engine.decoder.steps import Steps
from circuit_claims.engine.edits import Edit, set_activation, slice_edit
from circuit_claims.engine.run import Run, slice_run
from circuit_claims.time_spent import spent_on


@spent_on("interventions")
@torch.inference_mode()
def final_stream(model: Steps, base: Run, edits: Sequence[Edit]) -> Float[Tensor, "prompt pos d_model"]:
    """The final residual stream at all positions under edits that are made together, before the final layer norm."""
    if not edits:
        return base.resid[-1]
    model.check_edits(edits)
    forward_passes.count(len(base.tokens))
    n_prompts, length = base.tokens.shape
    # The stream, and as much again; and the scores of all heads, which may be looked at one by one.
    one = length * (2 * model.d_model + 3 * model.n_heads * length) * base.resid.element_size()
    step = max(1, model.max_memory // one)
    parts = []
    for at in range(0, n_prompts, step):
        chunk = slice(at, at + step)
        parts.append(_of_prompts(model, slice_run(base, chunk), [slice_edit(edit, chunk) for edit in edits]))
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _of_prompts(model: Steps, base: Run, edits: Sequence[Edit]) -> Float[Tensor, "prompt pos d_model"]:
    first = min(edit.layer for edit in edits)
    stream = base.resid[first][None].clone()
    for layer in range(first, model.n_layers):
        here = BaseLayer(model, base, layer, 0, seen=0)
        stream = through(here, stream, [[edit for edit in edits if edit.layer == layer]])
    return stream[0]


@torch.inference_mode()
def pattern_with_keys(model: Steps, base: Run, edit: Edit) -> Float[Tensor, "prompt query key"]:
    """One head's attention probabilities with its keys set, its queries as they are."""
    model.check_edits([edit])
    core, length = model.core(edit.layer), base.tokens.shape[1]
    q, shared, _ = model.qkv(edit.layer, base.resid[edit.layer])
    keys = core.turned_own_k(shared, set_activation(core.of_each_head(shared).clone(), edit), 0, length)
    one = slice(edit.one_head, edit.one_head + 1)
    return core.pattern(core.turned_q(q, 0, length)[:, :, one], keys[:, :, one])[:, 0]
