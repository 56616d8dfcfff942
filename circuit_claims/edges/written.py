"""What every sender writes into the residual stream in a run, and what stands in its place where an edge is left out."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims.edges.graph import EdgeGraph
from circuit_claims.engine.protocol import Engine
from circuit_claims.engine.run import Run

#: What stands in place of a sender's output where its edge is left out: what it writes on the corrupted prompt, or its mean
#: over reference prompts of the same form.
Ablation = Literal["resample", "mean"]


@dataclass(frozen=True)
class Outputs:
    """What senders write, as it is in the model: the embedding, head outputs z, and what MLPs add. All at all positions."""

    embedding: Float[Tensor, "prompt pos d_model"]
    z: Float[Tensor, "layer prompt pos head d_head"]
    mlp: Float[Tensor, "layer prompt pos d_model"]


@dataclass(frozen=True)
class Streams:
    """The residual stream of a run before each layer, as MLPs read it, and at END after the last."""

    pre: Float[Tensor, "layer prompt pos d_model"]
    mlp: Float[Tensor, "layer prompt pos d_model"]
    final: Float[Tensor, "prompt d_model"]


def outputs_of(model: Engine, run: Run) -> tuple[Outputs, Streams]:
    """What senders write in a run, and the streams that receivers read.

    Raises Unsupported where what heads write does not add up in the stream, so that there are no edges between parts.
    """
    model.needs("head_out", "z", "mlp_out")
    z, mlp, reads = [], [], []
    for layer in range(model.n_layers):
        inside = model.attention(layer, run.resid[layer])
        mid = run.resid[layer] + inside.out
        z.append(inside.z)
        mlp.append(run.resid[layer + 1] - mid)
        reads.append(run.resid[layer] if model.parallel else mid)
    outputs = Outputs(run.resid[0], torch.stack(z), torch.stack(mlp))
    return outputs, Streams(run.resid[:-1], torch.stack(reads), run.resid[-1][:, -1])


def difference(a: Outputs, b: Outputs) -> Outputs:
    """What is written in one more than in another, sender by sender."""
    return Outputs(a.embedding - b.embedding, a.z - b.z, a.mlp - b.mlp)


def in_the_stream(model: Engine, outputs: Outputs) -> Float[Tensor, "prompt sender pos d_model"]:
    """What each sender writes into the stream, without biases of attention layers, sender by sender in the graph's order.

    Of a difference of outputs it is the difference of what is written. It takes `senders × positions × d_model` numbers a
    prompt.
    """
    graph = EdgeGraph.of(model)
    n_prompts, length, width = outputs.embedding.shape
    found = outputs.embedding.new_empty(n_prompts, graph.n_senders, length, width)
    found[:, 0] = outputs.embedding
    for layer in range(model.n_layers):
        heads = graph.heads_of(layer)
        found[:, heads] = model.head_outs(layer, outputs.z[layer]).transpose(0, 1)
        found[:, heads.stop] = outputs.mlp[layer]
    return found
