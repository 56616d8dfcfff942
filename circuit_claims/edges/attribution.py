"""Scores of all edges by gradients: edge attribution patching, and with integrated gradients.

A score is the first-order estimate of what noising the edge alone would cost, in the metric's unit: what the sender writes on
the clean prompt minus what it writes on the corrupted one, times the gradient of the metric with respect to what the receiver
reads. It is positive where the edge helps. The passes differ in where the gradient is taken:

EAP (Syed et al. 2023, section 3): on the clean prompt.
EAP-IG inputs (Hanna et al. 2024, section 3.2): averaged over passes whose embedding goes from the corrupted prompt's to the
    clean one's, at 0, 1/n, …, (n − 1)/n of the way as in the authors' code. Positions are the same in both.
EAP-IG activations (MIB, Mueller et al. 2025): averaged over passes on the clean prompt in each of which one part alone, the
    embedding, a layer's attention or an MLP, writes something between what it does on both prompts, at 1/n, …, 1 of the way to
    the clean one; no gradient passes through that part then.

A prompt takes `(senders + 3 × heads) × positions × d_model` numbers, and what the backward pass keeps: products of changes and
gradients are matrix products over positions, and no edge has a tensor of its own.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims.edges.changes import Value, changes, in_prompts
from circuit_claims.edges.edge import INPUTS
from circuit_claims.edges.graph import EdgeGraph
from circuit_claims.edges.written import Streams
from circuit_claims.engine.edits import Site
from circuit_claims.engine.protocol import Engine
from circuit_claims.engine.receiver_gradients import ReceiverGradients
from circuit_claims.engine.run import Run
from circuit_claims.time_spent import spent_on

#: How many interpolation steps the papers take where they say so (Hanna et al. 2024, section 4.1; MIB).
STEPS = 5
#: Passes whose gradients are kept until they meet the changes: more would save products, and take memory.
PASSES_AT_ONCE = 5

#: Where a pass begins, and what some parts write in it.
Pass = tuple[Float[Tensor, "prompt pos d_model"], dict[tuple[int, Site], Tensor]]
#: The passes over which gradients are averaged, from the clean and the corrupted run.
Passes = Callable[[Run, Run, Streams, Streams], Iterator[Pass]]


def eap(
    model: Engine, clean: Run, corrupted: Run, value: Callable[[slice], Value], *, memory: int | None = None
) -> Float[Tensor, "prompt edge"]:
    """Edge attribution patching: the gradient on the clean prompt.

    Raises Unsupported where the engine has no gradients, or heads' outputs do not add up.
    """

    def passes(clean: Run, corrupted: Run, streams: Streams, others: Streams) -> Iterator[Pass]:
        yield clean.resid[0], {}

    return attributed(model, clean, corrupted, value, passes, 1, memory=memory)


def eap_ig_inputs(
    model: Engine,
    clean: Run,
    corrupted: Run,
    value: Callable[[slice], Value],
    *,
    steps: int = STEPS,
    memory: int | None = None,
) -> Float[Tensor, "prompt edge"]:
    """EAP with gradients averaged over interpolated embeddings.

    Raises Unsupported as `eap` does.
    """

    def passes(clean: Run, corrupted: Run, streams: Streams, others: Streams) -> Iterator[Pass]:
        for step in range(steps):
            yield corrupted.resid[0] + step / steps * (clean.resid[0] - corrupted.resid[0]), {}

    return attributed(model, clean, corrupted, value, passes, steps, memory=memory)


def eap_ig_activations(
    model: Engine,
    clean: Run,
    corrupted: Run,
    value: Callable[[slice], Value],
    *,
    steps: int = STEPS,
    memory: int | None = None,
) -> Float[Tensor, "prompt edge"]:
    """EAP with gradients averaged over passes in which one part after the other is interpolated.

    It takes `steps` passes for the embedding, and as many for each attention layer and each MLP.

    Raises Unsupported as `eap` does.
    """

    def passes(clean: Run, corrupted: Run, streams: Streams, others: Streams) -> Iterator[Pass]:
        shares = [step / steps for step in range(1, steps + 1)]
        for share in shares:
            yield torch.lerp(corrupted.resid[0], clean.resid[0], share), {}
        for layer in range(model.n_layers):
            for site in ("attn_out", "mlp_out"):
                mine, other = (part_written(model, run, layer, site) for run in (clean, corrupted))
                for share in shares:
                    yield clean.resid[0], {(layer, site): torch.lerp(other, mine, share)}

    return attributed(model, clean, corrupted, value, passes, steps * (2 * model.n_layers + 1), memory=memory)


def part_written(model: Engine, run: Run, layer: int, site: Site) -> Float[Tensor, "prompt pos d_model"]:
    """What a layer's attention (attn_out, bias included) or MLP (mlp_out) writes in a run."""
    out = model.attention(layer, run.resid[layer]).out
    return out if site == "attn_out" else run.resid[layer + 1] - run.resid[layer] - out


