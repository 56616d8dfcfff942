"""What is averaged for a mean ablation: p_ABC, prompts of the same template and order, position by position.

Source: Wang et al. 2022, section 2 ("knockouts"): each component's mean over p_ABC, template by template. How many reference
prompts are averaged is a choice of its own, which moves the result (Miller et al. 2024), so it is named.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims.prompts.batch import Batch
from circuit_claims.prompts.ioi import Prompt
from circuit_claims.tasks.task import Task
from circuit_claims.time_spent import spent_on
from circuit_claims.untested import Untested

#: How many p_ABC prompts of each template and order a mean ablation averages over.
REFERENCE_SIZE = 16

Component = Literal["z", "mlp_out"]
Layout = tuple[int, tuple[int, ...]]


@spent_on("reference means")
def reference_means(
    task: Task, batch: Batch, component: Component, size: int = REFERENCE_SIZE
) -> Float[Tensor, "layer prompt pos *width"]:
    """Each prompt's head outputs z, or MLP outputs, averaged over p_ABC prompts of its own template, order and positions.

    Raises Untested where too few p_ABC prompts have their tokens in the same places.
    """
    found = []
    for row, prompt in enumerate(batch.prompts):
        layout = (batch.tokens.shape[1], tuple(int(batch.positions[role][row]) for role in batch.positions))
        frame = (prompt.template, prompt.order, prompt.prefix, prompt.extra, task.change)
        place = ("reference means", component, size, task.population.names, task.prepend_bos, frame, layout)
        found.append(task.store.get(place, partial(_frame_means, task, prompt, layout, component, size)))
    return torch.stack(found, dim=1)


def _frame_means(
    task: Task, prompt: Prompt, layout: Layout, component: Component, size: int
) -> Float[Tensor, "layer pos *width"]:
    model = task.subject.transformer
    tokens = _reference_tokens(task, prompt, layout, size)
    sums: list[Tensor] = []
    for part in tokens.split(64):
        run = model.run(part)
        for layer in range(model.n_layers):
            inside = model.attention(layer, run.resid[layer])
            value = inside.z if component == "z" else run.resid[layer + 1] - (run.resid[layer] + inside.out)
            if len(sums) <= layer:
                sums.append(value.sum(0))
            else:
                sums[layer] += value.sum(0)
    return torch.stack(sums) / len(tokens)


def _reference_tokens(task: Task, prompt: Prompt, layout: Layout, size: int) -> Tensor:
    """`size` p_ABC prompts of one frame whose tokens lie as in `layout`."""
    frame = replace(task.population, templates=(prompt.template,), orders=(prompt.order,), prefix=prompt.prefix, half=None)
    stream = frame.stream(task.seed + 1)
    found: list[Tensor] = []
    for _ in range(20):  # blocks; with fillers of one token each, as in GPT-2's vocabulary, the first one suffices
        block = [next(stream) for _ in range(size)]
        block = [(other.changed(task.change) if task.change else other).changed("ABC") for other in block]
        for batch in task.batches(block):
            layouts: Sequence[tuple[int, ...]] = list(
                zip(*(batch.positions[role].tolist() for role in batch.positions), strict=True)
            )
            same = [row for row, positions in enumerate(layouts) if (batch.tokens.shape[1], positions) == layout]
            found += list(batch.tokens[same])
        if len(found) >= size:
            return torch.stack(found[:size])
    raise Untested(f"too few p_ABC prompts have their tokens where {prompt.text!r} has them: give other fillers")
