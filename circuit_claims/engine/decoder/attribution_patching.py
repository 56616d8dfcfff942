"""Attribution patching: activation patching to first order, every activation at once, by one gradient (Nanda 2023).

What patching an activation from the clean run into the corrupted one would change is estimated by the gradient of the logit
difference in the corrupted run times the change of the activation, clean minus corrupted. Two forward passes and one backward
give it for all layers, heads and positions. The passes are the engine's own steps, which are plain functions of plain tensors.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims import forward_passes
from circuit_claims.engine.decoder.steps import Steps
from circuit_claims.engine.edits import ATTRIBUTED, HEAD_SITES, Attributions, Site
from circuit_claims.engine.run import Run, slice_run
from circuit_claims.time_spent import spent_on


@spent_on("attribution patching")
def attributions(
    model: Steps,
    clean: Run,
    corrupted: Run,
    answers: Int[Tensor, "prompt 2"],
    *,
    memory: int | None = None,
) -> Attributions:
    """The first-order estimate, in logits, of what each patch clean into corrupted adds to the logit difference at END.

    answers: the two tokens whose logits are compared. Of a pattern, `pos` is the query's position, and all keys are summed; of
    everything else the width is. Where a head at all positions is meant, its positions are to be added up. Of a
        key or value that heads share, each head has its own estimate.
    memory: bytes that what is kept for the backward pass may take (the model's own cap unless given); prompts are split.
    """
    memory = model.max_memory if memory is None else memory
    n_prompts, length = clean.tokens.shape
    kept = length * (12 * model.d_model + 3 * model.d_mlp + 3 * model.n_heads * length)  # of one prompt in one layer
    step = max(1, memory // (model.n_layers * kept * model.W_E.element_size()))
    parts = []
    for first in range(0, n_prompts, step):
        some = slice(first, first + step)
        parts.append(_attributions(model, slice_run(clean, some), corrupted.tokens[some], answers[some]))
    return {site: torch.cat([part[site] for part in parts]) for site in ATTRIBUTED}


def _attributions(
    model: Steps, clean: Run, corrupted: Int[Tensor, "prompt pos"], answers: Int[Tensor, "prompt 2"]
) -> Attributions:
    forward_passes.count(len(corrupted))
    # Claims measure in inference mode, whose tensors no gradient passes: in here it is off.
    with torch.inference_mode(False), torch.enable_grad():
        stream, layers = model.embed(corrupted.clone()).requires_grad_(), []
        for layer in range(model.n_layers):
            inside, stream = _layer(model, layer, stream)
            layers.append(inside)
        logits = model.answer_logits(stream[:, -1], answers.clone())
        # No prompt sees another, so the gradient of the sum holds each one's own.
        gradients = torch.autograd.grad(
            (logits[:, 0] - logits[:, 1]).sum(), [inside[site] for inside in layers for site in ATTRIBUTED]
        )
    found: dict[Site, list[Tensor]] = {site: [] for site in ATTRIBUTED}
    with torch.inference_mode():
        for layer, corrupted_inside in enumerate(layers):
            wanted, _ = _layer(model, layer, clean.resid[layer])
            for site, gradient in zip(ATTRIBUTED, gradients[layer * len(ATTRIBUTED) :], strict=False):
                product = (gradient * (wanted[site] - corrupted_inside[site])).sum(-1)
                found[site].append(product.transpose(1, 2) if site == "pattern" else product)
    return {site: torch.stack(products, dim=1) for site, products in found.items()}


def _layer(model: Steps, layer: int, stream: Float[Tensor, "prompt pos d_model"]) -> tuple[dict[Site, Tensor], Tensor]:
    """What is inside a layer, each activation made from the one before it, and the stream after it."""
    # A key of a group is what each of its heads sees: a head's own estimate is of what this one alone makes of it.
    attention = model.ungrouped_attention(layer, stream)
    inside: dict[Site, Tensor] = {site: getattr(attention, site) for site in HEAD_SITES}
    mid = stream + attention.out
    inside |= {
        "resid_pre": stream,
        "attn_out": attention.out,
        "mlp_out": model.mlp(layer, stream if model.parallel else mid),
    }
    return inside, mid + inside["mlp_out"]
