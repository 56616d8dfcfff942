"""What a short sweep finds on half of the pairs: whether the model does the task, and which heads carry it at END.

The heads are those that recover most when they alone are patched from the clean into the corrupted prompts. All are measured
on a few pairs, those that did best there on more of them, and a head is named where it recovers a fair share of what the best
does.
Which of many heads is best is partly chance: so the other half of the pairs is left for the claims.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from circuit_claims.discovery.findings import Findings, Value, at_least_half, half_way_to_one
from circuit_claims.heads import Head
from circuit_claims.measure.intervals import CONFIDENCE, mean_interval, rate_interval
from circuit_claims.measure.measurement import Measurement, Wanted
from circuit_claims.measure.samples import Grid
from circuit_claims.tasks.contrast.task import ContrastTask
from circuit_claims.tasks.operations.ablation import Ablation
from circuit_claims.untested import Untested

#: On how many pairs all heads are measured, and how many of the best on more.
FIRST_LOOK, BEST = 16, 12
#: A head is named where it recovers this much by itself, and this much of what the best one does; and so many at most.
LEAST_RECOVERY, OF_THE_BEST, MOST_HEADS = 0.05, 0.25, 5


class NothingThere(ValueError):
    """The model does not do the task on these pairs; the message is one sentence for the user."""


@dataclass(frozen=True)
class Found:
    """What the sweep found.

    n: on how many pairs; logit_difference: its mean there; values: the bounds that claims are held to, each half of what was
    found, so that they speak of the effect and not of the sample. recoveries: of each named head by itself, best first; by: how
    they can be knocked out, and remaining: the share of the logit difference that is then left.
    """

    n: int
    logit_difference: float
    values: dict[str, Value]
    recoveries: dict[Head, float]
    by: Ablation = "mean"
    remaining: float = 1.0

    @property
    def can_be_spared(self) -> bool:
        """Whether nothing is lost without the heads, as where others make up for them."""
        return "least_left_without_the_carriers" in self.values

    @property
    def findings(self) -> Findings:
        """As a card has them."""
        return Findings(self.values)


def short_sweep(task: ContrastTask, most: int) -> Found:
    """Measure the task on at most `most` pairs.

    Raises NothingThere where answers are not clearly ahead of their foils.
    """
    n = min(most, task.limit or most)
    difference, ahead = task.logit_difference().take(n), task.prefers_answer().take(n)
    low, _ = mean_interval(difference, CONFIDENCE, task.seed)
    rate_low, _ = rate_interval(ahead, CONFIDENCE)
    if low <= 0 or rate_low <= 0.5:
        raise NothingThere(
            f"{task.subject.name} prefers the answer on {int(ahead.values.sum())} of {n} pairs (mean logit difference "
            f"{difference.estimate:.2f}), which chance could do: take another model or other pairs, there is nothing to explain"
        )
    values = {"least_logit_difference": at_least_half(difference.estimate, "logits")}
    heads = carriers(task, n)
    if not heads:
        return Found(n, difference.estimate, values, {})
    patched = task.patch(list(heads), at="END").recovery().take(n)
    by = "mean" if has_means(task, list(heads), n) else "zero"
    remaining = task.ablate(list(heads), by=by).remaining().take(n)
    values["carriers_recover"] = at_least_half(patched.estimate, "share")
    if mean_interval(remaining, CONFIDENCE, task.seed)[1] < 1:
        values["most_left_without_the_carriers"] = half_way_to_one(remaining.estimate)
    else:
        values["least_left_without_the_carriers"] = at_least_half(remaining.estimate, "share")
    return Found(n, difference.estimate, values, heads, by, remaining.estimate)


def carriers(task: ContrastTask, n: int) -> dict[Head, float]:
    """The heads that recover most at END, each patched by itself, with their recoveries; none where none recovers much."""
    sweep, first = task.head_sweep(at="END"), min(FIRST_LOOK, n)
    estimates = _estimates(sweep, first, None)
    best = np.argsort(-estimates, axis=None, kind="stable")[:BEST]
    wanted = np.full(estimates.shape, first)
    wanted.ravel()[best] = n
    estimates = _estimates(sweep, n, wanted)
    found = sorted(((float(estimates.ravel()[cell]), int(cell)) for cell in best), key=lambda pair: (-pair[0], pair[1]))
    least = max(LEAST_RECOVERY, OF_THE_BEST * found[0][0])
    return {task.all_heads[cell]: value for value, cell in found[:MOST_HEADS] if value >= least}


def _estimates(sweep: Measurement[Grid], n: int, wanted: Wanted | None) -> Float[np.ndarray, "layer head"]:
    return (sweep.take(n) if wanted is None else sweep.take(n, wanted)).estimate


def has_means(task: ContrastTask, heads: Sequence[Head], n: int) -> bool:
    """Whether enough corrupted prompts lie on tokens as each prompt does, for a mean to be taken over them."""
    try:
        task.ablate(heads, by="mean").value().take(n)
    except Untested:
        return False
    return True
