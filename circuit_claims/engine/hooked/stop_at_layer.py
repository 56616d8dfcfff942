"""A forward pass up to a layer, and one from a layer on with whatever stream is put there, through hooks."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims import forward_passes
from circuit_claims.engine.hooked.steps import HookedSteps
from circuit_claims.time_spent import spent_on


@spent_on("forward passes")
@torch.inference_mode()
def stop_at_layer(model: HookedSteps, tokens: Int[Tensor, "prompt pos"], layer: int) -> Float[Tensor, "prompt pos d_model"]:
    """The residual stream before `layer`; with the number of layers, after the last one. No later layer is computed."""
    forward_passes.count(len(tokens))
    last = layer == model.n_layers
    place = (layer - 1, "resid_post") if last else (layer, "resid_pre")
    return model.passes.read(tokens, [place], stop=layer if last else layer + 1)[place]


@spent_on("interventions")
@torch.inference_mode()
def start_at_layer(
    model: HookedSteps, stream: Float[Tensor, "prompt pos d_model"], layer: int
) -> Float[Tensor, "prompt pos d_model"]:
    """The final residual stream, before the last norm, where `stream` stands before `layer`; it stays as it is."""
    forward_passes.count(len(stream))
    if layer == model.n_layers:
        return stream
    place = (model.n_layers - 1, "resid_post")
    return model.passes.read(model.some_tokens(stream), [place], start=layer, stream=stream)[place]
