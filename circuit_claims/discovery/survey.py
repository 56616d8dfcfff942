"""How discovery measures: on the first prompts of the discovery half of the name pairs, on which no verdict is given.

Nothing here knows what is looked for; families, values and tables ask it for numbers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float

from circuit_claims.measure.intervals import grid_interval, mean_interval, rate_interval
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.presuppositions import why_nothing
from circuit_claims.measure.samples import Grid, GridStatistic, Samples
from circuit_claims.prompts.batch import Batch
from circuit_claims.prompts.ioi import Population
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.induction.repeated_tokens import SEQUENCES, RepeatedTokens, Score
from circuit_claims.tasks.ioi.task import IOI
from circuit_claims.tasks.operations.knockouts import KnockedOut, knocked_out_values
from circuit_claims.tasks.task import clusters_of, in_order
from circuit_claims.verdicts.budget import Budget

#: Prompts measured at a time, as claims do.
CHUNK = 120
#: Added to the seed for random tokens: a verdict's seed is small, so its random tokens are others.
RANDOM_TOKENS = 10**9
#: What a verdict costs where the command line says nothing else: its interval's confidence is divided among its looks.
VERDICT = Budget(first=120, most=960)
#: What the references of all knock-outs that go through the model together may occupy, in bytes.
MEMORY = 500_000_000

#: What is known of the task, by the name that it is kept under: the logit difference, and 1 where the model shows it.
TASK = "logit difference"

#: A number for every head, `[layer, head]`.
OfHeads = Float[np.ndarray, "layer head"]


@dataclass(frozen=True)
class Survey:
    """A subject on `n` prompts of the discovery half.

    known: what has been found of every head, by name, which an unfinished card keeps (see `kept`).
    """

    ioi: IOI
    repeated: RepeatedTokens
    n: int
    known: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, subject: Subject, *, n: int, seed: int, prepend_bos: bool) -> "Survey":
        """The survey of a loaded subject."""
        population = Population(names=subject.names, half="discovery")
        ioi = IOI(subject=subject, seed=seed, chunk=CHUNK, population=population, prepend_bos=prepend_bos)
        return cls(ioi, RepeatedTokens(subject=subject, seed=RANDOM_TOKENS + seed, prepend_bos=prepend_bos), n)

    @cached_property
    def logit_difference(self) -> float:
        """The mean logit difference of the untouched model, in logits: what shares are taken of."""
        return float(self._task[0])

    @cached_property
    def shows_the_task(self) -> bool:
        """Whether claims on the model would find what shares of the logit difference presuppose: else they are noise."""
        return bool(self._task[1])

    @property
    def task_so_far(self) -> tuple[float, bool] | None:
        """The logit difference and whether the model shows the task, where that is known; nothing is measured."""
        return None if TASK not in self.known else (self.logit_difference, self.shows_the_task)

    @property
    def _task(self) -> np.ndarray:
        def measure() -> np.ndarray:
            measured = self.ioi.logit_difference()
            return np.array([self.estimate(measured), not self.missing(measured)], dtype=float)

        return self.kept(TASK, measure)

    def kept(self, name: str, measure: Callable[[], np.ndarray]) -> np.ndarray:
        """What is known under a name, measured where nothing is."""
        if name not in self.known:
            self.known[name] = np.asarray(measure(), dtype=float)
        return self.known[name]

    def missing(self, presupposed: Measurement) -> str:
        """Why a verdict's look would not find what claims presuppose, in a sentence; empty where it would."""
        taken = self._taken(presupposed)
        assert isinstance(taken, Samples)
        return why_nothing([*taken.presupposed, taken], self._confidence(presupposed), self.ioi.seed)

    def estimate(self, measurement: Measurement) -> float:
        """The estimate on all prompts (of a finite population: on all of it)."""
        taken = self._taken(measurement)
        if isinstance(taken, GridStatistic):
            return float(taken.statistic(taken.grid.estimate))
        if not isinstance(taken, Samples):
            raise TypeError("a grid has no one estimate: ask for its cells")
        return taken.estimate

    def cells(self, measurement: Measurement) -> Float[np.ndarray, "row column"]:
        """The estimate of every cell of a sweep."""
        taken = self._taken(measurement)
        assert isinstance(taken, Grid)
        return taken.estimate

    def interval(self, measurement: Measurement) -> tuple[float, float]:
        """The interval that a verdict's look would put around the estimate."""
        taken = self._taken(measurement)
        confidence = self._confidence(measurement)
        assert not isinstance(taken, Grid)
        if isinstance(taken, GridStatistic):
            return grid_interval(taken, confidence, self.ioi.seed)[1:]
        if taken.unit == "rate":
            return rate_interval(taken, confidence)
        return mean_interval(taken, confidence, self.ioi.seed)

    def noise(self, measurement: Measurement) -> float:
        """By how much sampling alone sets a verdict's interval apart from what is found here: both have an error."""
        value, (low, high) = self.estimate(measurement), self.interval(measurement)
        return math.sqrt(2) * max(value - low, high - value)

    def random_token_scores(self, score: Score) -> OfHeads:
        """A score of every head on all repeated random tokens there are: they are measured in one go."""
        return self.repeated.attention_scores(score).take(SEQUENCES).estimate

    def knocked_out(self, settings: Sequence[KnockedOut]) -> list[Measurement]:
        """The logit difference under each of several knock-outs, measured together: as many at once as memory allows."""
        task, prompts = self.ioi, self.ioi.prompts(self.n)
        chunks = [task.batches(prompts[first : first + CHUNK]) for first in range(0, self.n, CHUNK)]
        values = np.concatenate([in_order(batches, lambda batch: self._differences(batch, settings)) for batches in chunks])
        clusters = clusters_of(prompts)

        def measured(column: int) -> Measurement:
            samples = Samples(values[:, column], settings[column].name, "logits", clusters)
            return Measurement(lambda _: samples, task.prepend_bos, self.n)

        return [measured(column) for column in range(len(settings))]

    @torch.inference_mode()
    def _differences(self, batch: Batch, settings: Sequence[KnockedOut]) -> Float[np.ndarray, "prompt setting"]:
        model = self.ioi.subject.transformer
        # Every setting brings its own copy of what stands in place of all heads.
        size = model.n_layers * batch.tokens.numel() * model.n_heads * model.d_head * model.W_E.element_size()
        at_once = max(1, MEMORY // size)
        parts = [settings[first : first + at_once] for first in range(0, len(settings), at_once)]
        return np.concatenate([knocked_out_values(self.ioi, batch, part) for part in parts]).T

    def _confidence(self, measurement: Measurement) -> float:
        return 1 - (1 - VERDICT.confidence) / len(VERDICT.looks(measurement.limit))

    def _taken(self, measurement: Measurement) -> Samples | Grid | GridStatistic:
        return measurement.take(self.n if measurement.limit is None else min(self.n, measurement.limit))
