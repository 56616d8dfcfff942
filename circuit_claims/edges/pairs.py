"""A task's pairs of prompts, as edges are measured on them: the runs, the metric, and what stands in for senders."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims.edges.changes import Value
from circuit_claims.edges.errors import EdgeError
from circuit_claims.edges.written import Ablation, Outputs
from circuit_claims.engine.run import Run
from circuit_claims.measure.intervals import CONFIDENCE
from circuit_claims.measure.presuppositions import why_nothing
from circuit_claims.prompts.batch import Batch
from circuit_claims.tasks.measuring import aligned
from circuit_claims.tasks.operations.reference_means import REFERENCE_SIZE, reference_means
from circuit_claims.tasks.task import Task, layouts_of

#: How edges are measured on a task, in errors.
NEEDS_PAIRS = "take a task whose prompts have corruptions (IOI, say), or give pairs of your own (cc.Contrast)"


def corruption_of(task: Any, given: str | None = None) -> str:
    """The corruption that edges are noised by: the one that was asked for, or the task's own for noising.

    Raises EdgeError where the task has no corrupted prompts.
    """
    there = getattr(getattr(task, "population", None), "corruptions", None)
    if there is None or not there.names or not isinstance(task, Task):
        name = type(task).__name__
        raise EdgeError(f"{name} has no corrupted prompts, and an edge is measured by what they change in it: {NEEDS_PAIRS}")
    return task.corruption(given, "noising")


def runs_of(task: Task, clean: Batch, corrupted: Batch) -> tuple[Run, Run]:
    """The two runs of a batch of pairs.

    Raises NotAligned where these do not lie on the same positions.
    """
    aligned(clean, corrupted, "a circuit of edges")
    return task.subject.run(clean.tokens), task.subject.run(corrupted.tokens)


def value_of(task: Task, batch: Batch) -> Callable[[slice], Value]:
    """The task's metric of some of a batch's prompts, from final streams at END; with a gradient where the streams have one."""

    def of_some(rows: slice) -> Value:
        some = batch.of_rows(range(*rows.indices(len(batch.tokens))))

        def value(streams: Float[Tensor, "*n prompt d_model"]) -> Float[Tensor, "*n prompt"]:
            if streams.requires_grad:
                return _with_gradient(task, streams, some)
            return torch.as_tensor(task.value_from(streams, some), dtype=streams.dtype, device=streams.device)

        return value

    return of_some


def _with_gradient(task: Task, streams: Float[Tensor, "prompt d_model"], batch: Batch) -> Float[Tensor, " prompt"]:
    model, metric = task.subject.transformer, task.metric
    # Batches are made in inference mode, whose tensors no backward pass may keep.
    names = ("tokens", "answers", "compared", "weights")
    copied = {name: part.clone() for name in names if isinstance(part := getattr(batch, name), Tensor)}
    ordinary = replace(batch, **copied)
    if metric.tokens is not None:
        found = metric.of_logits(model.answer_logits(streams, metric.tokens(ordinary)), ordinary)
    else:
        found = metric.of_logits(model.logits(streams).float(), ordinary)
    if not isinstance(found, Tensor) or not found.requires_grad:
        raise EdgeError(f"the {metric.name} has no gradient, by which edges could be scored: score them by exact effects")
    return found


def stand_in_of(task: Task, clean: Batch, corrupted: Batch, by: Ablation, size: int = REFERENCE_SIZE) -> Run | Outputs:
    """What stands in for senders whose edges are left out.

    by: resample, what they write on the corrupted prompts; mean, over `size` corrupted prompts of the prompt's own form.

    Raises EdgeError for any other, and Untested where too few prompts of one form have their tokens in the same places.
    """
    if by == "resample":
        return runs_of(task, clean, corrupted)[1]
    if by != "mean":
        raise EdgeError(f"unknown stand-in {by!r} for edges that are left out: use resample or mean")
    model, population = task.subject.transformer, task.population
    embedded = []
    for prompt, layout in zip(clean.prompts, layouts_of(clean), strict=True):
        form: Any = population.of_the_form_of(prompt)  # type: ignore[attr-defined] - one whose prompts have forms
        place = ("mean embedding", size, form, task.change, task.prepend_bos, layout)

        def mean(form: Any = form, prompt: Any = prompt, layout: Any = layout) -> Tensor:
            return model.stop_at_layer(task.reference_tokens(form, prompt, layout, size), 0).mean(0)

        embedded.append(task.store.get(place, mean))
    z, mlp = (reference_means(task, clean, component, size) for component in ("z", "mlp_out"))
    return Outputs(torch.stack(embedded), z, mlp)


def check_whole(task: Task, n: int, corruption: str | None = None, *, confidence: float = CONFIDENCE, seed: int = 0) -> None:
    """Refuse a model in which there is nothing to explain, so that no share of noise is given.

    n: on how many prompts it is looked at.

    Raises EdgeError where the model does not do the task, or the corruption costs it nothing.
    """
    whole = task.baseline(corruption_of(task, corruption)).take(n)
    if why := why_nothing((*whole.presupposed, whole), confidence, seed):
        raise EdgeError(f"no circuit of {task.subject.name} for this task: {why}")
