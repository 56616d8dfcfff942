"""How discovery measures: on the first prompts of the discovery half of the name pairs, on which no verdict is given.

Nothing here knows what is looked for; families, values and tables ask it for numbers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Bool, Float

from circuit_claims.discovery.enough_prompts import cells_told, looks, off_by
from circuit_claims.measure.blocks import FIRST_LOOK
from circuit_claims.measure.intervals import grid_interval, mean_interval, rate_interval
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.presuppositions import why_nothing
from circuit_claims.measure.samples import Grid, GridStatistic, Samples
from circuit_claims.prompts.batch import Batch
from circuit_claims.prompts.ioi import Population
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.induction.repeated_tokens import SEQUENCES, RepeatedTokens, Score
from circuit_claims.tasks.ioi.task import IOI
from circuit_claims.tasks.measuring import clusters_of, in_order
from circuit_claims.tasks.operations.knockouts import KnockedOut, knocked_out_values
from circuit_claims.threads import SMALL
from circuit_claims.verdicts.budget import Budget

#: Prompts measured at a time, as claims do.
CHUNK = 120
#: Prompts at the first look at a model that is not small: each template in each order twice.
FIRST = 60
#: Prompts up to which some are added because sampling alone would move a value by more than its tolerance.
FOR_NOISE = 240
#: A tenth: of the logit difference, to which what is in logits is told, or of anything else.
TENTH = 0.1
#: To what rates, shares, probabilities and correlations are told, and layers.
FINE, USUAL = 0.05, {"layer": 1.0}
#: Added to the seed for random tokens: a verdict's seed is small, so its random tokens are others.
RANDOM_TOKENS = 10**9
#: What a verdict costs where the command line says nothing else: its interval's confidence is divided among its looks.
VERDICT = Budget(first=FIRST_LOOK, most=960)
#: What the references of all knock-outs that go through the model together may occupy, in bytes.
MEMORY = 500_000_000

#: What is known of the task, by the name that it is kept under: the logit difference, and 1 where the model shows it.
TASK = "logit difference"

#: A number for every head, `[layer, head]`.
OfHeads = Float[np.ndarray, "layer head"]


@dataclass(frozen=True)
class Survey:
    """A subject on up to `n` prompts of the discovery half.

    first: how many of them are looked at first (see `circuit_claims.discovery.enough_prompts`). known: what has been found of
    every head, by name, which an unfinished card keeps (see `kept`).
    """

    ioi: IOI
    repeated: RepeatedTokens
    n: int
    first: int
    known: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, subject: Subject, *, n: int, seed: int, prepend_bos: bool, first: int | None = None) -> "Survey":
        """The survey of a loaded subject.

        first: as above; left out, all of them for a small model, where they cost next to nothing, and else `FIRST`.
        """
        if first is None:
            first = n if subject.n_parameters < SMALL else min(FIRST, n)
        population = Population(names=subject.names, half="discovery")
        # What is asked for at the next look is then measured in blocks that the last look had.
        chunk = min(CHUNK, first)
        ioi = IOI(subject=subject, seed=seed, chunk=chunk, population=population, prepend_bos=prepend_bos)
        repeated = RepeatedTokens(subject=subject, seed=RANDOM_TOKENS + seed, prepend_bos=prepend_bos)
        return cls(ioi, repeated, n, first)

    def up_to(self, limit: int | None = None) -> str:
        """How many prompts something is measured on, in words; limit: how many there are, where these are finitely many."""
        most = self.n if limit is None else min(self.n, limit)
        return f"up to {most}" if self.first < most else str(most)

    def looking_first_at(self, first: int) -> "Survey":
        """The same, beginning with fewer prompts where it does not begin with all: for what is dear, or needs few."""
        return self if self.first >= self.n else replace(self, first=min(first, self.first))

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
            for n in self._looks(measured):
                taken = measured.take(n)
                if off_by(taken, self.n) <= TENTH * abs(taken.estimate):
                    break
            return np.array([taken.estimate, not self.missing(measured)], dtype=float)

        return self.kept(TASK, measure)

    def kept(self, name: str, measure: Callable[[], np.ndarray]) -> np.ndarray:
        """What is known under a name, measured where nothing is."""
        if name not in self.known:
            self.known[name] = np.asarray(measure(), dtype=float)
        return self.known[name]

    def missing(self, presupposed: Measurement) -> str:
        """Why a verdict's look would not find what claims presuppose, in a sentence; empty where it would."""
        why = ""
        for n in self._looks(presupposed):
            taken = presupposed.take(n)
            why = why_nothing([*taken.presupposed, taken], self._confidence(presupposed), self.ioi.seed)
            if not why:
                break
        return why

    def estimate(self, measurement: Measurement, tolerance: float | None = None) -> float:
        """The estimate on enough prompts (of a finite population: of it) that all would not be off by more than the tolerance.

        tolerance: left out, what is usual for its unit, or a tenth of what is found where that is more.
        """
        taken = self._enough(measurement, tolerance)
        if isinstance(taken, GridStatistic):
            return float(taken.statistic(taken.grid.estimate))
        if not isinstance(taken, Samples):
            raise TypeError("a grid has no one estimate: ask for its cells")
        return taken.estimate

    def cells(self, measurement: Measurement) -> Float[np.ndarray, "row column"]:
        """The estimate of every cell of a sweep, at the first look."""
        return self.beyond(measurement)

    def beyond(
        self, sweep: Measurement, *thresholds: float, among: Bool[np.ndarray, "row column"] | None = None
    ) -> Float[np.ndarray, "row column"]:
        """The estimate of every cell, on enough prompts that it lies on the side of each threshold where all would put it.

        among: the cells of which that is asked (all).
        """
        looks = self._looks(sweep)
        first = sweep.take(looks[0])
        everywhere = np.ones(first.values.shape[1:], dtype=bool)
        return cells_told(sweep, looks, thresholds, everywhere if among is None else among).estimate

    def interval(self, measurement: Measurement, tolerance: float | None = None) -> tuple[float, float]:
        """The interval that a verdict's look would put around the estimate."""
        return self._interval(self._enough(measurement, tolerance), self._confidence(measurement))

    def noise(self, measurement: Measurement, tolerance: float | None = None) -> float:
        """By how much sampling alone sets a verdict's interval apart from what is found here: both have an error."""
        value, (low, high) = self.estimate(measurement, tolerance), self.interval(measurement, tolerance)
        return math.sqrt(2) * max(value - low, high - value)

    def told(
        self, measurement: Measurement, allowed: Callable[[float], float], tolerance: float | None = None
    ) -> tuple[float, float, tuple[float, float]]:
        """A value, its noise and its interval, on as many prompts as bring the noise down to what is allowed of the value.

        Beyond `FOR_NOISE` prompts none are added for the noise alone: what is left of it is how templates differ. tolerance: as
        for `estimate`, which may ask for more.
        """
        sizes = [n for n in self._looks(measurement) if n <= max(FOR_NOISE, self.first)]
        taken = measurement.take(sizes[0])
        for n in sizes:
            taken = measurement.take(n)
            if self._noise(measurement, taken)[1] <= allowed(taken.estimate):
                break
        enough = self._enough(measurement, tolerance)
        return self._noise(measurement, enough if enough.n > taken.n else taken)

    def _noise(
        self, measurement: Measurement, taken: Samples | Grid | GridStatistic
    ) -> tuple[float, float, tuple[float, float]]:
        assert not isinstance(taken, Grid)
        low, high = self._interval(taken, self._confidence(measurement))
        return taken.estimate, math.sqrt(2) * max(taken.estimate - low, high - taken.estimate), (low, high)

    def random_token_scores(self, score: Score) -> OfHeads:
        """A score of every head on all repeated random tokens there are: they are measured in one go."""
        return self.repeated.attention_scores(score).take(SEQUENCES).estimate

    def knocked_out(self, settings: Sequence[KnockedOut], tolerance: float) -> list[Measurement]:
        """The logit difference under each of several knock-outs, measured together: as many at once as memory allows.

        tolerance: in logits, as for `estimate`; each is measured on as many prompts as it needs.
        """
        samples = self._on_enough(settings, tolerance, self._left)
        return [Measurement(partial(_as_taken, each), self.ioi.prepend_bos, each.n) for each in samples]

    def lost(self, settings: Sequence[KnockedOut], tolerance: float) -> list[float]:
        """What each knock-out costs, as a share of the logit difference of the same prompts; tolerance: of the share."""
        return [samples.estimate for samples in self._on_enough(settings, tolerance, self._lost)]

    def _on_enough(
        self, settings: Sequence[KnockedOut], tolerance: float, of: Callable[[KnockedOut, np.ndarray], Samples]
    ) -> list[Samples]:
        """Each knock-out on enough prompts; of: from a setting and the logit differences left to the samples that matter."""
        values: list[list[np.ndarray]] = [[] for _ in settings]
        left, done = list(range(len(settings))), 0
        for n in looks(self.first, self.n):
            for first in range(done, n, self.ioi.chunk):
                found = self._in_chunk(first, min(n, first + self.ioi.chunk), [settings[place] for place in left])
                for place, column in zip(left, found.T, strict=True):
                    values[place].append(column)
            done = n
            left = [place for place in left if off_by(of(settings[place], np.concatenate(values[place])), self.n) > tolerance]
        return [of(setting, np.concatenate(parts)) for setting, parts in zip(settings, values, strict=True)]

    def _left(self, setting: KnockedOut, values: np.ndarray) -> Samples:
        return Samples(values, setting.name, "logits", clusters_of(self.ioi.prompts(len(values))))

    def _lost(self, setting: KnockedOut, values: np.ndarray) -> Samples:
        whole = self.ioi.logit_difference().take(len(values))
        return Samples(whole.values - values, setting.name, "share", whole.clusters, whole.values)

    def _in_chunk(self, first: int, last: int, settings: Sequence[KnockedOut]) -> Float[np.ndarray, "prompt setting"]:
        if not settings:
            return np.zeros((last - first, 0))
        batches = self.ioi.batches(self.ioi.prompts(last)[first:])
        return in_order(batches, lambda batch: self._differences(batch, settings))

    @torch.inference_mode()
    def _differences(self, batch: Batch, settings: Sequence[KnockedOut]) -> Float[np.ndarray, "prompt setting"]:
        model = self.ioi.subject.transformer
        # Every setting brings its own copy of what stands in place of all heads.
        size = model.n_layers * batch.tokens.numel() * model.n_heads * model.d_head * model.W_E.element_size()
        at_once = max(1, MEMORY // size)
        parts = [settings[first : first + at_once] for first in range(0, len(settings), at_once)]
        return np.concatenate([knocked_out_values(self.ioi, batch, part) for part in parts]).T

    def _confidence(self, measurement: Measurement) -> float:
        return VERDICT.looks_shared(measurement.limit)[-1][1]

    def _looks(self, measurement: Measurement) -> list[int]:
        return looks(self.first, self._most(measurement))

    def _most(self, measurement: Measurement) -> int:
        return self.n if measurement.limit is None else min(self.n, measurement.limit)

    def _enough(self, measurement: Measurement, tolerance: float | None) -> Samples | Grid | GridStatistic:
        """What was measured at the first look that tells the value to within the tolerance, or at the last."""
        sizes = self._looks(measurement)
        for n in sizes[:-1]:
            taken = measurement.take(n)
            if not isinstance(taken, Grid) and self._off_by(measurement, taken, sizes[-1]) <= self._allowed(taken, tolerance):
                return taken
        return measurement.take(sizes[-1])

    def _off_by(self, measurement: Measurement, taken: Samples | GridStatistic, most: int) -> float:
        if isinstance(taken, Samples):
            return off_by(taken, most)
        low, high = self._interval(taken, self._confidence(measurement))
        return max(taken.estimate - low, high - taken.estimate) * math.sqrt(1 - taken.n / most)

    def _allowed(self, taken: Samples | GridStatistic, tolerance: float | None) -> float:
        if tolerance is not None:
            return tolerance
        usual = TENTH * abs(self.logit_difference) if taken.unit == "logits" else USUAL.get(taken.unit, FINE)
        return max(usual, TENTH * abs(taken.estimate))

    def _interval(self, taken: Samples | Grid | GridStatistic, confidence: float) -> tuple[float, float]:
        assert not isinstance(taken, Grid)
        if isinstance(taken, GridStatistic):
            return grid_interval(taken, confidence, self.ioi.seed)[1:]
        if taken.unit == "rate":
            return rate_interval(taken, confidence)
        return mean_interval(taken, confidence, self.ioi.seed)


def _as_taken(samples: Samples, _: int) -> Samples:
    return samples
