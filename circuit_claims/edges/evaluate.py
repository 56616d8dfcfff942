"""A set of edges evaluated exactly: what the model makes of the prompts where all other edges are left out.

A receiver reads the sum of what senders write. Over an edge of the set it reads what the sender writes *now*, in this very
pass; over an edge that is left out, what stands in the sender's place: its output on the corrupted prompt (`resample`), or
its mean. All receivers are recomputed, in the order of the model, so that what a head writes now is what it makes of what it
reads now. The embedding is a sender, too: what it writes now is the clean prompt's.

    read(r) = stand-in stream(r) + Σ over edges s → r of the set of (s now − s's stand-in)

With all edges this is the clean model, with none the corrupted one (Conmy et al. 2023, section 3; Hanna et al. 2024, section 2;
MIB, Mueller et al. 2025, appendix). It is noising: the clean prompt is what runs, and leaving out an edge noises it.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuit_claims import forward_passes
from circuit_claims.edges.edge import INPUTS
from circuit_claims.edges.graph import EdgeGraph
from circuit_claims.edges.written import Outputs, Streams, difference, in_the_stream, outputs_of
from circuit_claims.engine.protocol import Engine
from circuit_claims.engine.run import Run, slice_run
from circuit_claims.time_spent import spent_on


@spent_on("circuits of edges")
@torch.inference_mode()
def evaluate(
    model: Engine,
    clean: Run,
    stand_in: Run | Outputs,
    masks: Bool[np.ndarray, "set edge"],
    *,
    memory: int | None = None,
) -> Float[Tensor, "set prompt d_model"]:
    """The final stream at END, before the last norm, of each of several sets of edges.

    stand_in: the run on the corrupted prompts, of the clean ones' length, or outputs (means, say) that stand in place of what
        senders write. memory: bytes that what senders write may take (the engine's own cap unless given): sets and prompts are
        split to stay below, but a set on a prompt always goes whole, `2 × senders × positions × d_model` numbers.

    Raises EdgeError for masks of another model's edges, and Unsupported where heads' outputs do not add up.
    """
    graph = EdgeGraph.of(model)
    graph.checked(masks)
    memory = model.max_memory if memory is None else memory
    n_prompts, length = clean.tokens.shape
    forward_passes.count(n_prompts * len(masks))
    # What senders write now, what stands in for it, and the streams that heads of one layer read, with their norm.
    one = (2 * graph.n_senders + 3 * graph.n_heads) * length * model.d_model * clean.resid.element_size()
    fitting = max(1, memory // one)
    sets, step = max(1, min(len(masks), fitting // min(n_prompts, fitting))), min(n_prompts, fitting)
    parts = []
    for at in range(0, n_prompts, step):
        chunk = slice(at, at + step)
        base = EdgeEvaluator(model, slice_run(clean, chunk), _slice(stand_in, chunk))
        found = [base.of_sets(graph.matrices(masks[first : first + sets])) for first in range(0, len(masks), sets)]
        parts.append(torch.cat(found) if found else clean.resid.new_empty(0, len(base.clean.tokens), model.d_model))
    return torch.cat(parts, dim=1)


def _slice(stand_in: Run | Outputs, chunk: slice) -> Run | Outputs:
    if isinstance(stand_in, Run):
        return slice_run(stand_in, chunk)
    return Outputs(stand_in.embedding[chunk], stand_in.z[:, chunk], stand_in.mlp[:, chunk])


class EdgeEvaluator:
    """The clean run, and what stands in for it: streams and outputs that all sets of edges have in common.

    For whoever evaluates sets one after the other on the same prompts; `evaluate` is for sets that are known together.
    """

    def __init__(self, model: Engine, clean: Run, stand_in: Run | Outputs) -> None:
        """Look into both runs once; what senders write is kept, `senders × positions × d_model` numbers a prompt."""
        self.model, self.graph, self.clean = model, EdgeGraph.of(model), clean
        outputs, streams = outputs_of(model, clean)
        instead = outputs_of(model, stand_in)[0] if isinstance(stand_in, Run) else stand_in
        # Of clean minus stand-in, every sender: what an edge that is kept carries while nothing before it has changed.
        self.kept = in_the_stream(model, difference(outputs, instead)).transpose(0, 1).contiguous()  # [sender, prompt, ...]
        self.instead = instead
        self.streams = self._stand_in_streams(streams)

    def _stand_in_streams(self, streams: Streams) -> Streams:
        """What receivers read where no edge is kept: the clean streams less what all senders before them lose."""
        graph, totals = self.graph, self.kept.cumsum(0)
        fan_in = graph.fan_in
        pre, reads = [], []
        for layer in range(graph.n_layers):
            pre.append(streams.pre[layer] - totals[fan_in[graph.inputs_of(layer, "q").start] - 1])
            reads.append(streams.mlp[layer] - totals[fan_in[graph.inputs_of(layer, "v").stop] - 1])
        return Streams(torch.stack(pre), torch.stack(reads), streams.final - totals[-1][:, -1])

    def of_sets(self, matrices: Bool[np.ndarray, "set receiver sender"]) -> Float[Tensor, "set prompt d_model"]:
        """The final stream at END of each set of edges."""
        model, graph, n_sets = self.model, self.graph, len(matrices)
        kept = torch.from_numpy(matrices).to(self.kept.device, self.kept.dtype)
        first = min(self._first_layer(matrix) for matrix in matrices)
        # What each sender writes now, more than what stands in for it: [set, sender, prompt, pos, d_model].
        now = self.kept.expand(n_sets, *self.kept.shape).clone()
        for layer in range(first, graph.n_layers):
            inputs = {which: self._heads_read(layer, which, kept, now) for which in INPUTS}
            z = model.attend(layer, *(inputs[which] for which in INPUTS)).unflatten(0, (n_sets, -1))
            heads = graph.heads_of(layer)
            written = model.head_outs(layer, z - self.instead.z[layer])  # [head, set, prompt, pos, d_model]
            now[:, heads] = written.transpose(0, 1)
            receiver = graph.inputs_of(layer, "v").stop
            reads = self._read(kept[:, receiver : receiver + 1], now, self.streams.mlp[layer])[:, 0]
            now[:, heads.stop] = model.mlp(layer, reads.contiguous()) - self.instead.mlp[layer]
        carried = torch.einsum("bs,bspd->bpd", kept[:, -1], now[:, :, :, -1])
        return self.streams.final + carried

    def _first_layer(self, matrix: Bool[np.ndarray, "receiver sender"]) -> int:
        """The first layer of which an edge is left out: everything before it is as in the clean run."""
        graph = self.graph
        whole = matrix.sum(1) == graph.fan_in
        layers = (graph.receivers[int(r)].layer for r in np.flatnonzero(~whole))
        return min((graph.n_layers if layer is None else layer for layer in layers), default=graph.n_layers)

    def _heads_read(self, layer: int, which: str, kept: Tensor, now: Tensor) -> Float[Tensor, "set_prompt pos head d_head"]:
        """Queries, keys or values of a layer, each from what its head reads."""
        rows = self.graph.inputs_of(layer, which)
        streams = self._read(kept[:, rows], now, self.streams.pre[layer])
        # [set, head, prompt, ...] to heads first, sets and prompts as one.
        return self.model.head_inputs(layer, which, streams.transpose(0, 1).flatten(1, 2))

    def _read(
        self, kept: Float[Tensor, "set receiver sender"], now: Tensor, base: Float[Tensor, "prompt pos d_model"]
    ) -> Float[Tensor, "set receiver prompt pos d_model"]:
        """What some receivers read, which have all the senders before them in common."""
        n = self._reaching(kept)
        flat = now[:, :n].flatten(2)
        carried = torch.bmm(kept[:, :, :n], flat) if n else flat.new_zeros(*kept.shape[:2], flat.shape[2])
        return carried.view(*kept.shape[:2], *base.shape) + base

    def _reaching(self, kept: Tensor) -> int:
        """Up to which sender any edge is kept."""
        there = kept.any(0).any(0).nonzero()
        return int(there[-1]) + 1 if len(there) else 0
