"""Attribution patching of edges with the correction for saturated attention (AtP*, Kramár et al. 2024, section 3.1, "QK fix").

Where attention is saturated, the gradient through the softmax is next to nothing, and a change of a query or key that would
move the attention is missed. So edges into queries and keys are not linearised through the softmax: each is put into its
receiver, the head's attention is computed anew, and what comes of it is the change of what the head averages times the
gradient with respect to that, which is the change of the pattern times the gradient of the pattern. All positions of an edge
are changed at once, as everywhere here; the paper's nodes are keys at one position. Edges into values, MLPs and logits are
EAP's. GradDrop, the paper's second correction, is not made.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims import forward_passes
from circuit_claims.edges.attribution import bytes_of_a_prompt, products
from circuit_claims.edges.changes import Value, changes, in_prompts
from circuit_claims.edges.graph import EdgeGraph
from circuit_claims.engine.protocol import Engine
from circuit_claims.engine.receiver_gradients import ReceiverGradients
from circuit_claims.engine.run import ROWS, Attention, Run
from circuit_claims.time_spent import spent_on


@spent_on("edge attribution")
@torch.inference_mode()
def atp_qk_fix(
    model: Engine, clean: Run, corrupted: Run, value: Callable[[slice], Value], *, memory: int | None = None
) -> Float[Tensor, "prompt edge"]:
    """Attribution patching of edges with attention computed anew for edges into queries and keys.

    Raises Unsupported where the engine has no gradients, or heads' outputs do not add up.
    """
    memory = model.max_memory if memory is None else memory

    def measure(clean: Run, corrupted: Run, value: Value) -> Tensor:
        change, streams = changes(model, clean, corrupted)
        gradients = model.receiver_gradients(clean.resid[0], value, {})
        found = products(model, change, [gradients], inputs="v")
        graph = EdgeGraph.of(model)
        forward_passes.count(len(change) * graph.n_senders)
        for layer in range(graph.n_layers):
            for which, of_heads in _with_attention(model, layer, change, streams.pre[layer], gradients).items():
                first, n = int(graph.offsets[graph.inputs_of(layer, which).start]), of_heads[0].numel()
                found[:, first : first + n] = of_heads.flatten(1)
        return found

    return in_prompts(clean, corrupted, value, bytes_of_a_prompt(model, clean, 1), memory, measure)


def _with_attention(
    model: Engine,
    layer: int,
    change: Float[Tensor, "prompt sender pos d_model"],
    stream: Float[Tensor, "prompt pos d_model"],
    gradients: ReceiverGradients,
) -> dict[str, Float[Tensor, "prompt head sender"]]:
    """What every sender's change gives through queries (q) and keys (k) of a layer's heads."""
    graph, (n_prompts, _, length, _) = EdgeGraph.of(model), change.shape
    n = int(graph.fan_in[graph.inputs_of(layer, "q").start])
    inside = model.attention(layer, stream)
    own = {which: _of_each_head(model, inside, which) for which in "qkv"}
    step, found = max(1, ROWS // (n_prompts * length)), {"q": [], "k": []}
    for first in range(0, n, step):
        some = change[:, first : min(n, first + step)].transpose(0, 1)  # [sender, prompt, pos, d_model]
        noised = model.attention(layer, (stream - some).flatten(0, 1))
        as_many = {which: part.expand(len(some), *part.shape).flatten(0, 1) for which, part in own.items()}
        for which in found:
            z = model.attend(layer, **(as_many | {which: _of_each_head(model, noised, which)})).unflatten(0, (len(some), -1))
            found[which].append(torch.einsum("spthd,pthd->phs", inside.z - z, gradients.z[layer]))
    return {which: torch.cat(parts, -1) for which, parts in found.items()}


def _of_each_head(model: Engine, inside: Attention, which: str) -> Float[Tensor, "prompt pos head d_head"]:
    part = getattr(inside, which)
    shared = model.n_heads // part.shape[-2]
    return part if shared == 1 else part.repeat_interleave(shared, -2)