@spent_on("edge attribution")
@torch.inference_mode()
def attributed(
    model: Engine,
    clean: Run,
    corrupted: Run,
    value: Callable[[slice], Value],
    passes: Passes,
    n_passes: int,
    *,
    memory: int | None = None,
) -> Float[Tensor, "prompt edge"]:
    """The changes of what senders write times the gradients of receivers, averaged over passes."""
    memory = model.max_memory if memory is None else memory

    def measure(clean: Run, corrupted: Run, value: Value) -> Tensor:
        change, streams = changes(model, clean, corrupted)
        total = change.new_zeros(len(change), len(EdgeGraph.of(model)))
        gradients: list[ReceiverGradients] = []
        for number, (embedded, replaced) in enumerate(passes(clean, corrupted, streams, streams)):
            gradients.append(model.receiver_gradients(embedded, value, replaced))
            if len(gradients) == PASSES_AT_ONCE or number == n_passes - 1:
                total += products(model, change, gradients)
                gradients = []
        return total / n_passes

    one = bytes_of_a_prompt(model, clean, min(n_passes, PASSES_AT_ONCE))
    return in_prompts(clean, corrupted, value, one, memory, measure)


def products(
    model: Engine,
    change: Float[Tensor, "prompt sender pos d_model"],
    gradients: Sequence[ReceiverGradients],
    inputs: Sequence[str] = INPUTS,
) -> Float[Tensor, "prompt edge"]:
    """What each sender's change gives by the gradients of each receiver, summed over passes, prompt by prompt.

    inputs: of heads, those of which edges are scored; edges into others are 0.
    """
    graph = EdgeGraph.of(model)
    flat = change.flatten(2)
    found = change.new_zeros(len(change), len(graph))

    def put(receiver: int, of_receivers: Float[Tensor, "prompt receiver sender"]) -> None:
        first = int(graph.offsets[receiver])
        found[:, first : first + of_receivers[0].numel()] = of_receivers.flatten(1)

    for layer in range(graph.n_layers):
        before = change[:, : int(graph.fan_in[graph.inputs_of(layer, "q").start])]
        into_heads = model.head_products(layer, before, gradients, inputs).unflatten(1, (len(inputs), -1))
        for number, which in enumerate(inputs):
            put(graph.inputs_of(layer, which).start, into_heads[:, number])
        mlp = graph.inputs_of(layer, "v").stop
        rows = torch.stack([one.mlp[layer] for one in gradients]).sum(0).flatten(1)[:, None]
        put(mlp, torch.bmm(rows, flat[:, : int(graph.fan_in[mlp])].transpose(1, 2)))
    final = torch.stack([one.final for one in gradients]).sum(0)
    found[:, int(graph.offsets[-2]) :] = torch.einsum("psd,pd->ps", change[:, :, -1], final)
    return found


def bytes_of_a_prompt(model: Engine, clean: Run, n_passes: int) -> int:
    """What one prompt takes at most: changes, gradients of one layer's heads, and what backward passes keep."""
    length, graph = clean.tokens.shape[1], EdgeGraph.of(model)
    changes = (graph.n_senders + 9 * model.n_heads) * model.d_model
    d_mlp = getattr(model, "d_mlp", 4 * model.d_model)
    under_way = model.n_layers * (14 * model.d_model + 3 * d_mlp + 3 * model.n_heads * length)
    kept = n_passes * model.n_layers * 9 * model.d_model
    return length * (changes + under_way + kept) * clean.resid.element_size()
