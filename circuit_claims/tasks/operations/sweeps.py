"""Sweeps: every head, or what every layer has at every place, patched alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims.engine.edits import Edit
from circuit_claims.engine.paths import Receivers
from circuit_claims.engine.run import first_difference
from circuit_claims.heads import Head
from circuit_claims.measure.measurement import Measurement
from circuit_claims.prompts.batch import Batch
from circuit_claims.tasks.cells import Cells
from circuit_claims.tasks.measuring import aligned
from circuit_claims.tasks.operations.head_parts import BLOCKS, PARTS, Block, Part, block_output, parts_of
from circuit_claims.tasks.operations.intervention import share_of_metric
from circuit_claims.tasks.task import Task

#: The unit of recoveries.
SHARE = "recovered share"


def head_sweep(task: Task, part: Part, at: str | None, corruption: str) -> Measurement:
    """Recovery by a part of each head, patched clean into corrupted: a grid layer × head."""

    def measure(clean: Batch, corrupted: Batch, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
        heads = [task.all_heads[cell] for cell in cells]
        edits = parts_of(task, clean, heads, part, corrupted, at)
        return task.recovered(clean, corrupted, [[edit] for edit in edits])

    quantity = f"recovery by one head's {PARTS[part]} at {at or 'all positions'}"
    return task.paired_grid(quantity, corruption, SHARE, measure, **task.heads_axis)


def noise_sweep(task: Task, at: str, corruption: str) -> Measurement:
    """The change by each head's output z at one role's position from the corrupted prompt: a grid layer × head."""
    model = task.subject.transformer

    def measure(clean: Batch, corrupted: Batch, cells: Cells) -> Float[np.ndarray, "prompt head"]:
        edits = parts_of(task, corrupted, [task.all_heads[cell] for cell in cells], "output", clean, at)
        noised = model.intervene(task.subject.run(clean.tokens), [[edit] for edit in edits])
        return (task.value_of(clean) - task.value_from(noised, clean)).T

    return task.change_grid(f"loss by noising one head's output at {at}", corruption, measure, **task.heads_axis)


def residual_sweep(task: Task, site: Block, corruption: str) -> Measurement:
    """Recovery by what each layer has at one place, patched clean into corrupted: a grid layer × place."""

    def measure(clean: Batch, corrupted: Batch, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
        start = first_difference(clean.tokens, corrupted.tokens)
        read, put = places(task, clean), places(task, corrupted)
        rows = torch.arange(len(clean.tokens), device=clean.tokens.device)[:, None]
        layers, columns = np.divmod(cells, len(read))
        values = {layer: block_output(task, clean, layer, site) for layer in sorted(set(layers.tolist()))}
        _, whole = task.recovered(clean, corrupted, [])
        found = np.zeros((len(whole), len(cells)))
        for column, (where, there) in enumerate(
            zip(read, put, strict=True)
        ):  # one cone a place: each begins at its own position
            here = np.flatnonzero(columns == column)
            same = torch.equal(where, there) and int(where.max()) < start  # before it, clean and corrupted are the same
            if len(here) and not same:
                edits = [[Edit(layer, site, values[layer][rows, where], None, there)] for layer in layers[here].tolist()]
                found[:, here], _ = task.recovered(clean, corrupted, edits)
        return found, whole

    which = ", at every position" if task.swept_roles is None and not task.fixed else ""
    return task.paired_grid(f"recovery by {BLOCKS[site]}{which}", corruption, SHARE, measure, **places_axis(task))


def path_losses(
    task: Task,
    clean: Batch,
    corrupted: Batch,
    heads: Sequence[Head],
    receivers: Receivers | None,
    at: str,
    knocked_out: Sequence[Edit] = (),
) -> tuple[Float[np.ndarray, "prompt head"], Float[np.ndarray, " prompt"]]:
    """What path patching each of these heads alone loses, counted from what the knock-outs leave; and the clean value."""
    aligned(clean, corrupted, "path patching", at)
    run, new = task.subject.run(clean.tokens), task.subject.run(corrupted.tokens)
    sets = [*([head] for head in heads), []]  # the last shows the original, or the original without the heads
    streams = task.subject.transformer.path_patch(run, new, sets, receivers, clean.at(at), knocked_out=list(knocked_out))
    values = task.value_from(streams, clean)
    return (values[-1:] - values[:-1]).T, task.value_of(clean)


def path_sweep(
    task: Task, receivers: Receivers | None, at: str, corruption: str, *, knocked_out: Any = None, called: str = ""
) -> Measurement:
    """What path patching of each head alone loses, as a share of the baseline: a grid layer × head.

    knocked_out: from a batch to the edits that are made all the while; `called`, what they are, in words.
    """

    def measure(clean: Batch, corrupted: Batch, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
        edits = [] if knocked_out is None else knocked_out(clean)
        return path_losses(task, clean, corrupted, [task.all_heads[cell] for cell in cells], receivers, at, edits)

    target = f"the {receivers}" if receivers else "the logits"
    quantity = f"loss by path patching one head at {at} to {target}{called}"
    return task.paired_grid(quantity, corruption, share_of_metric(task), measure, of_clean=True, **task.heads_axis)


def places(task: Task, batch: Batch) -> list[Int[Tensor, "prompt 1"]]:
    """The positions that a sweep over places visits: those of the population's roles, and of published prompts all there are.

    Raises ValueError where published prompts differ in length, and so have no positions in common.
    """
    if task.swept_roles is not None:
        return [batch.at(role) for role in task.swept_roles]
    if len(batch.prompts) < len(task.fixed):
        raise ValueError("these published prompts differ in length: sweep over the positions of those of one length")
    return [torch.full_like(batch.answers[:, :1], position) for position in range(batch.tokens.shape[1])]


def places_axis(task: Task) -> dict[str, Any]:
    """How a grid of places is labelled: by role, or, of published prompts, by the tokens of the first."""
    columns = task.position_labels if task.swept_roles is None else list(task.swept_roles)
    return {"columns": columns, "column_axis": "position"}
