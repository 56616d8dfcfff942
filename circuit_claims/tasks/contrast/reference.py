"""What mean ablation averages over, of pairs that come from no template: corrupted prompts that lie on tokens alike."""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from circuit_claims.prompts.contrasts.population import Contrasts
from circuit_claims.prompts.contrasts.prompt import CORRUPTED
from circuit_claims.tasks.task import Layout, layouts_of
from circuit_claims.untested import Untested

#: Pairs that are looked through for such prompts, and the fewest that make a mean.
LOOKED_THROUGH, FEWEST = 1000, 4


def reference_tokens(task: Any, form: Contrasts, prompt: Any, layout: Layout, size: int) -> Int[Tensor, "reference pos"]:
    """Up to `size` corrupted prompts of as many tokens as `layout` has, with the marks at the same positions.

    Clusters take turns, so that each counts alike as far as there are enough of its prompts. form: the pairs of both halves.

    Raises Untested where there are fewer than four.
    """
    by_layout = task.store.get(("reference prompts", form, task.seed, task.prepend_bos), lambda: _by_layout(task, form))
    found = by_layout.get(layout, [])[:size]
    if len(found) < FEWEST:
        raise Untested(
            f"{len(found)} of the corrupted prompts have as many tokens as {prompt.text!r}, with the marks at the same "
            f"positions, and a mean ablation needs {FEWEST}: give more pairs of this form, or ablate by='zero' or by='resample'"
        )
    return torch.stack(found)


def _by_layout(task: Any, form: Contrasts) -> dict[Layout, list[Tensor]]:
    """The corrupted prompts' tokens by how they lie, in turns of their clusters."""
    turns: dict[str, int] = {}
    prompts = []
    for number in form.order(task.seed + 1):
        cluster = form.table.clusters[number]
        turns[cluster] = turns.get(cluster, -1) + 1
        prompts.append((turns[cluster], number))
    prompts.sort(key=lambda it: it[0])  # stable
    chosen = [form.prompt(number).changed(CORRUPTED) for _, number in prompts[:LOOKED_THROUGH]]
    found: dict[Layout, dict[int, Tensor]] = {}
    for batch in task.batches(chosen):
        for row, layout in enumerate(layouts_of(batch)):
            found.setdefault(layout, {})[batch.index[row]] = batch.tokens[row]
    return {layout: [tokens[i] for i in sorted(tokens)] for layout, tokens in found.items()}
