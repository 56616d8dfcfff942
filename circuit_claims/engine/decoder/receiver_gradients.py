"""Gradients with respect to what receivers of edges read: one pass forward and one back through the engine's own steps."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims import forward_passes
from circuit_claims.engine.decoder.steps import Steps
from circuit_claims.engine.edits import Site
from circuit_claims.engine.receiver_gradients import ReceiverGradients
from circuit_claims.time_spent import spent_on


@spent_on("edge attribution")
def receiver_gradients(
    model: Steps,
    embedded: Float[Tensor, "prompt pos d_model"],
    metric: Callable[[Float[Tensor, "prompt d_model"]], Float[Tensor, " prompt"]],
    replaced: Mapping[tuple[int, Site], Float[Tensor, "prompt pos d_model"]] | None = None,
) -> ReceiverGradients:
    """The gradients of `metric`, a number a prompt of the final stream at END, in a pass that begins with `embedded`.

    replaced: what attention or MLP of some layers write in place of what they would, constants of the pass.
    """
    forward_passes.count(len(embedded))
    replaced = replaced or {}
    # Claims measure in inference mode, whose tensors no gradient passes: in here it is off.
    with torch.inference_mode(False), torch.enable_grad():
        stream = embedded.clone().requires_grad_()
        inside: list[Tensor] = []  # of each layer q, k, v, z and what the MLP reads
        pre: list[Tensor] = []
        for layer in range(model.n_layers):
            pre.append(stream.detach())
            # A key of a group is what each of its heads sees: a head's own gradient is of what this one alone makes of it.
            attention = model.ungrouped_attention(layer, stream)
            out = replaced.get((layer, "attn_out"))
            mid = stream + (attention.out if out is None else out.clone())
            # A tensor of its own, so that its gradient is of what the MLP alone makes of it.
            reads = (stream if model.parallel else mid).view_as(stream)
            written = replaced.get((layer, "mlp_out"))
            inside += [attention.q, attention.k, attention.v, attention.z, reads]
            stream = mid + (model.mlp(layer, reads) if written is None else written.clone())
        end = stream[:, -1]
        # No prompt sees another, so the gradient of the sum holds each one's own.
        found = torch.autograd.grad(metric(end).sum(), [*inside, end], allow_unused=True)
    *of_layers, final = (
        torch.zeros_like(tensor) if gradient is None else gradient
        for gradient, tensor in zip(found, [*inside, end], strict=True)
    )
    q, k, v, z, mlp = (of_layers[place::5] for place in range(5))
    projected = ([tensor.detach() for tensor in inside[place::5]] for place in range(3))
    return ReceiverGradients(pre, q, k, v, z, mlp, final, *projected)


@spent_on("edge attribution")
def head_products(
    model: Steps,
    layer: int,
    change: Float[Tensor, "prompt sender pos d_model"],
    gradients: Sequence[ReceiverGradients],
    inputs: Sequence[str] = ("q", "k", "v"),
) -> Float[Tensor, "prompt receiver sender"]:
    """Changes of the stream before the layer times the gradients of what its heads read, summed over positions and passes.

    Receivers are the heads' queries, then their keys, then their values, those of `inputs`.
    """
    norm = model.reading_norm(layer)
    weights = [model.head_weights(layer, which) for which in inputs]
    if norm is None or any(weight is None for weight in weights):
        rows = torch.cat([_read_gradients(model, layer, which, gradients) for which in inputs])
        return torch.bmm(rows.flatten(2).transpose(0, 1), change.flatten(2).transpose(1, 2))
    # [receiver, d_model, d_head], with the norm's gain.
    weight = torch.cat([one for one in weights if one is not None]) * norm.gain[:, None]
    # What x̂ makes of a projection, biases apart: of a stream of zeros it is 0.
    zeros = gradients[0].pre[layer].new_zeros(model.n_heads, 1, 1, model.d_model)
    constant = torch.cat([model.head_inputs(layer, which, zeros) for which in inputs], -2)
    units, scaled, own = [], [], []
    for one in gradients:
        unit, scale = norm.taken_apart(one.pre[layer])
        units.append(unit)
        own.append(torch.cat([one.projected(which)[layer] for which in inputs], -2) - constant)
        scaled.append(torch.cat([one.of_input(which)[layer] for which in inputs], -2) / scale[..., None])
    # What passes have in common is projected once, and not pass by pass.
    rows = torch.einsum("ptrk,rdk->prtd", torch.stack(scaled).sum(0), weight)
    if norm.centred:
        rows = rows - rows.mean(-1, keepdim=True)
    found = torch.bmm(rows.flatten(2), change.flatten(2).transpose(1, 2))
    # The scale changes with the stream: of each pass a term of rank one a position.
    along = torch.einsum("pstd,ptdn->pstn", change, torch.stack(units, -1)) / model.d_model
    for number, gradient in enumerate(scaled):
        found -= torch.einsum("ptr,pst->prs", (own[number] * gradient).sum(-1), along[..., number])
    return found


def _read_gradients(
    model: Steps, layer: int, which: str, gradients: Sequence[ReceiverGradients]
) -> Float[Tensor, "head prompt pos d_model"]:
    """Gradients with respect to the stream as each head reads it, by another backward pass, whatever norm there is."""
    total = torch.zeros((), dtype=gradients[0].pre[layer].dtype, device=gradients[0].pre[layer].device)
    with torch.inference_mode(False), torch.enable_grad():
        for one in gradients:
            own = one.pre[layer].clone().expand(model.n_heads, *one.pre[layer].shape).clone().requires_grad_()
            gradient = one.of_input(which)[layer].clone()
            total = total + torch.autograd.grad(model.head_inputs(layer, which, own), own, gradient)[0]
    return total
