"""Path patching at END among heads and MLPs, where it is said which MLPs pass a change on.

Source: Hanna et al. 2023, section 3.1, and the authors' code (`circuit_discovery.py`): a node's output at END is replaced along
chosen paths alone, straight to the logits or through chosen MLPs, and every other node is what it was. With all heads frozen
nothing moves between positions, so all of this happens in the stream at END, where what nodes write adds up.

`Engine.path_patch` (Wang et al. 2022) differs in that heads alone are senders, and all MLPs on the way are recomputed or none.
Here nothing but the engine's own steps is needed, so that all engines share this one computation.
"""

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims import forward_passes
from circuit_claims.engine.paths import Part, Trace
from circuit_claims.engine.protocol import Engine
from circuit_claims.engine.run import ROWS, Run, slice_run
from circuit_claims.time_spent import spent_on


@spent_on("path patching")
@torch.inference_mode()
def path_patch_parts(
    engine: Engine,
    base: Run,
    new: Run,
    senders: Sequence[Collection[Part]],
    through: Collection[int] = (),
) -> Float[Tensor, "sender prompt d_model"]:
    """The final residual stream at END with senders' outputs there taken from another run, along some paths alone.

    base: the run that is changed; new: the one that the senders' outputs come from, on prompts of the same length.
    senders: each a set of parts that are patched together.
    through: the layers whose MLP sees the change and passes on what comes of it; all others write what they wrote in `base`. An
        MLP that is itself a sender writes what it wrote in `new`.

    Raises Unsupported, with the reason, where an architecture's forward pass has no such parts.
    """
    n_prompts, length = base.tokens.shape
    forward_passes.count(n_prompts * len(senders))
    step = max(1, ROWS // max(1, len(senders)))
    parts = []
    for first in range(0, n_prompts, step):
        chunk = slice(first, first + step)
        before, other = slice_run(base, chunk), slice_run(new, chunk)
        end = torch.full((len(before.tokens), 1), length - 1, device=base.tokens.device)
        parts.append(_one_chunk(engine, engine.trace(before, end), engine.trace(other, end), senders, set(through)))
    return torch.cat(parts, dim=1)


def _one_chunk(
    engine: Engine,
    base: Trace,
    new: Trace,
    senders: Sequence[Collection[Part]],
    through: Collection[int],
) -> Float[Tensor, "sender prompt d_model"]:
    final = base.pre[-1][:, 0]
    change = final.new_zeros(len(senders), *final.shape)
    sets = [frozenset(parts) for parts in senders]
    for layer in range(engine.n_layers):
        for row, parts in enumerate(sets):
            for part in parts:
                if part.layer == layer and part.head is not None:
                    z = new.z[layer][:, 0, part.head] - base.z[layer][:, 0, part.head]
                    change[row] += engine.head_out(layer, z, part.head)
        mlp = [row for row, parts in enumerate(sets) if Part(layer) in parts]
        under_way = [row for row, parts in enumerate(sets) if min((part.layer for part in parts), default=layer + 1) <= layer]
        seeing = [row for row in under_way if layer in through and row not in mlp]
        if seeing:
            mid = base.mid[layer][:, 0]
            change[seeing] += engine.mlp_out(layer, mid + change[seeing]) - engine.mlp_out(layer, mid)
        if mlp:
            written = [run.pre[layer + 1][:, 0] - run.mid[layer][:, 0] for run in (new, base)]
            change[mlp] += written[0] - written[1]
    return final + change
