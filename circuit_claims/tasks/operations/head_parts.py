"""What of a head, and what of a layer, is patched: read off one batch of prompts, as edits for another."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims.engine.edits import Edit, Site
from circuit_claims.heads import Head
from circuit_claims.prompts.batch import Batch
from circuit_claims.tasks.measuring import aligned
from circuit_claims.tasks.task import Task

Part = Literal["output", "q", "k", "v", "pattern"]
Block = Literal["resid_pre", "attn_out", "mlp_out"]

#: The parts of a head, as they read in a sentence, and the activation that each is.
PARTS: dict[Part, str] = {"output": "output", "q": "queries", "k": "keys", "v": "values", "pattern": "pattern"}
SITES: dict[Part, Site] = {"output": "z", "q": "q", "k": "k", "v": "v", "pattern": "pattern"}
#: What a layer has at a position, likewise.
BLOCKS: dict[Block, str] = {
    "resid_pre": "the residual stream before a layer",
    "attn_out": "what a layer's attention writes",
    "mlp_out": "what a layer's MLP writes",
}


def parts_of(task: Task, batch: Batch, heads: Sequence[Head], part: Part, onto: Batch, role: str | None) -> list[Edit]:
    """For each head an edit of a pass on `onto`: at a role's position, or (None) at all, the part that it has on `batch`.

    A role may stand elsewhere in the one than in the other; of patterns, and of all positions, both must lie alike.

    Raises Untested where the subject's architecture has no such part.
    """
    if role is None or part == "pattern":
        aligned(batch, onto, f"patching the {PARTS[part]} of heads at {role or 'all positions'}", role)
    model, run = task.subject.transformer, task.subject.run(batch.tokens)
    positions, there = (None, None) if role is None else (batch.at(role), onto.at(role))
    values: dict[int, Tensor] = {}  # by layer, heads in the axis before the last
    for layer in sorted({layer for layer, _ in heads}):
        if part == "output" and positions is not None:  # of which no other query is needed
            values[layer] = model.head_outputs_at(run, layer, positions)
            continue
        found = getattr(model.attention(layer, run.resid[layer]), SITES[part])
        found = found.transpose(1, 2) if part == "pattern" else found
        values[layer] = found if positions is None else found[_rows(batch), positions]
    # Where heads share keys and values in groups, a head has its group's.
    shared = {layer: model.n_heads // value.shape[2] for layer, value in values.items()}
    return [Edit(layer, SITES[part], values[layer][:, :, head // shared[layer]], head, there) for layer, head in heads]


def block_output(task: Task, batch: Batch, layer: int, site: Block) -> Float[Tensor, "prompt pos d_model"]:
    """The stream before a layer, or what its attention or its MLP adds to it, at all positions.

    Raises Untested where the subject's architecture has no such activation.
    """
    model, run = task.subject.transformer, task.subject.run(batch.tokens)
    if site == "resid_pre":
        return run.resid[layer]
    out = model.attention(layer, run.resid[layer]).out
    return out if site == "attn_out" else run.resid[layer + 1] - run.resid[layer] - out


def _rows(batch: Batch) -> Int[Tensor, "prompt 1"]:
    return torch.arange(len(batch.tokens), device=batch.tokens.device)[:, None]
