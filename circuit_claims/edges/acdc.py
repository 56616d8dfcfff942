"""ACDC: edges are taken out one after the other, from the logits back, where the circuit does without them.

Source: Conmy et al. 2023, algorithm 1. Receivers are visited in reverse order of the forward pass, and of each receiver its
edges in reverse order of their senders. An edge is left out for good where what is lost by it, beside all that was left out
before, is less than a threshold: of KL, by how much the divergence of the circuit's next tokens from the model's grows; of
the metric, by how much the mean metric falls. What senders write over edges that are left out is what they write on the
corrupted prompts.

The edges before the one that is tried are all still there, so that a pass begins at its receiver's layer; and as most edges go,
several are tried in one batch, each with those before it gone as well. Where one of them has to stay, those behind it are tried
anew, so that the outcome is that of trying them one by one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float

from circuit_claims.edges.errors import EdgeError
from circuit_claims.edges.evaluate import EdgeEvaluator
from circuit_claims.edges.graph import EdgeGraph, EdgeMask
from circuit_claims.edges.pairs import check_whole, corruption_of, runs_of, value_of
from circuit_claims.engine.protocol import Engine
from circuit_claims.tasks.measuring import NotAligned
from circuit_claims.tasks.task import Task
from circuit_claims.time_spent import spent_on

Loss = Literal["KL", "metric"]
LOSSES: tuple[Loss, ...] = get_args(Loss)
#: The most edges that are tried in one batch.
MOST_AT_ONCE = 32

#: What several sets of edges lose, lower for better circuits.
Losses = Callable[[Bool[np.ndarray, "set edge"]], Float[np.ndarray, " set"]]


@dataclass(frozen=True)
class Found:
    """What ACDC leaves: the edges, the loss with all edges and with these, and how many sets of edges were evaluated."""

    mask: EdgeMask = field(repr=False)
    loss_before: float
    loss: float
    evaluated: int


def prune_edges(graph: EdgeGraph, losses: Losses, threshold: float, *, at_once: int = MOST_AT_ONCE) -> Found:
    """ACDC by what sets of edges lose.

    threshold: an edge goes where the loss grows by less than this, in its own unit.

    Raises EdgeError for a threshold that is not above 0: rounding alone would decide.
    """
    if not threshold > 0:
        raise EdgeError(f"the threshold of ACDC is {threshold:g}, and an edge that changes nothing must go: give one above 0")
    mask = graph.all_edges()
    before = last = float(losses(mask[None])[0])
    evaluated, width = 1, 4
    nodes = graph.node_of_receiver[graph.receiver_of_edge]
    for receiver in reversed(range(graph.n_receivers)):
        edges = list(reversed(range(int(graph.offsets[receiver]), int(graph.offsets[receiver + 1]))))
        node = int(graph.node_of_receiver[receiver])
        if node < graph.n_senders and not mask[(graph.sender_of_edge == node) & (nodes > node)].any():
            mask[edges] = False  # nobody reads what reads there: nothing can be lost
            continue
        while edges:
            tried = edges[: min(width, at_once)]
            sets = np.repeat(mask[None], len(tried), 0)
            for number, edge in enumerate(tried):
                sets[number:, edge] = False
            found = losses(sets)
            evaluated += len(tried)
            growth = np.diff(np.concatenate([[last], found]))
            stays = np.flatnonzero(~(growth < threshold))
            gone = int(stays[0]) if len(stays) else len(tried)
            mask[tried[:gone]] = False
            last = float(found[gone - 1]) if gone else last
            edges = edges[gone + 1 if len(stays) else gone :]
            width = max(2, width // 2) if len(stays) else min(2 * width, at_once)
    return Found(mask, before, last, evaluated)


@spent_on("circuits of edges")
def acdc(
    task: Task,
    threshold: float,
    *,
    n: int = 24,
    loss: Loss = "KL",
    corruption: str | None = None,
    at_once: int = MOST_AT_ONCE,
    check: bool = True,
) -> Found:
    """ACDC on the first n prompts of a task.

    loss: KL, the divergence at END of the circuit's next tokens from the model's, in nats; metric, the mean metric, in its
    unit. check: refuse a model that does not do the task.

    Raises EdgeError for an unknown loss, a threshold that is not above 0, a task without corrupted prompts, and a model that
    does not do the task.
    """
    if loss not in LOSSES:
        raise EdgeError(f"unknown loss {loss!r} of ACDC: use {' or '.join(LOSSES)}")
    corruption = corruption_of(task, corruption)
    if check:
        check_whole(task, n, corruption)
    with torch.inference_mode():
        return prune_edges(
            EdgeGraph.of(task.subject.transformer), _losses(task, n, loss, corruption), threshold, at_once=at_once
        )


def _losses(task: Task, n: int, loss: Loss, corruption: str) -> Losses:
    model, graph = task.subject.transformer, EdgeGraph.of(task.subject.transformer)
    batches = []
    for clean, corrupted in task.each_pair(corruption, n):
        try:
            run, other = runs_of(task, clean, corrupted)
        except NotAligned as error:
            what = "pairs whose texts have their tokens in the same places: leave the others out"
            raise EdgeError(f"{error} needs {what}") from error
        wanted = model.logits(run.resid[-1][:, -1]).float().log_softmax(-1) if loss == "KL" else None
        batches.append((EdgeEvaluator(model, run, other), value_of(task, clean)(slice(None)), wanted))
    n_prompts = sum(len(evaluator.clean.tokens) for evaluator, _, _ in batches)

    def losses(masks: Bool[np.ndarray, "set edge"]) -> Float[np.ndarray, " set"]:
        total = np.zeros(len(masks))
        for evaluator, value, wanted in batches:
            ends = evaluator.of_sets(graph.matrices(masks))
            if wanted is None:
                total -= value(ends).double().sum(-1).cpu().numpy()
            else:
                total += np.array([_divergence(model, wanted, end) for end in ends])
        return total / n_prompts

    return losses


def _divergence(
    model: Engine, wanted: Float[torch.Tensor, "prompt d_vocab"], end: Float[torch.Tensor, "prompt d_model"]
) -> float:
    """KL of the model's next tokens from a circuit's, summed over prompts, in nats."""
    found = model.logits(end).float().log_softmax(-1)
    return float((wanted.exp() * (wanted - found)).double().sum())
