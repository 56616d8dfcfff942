"""What is averaged for a mean ablation: corrupted prompts of the same form, position by position.

Source: Wang et al. 2022, section 2 ("knockouts"): each component's mean over p_ABC, template by template. How many reference
prompts are averaged is a choice of its own, which moves the result (Miller et al. 2024), so it is named.
"""

from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims.prompts.batch import Batch
from circuit_claims.tasks.task import Layout, Task
from circuit_claims.time_spent import spent_on

#: How many reference prompts of each form a mean ablation averages over.
REFERENCE_SIZE = 16
#: How many go through the model at once.
AT_ONCE = 64

Component = Literal["z", "mlp_out"]


@spent_on("reference means")
def reference_means(
    task: Task, batch: Batch, component: Component, size: int = REFERENCE_SIZE
) -> Float[Tensor, "layer prompt pos *width"]:
    """Each prompt's head outputs z, or MLP outputs, averaged over corrupted prompts of its own form and positions.

    The population says which prompts are of one form (`of_the_form_of`), and by which corruption (its noising one).

    Raises Untested where too few reference prompts have their tokens in the same places.
    """
    found = []
    for row, prompt in enumerate(batch.prompts):
        layout = (batch.tokens.shape[1], tuple(int(batch.positions[role][row]) for role in batch.positions))
        population: Any = task.population  # one whose prompts have forms
        form = population.of_the_form_of(prompt)
        place = ("reference means", component, size, form, task.change, task.prepend_bos, layout)
        found.append(task.store.get(place, partial(_means_of_form, task, form, prompt, layout, component, size)))
    return torch.stack(found, dim=1)


def mean_outputs(
    model: Any, tokens: Int[Tensor, "prompt pos"], component: Component, at_once: int = AT_ONCE
) -> Float[Tensor, "layer pos *width"]:
    """Every layer's head outputs z, or MLP output, at every position, averaged over prompts."""
    sums: list[Tensor] = []
    for part in tokens.split(at_once):
        run = model.run(part)
        for layer in range(model.n_layers):
            inside = model.attention(layer, run.resid[layer])
            value = inside.z if component == "z" else run.resid[layer + 1] - (run.resid[layer] + inside.out)
            if len(sums) <= layer:
                sums.append(value.sum(0))
            else:
                sums[layer] += value.sum(0)
    return torch.stack(sums) / len(tokens)


def _means_of_form(task: Task, form: Any, prompt: Any, layout: Layout, component: Component, size: int) -> Tensor:
    return mean_outputs(task.subject.transformer, task.reference_tokens(form, prompt, layout, size), component)
