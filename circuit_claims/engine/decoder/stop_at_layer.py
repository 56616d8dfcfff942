"""A forward pass up to a layer, and one from a layer on with whatever stream is put there, at all positions.

What a sparse autoencoder needs: training reads the stream before one layer and nothing behind it, and splicing puts a
reconstruction there. `circuit_claims.engine.decoder.patching.intervene` is cheaper where only the last position is looked at.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims import forward_passes
from circuit_claims.engine.decoder.steps import Steps
from circuit_claims.time_spent import spent_on


@spent_on("forward passes")
@torch.inference_mode()
def stop_at_layer(model: Steps, tokens: Int[Tensor, "prompt pos"], layer: int) -> Float[Tensor, "prompt pos d_model"]:
    """The residual stream before `layer`; with the number of layers, after the last one. No later layer is computed."""
    forward_passes.count(len(tokens))
    return _through(model, model.embed(tokens), 0, layer)


@spent_on("interventions")
@torch.inference_mode()
def start_at_layer(
    model: Steps, stream: Float[Tensor, "prompt pos d_model"], layer: int
) -> Float[Tensor, "prompt pos d_model"]:
    """The final residual stream, before the last norm, where `stream` stands before `layer`; it stays as it is."""
    forward_passes.count(len(stream))
    if layer == model.n_layers:
        return stream
    return _through(model, stream.clone(memory_format=torch.contiguous_format), layer, model.n_layers)


def _through(
    model: Steps, stream: Float[Tensor, "prompt pos d_model"], first: int, stop: int
) -> Float[Tensor, "prompt pos d_model"]:
    """The stream through some layers, in place."""
    for layer in range(first, stop):
        model.through_layer_(layer, stream)
    return stream
