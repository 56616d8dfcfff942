"""Gradients with respect to what receivers of edges read: one pass forward and one back through the engine's own steps."""

from collections.abc import Callable, Mapping

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
    return ReceiverGradients(pre, q, k, v, z, mlp, final)


def head_input_gradients(
    model: Steps,
    layer: int,
    which: str,
    resid: Float[Tensor, "prompt pos d_model"],
    gradient: Float[Tensor, "prompt pos head d_head"],
) -> Float[Tensor, "head prompt pos d_model"]:
    """Gradients with respect to the stream as each head reads it, through the norm and its projection to q, k or v."""
    with torch.inference_mode(False), torch.enable_grad():
        weight = model.head_weights(layer, which)
        if weight is None:
            own = resid.clone().expand(model.n_heads, *resid.shape).clone().requires_grad_()
            return torch.autograd.grad(model.head_inputs(layer, which, own), own, gradient.clone())[0]
        # All heads read one stream here, so that its norm is taken once, and goes back for all of them.
        by_head = torch.einsum("pthk,hdk->hptd", gradient.clone(), weight)
        stream = resid.clone().requires_grad_()
        normed = model.normed_for_heads(layer, stream)
        if normed is stream:
            return by_head
        return torch.autograd.grad(normed, stream, by_head, is_grads_batched=True)[0]
