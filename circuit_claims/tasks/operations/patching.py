"""Activation patching and path patching.

    task.patch(heads, at="END").recovery()
    task.noise(heads, at="END").change()
    task.path(senders, to=receivers, into="q", at="END").share()
    task.head_sweep(at="END")
    task.residual_sweep()
    task.path_sweep(to="logits")

Denoising runs the corrupted prompts with activations from the clean ones, and asks what is won back; noising runs the clean
prompts with activations from the corrupted ones, and asks what is lost. Path patching (Wang et al. 2022, appendix B) noises one
path and leaves all others alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from circuit_claims.engine.paths import Receivers
from circuit_claims.engine.run import first_difference
from circuit_claims.heads import Head, Reader
from circuit_claims.measure.measurement import Measurement
from circuit_claims.prompts.batch import Batch
from circuit_claims.tasks.measuring import aligned, head_list
from circuit_claims.tasks.operations import sweeps
from circuit_claims.tasks.operations.head_parts import PARTS, Block, Part, parts_of
from circuit_claims.tasks.operations.intervention import Intervention
from circuit_claims.tasks.operations.sweeps import SHARE
from circuit_claims.tasks.task import Task


@dataclass(frozen=True, repr=False)
class Patching(Task):
    """Patching of heads, of the residual stream, and of paths. A corruption that is not named is the population's own."""

    def patch(
        self, heads: Sequence[Head], *, part: Part = "output", at: str | None = "END", corruption: str | None = None
    ) -> "Patched":
        """Denoising: run the corrupted prompts with a part of these heads from the clean prompts.

        part: their outputs z, queries, keys, values, or patterns (of the query's position); at: at one role's position, or
        None for all positions.
        """
        return Patched(self, tuple(heads), at, self.corruption(corruption, "denoising"), part)

    def noise(self, heads: Sequence[Head], *, at: str = "END", corruption: str | None = None) -> "Noised":
        """Noising: run the clean prompts with these heads' outputs z, at one role's position, from the corrupted prompts."""
        return Noised(self, tuple(heads), at, self.corruption(corruption, "noising"))

    def path(
        self,
        senders: Sequence[Head],
        *,
        to: Sequence[Head] | Literal["logits"] = "logits",
        into: Reader = "q",
        at: str = "END",
        corruption: str | None = None,
    ) -> "Path":
        """Path patching of senders together, at one role's position: to the logits, or into the receivers' q, k or v there."""
        return Path(self, tuple(senders), _receivers(to, into), at, self.corruption(corruption, "noising"))

    def head_sweep(self, *, part: Part = "output", at: str | None = "END", corruption: str | None = None) -> Measurement:
        """Recovery of the metric for a part of each head, patched alone: a grid layer × head.

        recovery = (patched − corrupted) / (clean − corrupted), each averaged over prompts first; 1 restores everything.
        part, at: as for `patch`.
        """
        return sweeps.head_sweep(self, part, at, self.corruption(corruption, "denoising"))

    def noise_sweep(self, *, at: str = "END", corruption: str | None = None) -> Measurement:
        """The change by noising each head's output alone at one role's position: a grid layer × head."""
        return sweeps.noise_sweep(self, at, self.corruption(corruption, "noising"))

    def residual_sweep(self, *, site: Block = "resid_pre", corruption: str | None = None) -> Measurement:
        """Recovery for what each layer has at one position, patched alone: a grid layer × role.

        Of published prompts, a grid layer × position. site: the stream before the layer, or what its attention or MLP writes.
        It presupposes that the untouched model has the answer: what little a corruption changes in a model that has none
        arrives at END by the architecture alone.
        """
        return sweeps.residual_sweep(self, site, self.corruption(corruption, "denoising"))

    def path_sweep(
        self,
        *,
        to: Sequence[Head] | Literal["logits"] = "logits",
        into: Reader = "q",
        at: str = "END",
        corruption: str | None = None,
    ) -> Measurement:
        """Path patching of every head alone: what it costs as a share of the baseline, a grid layer × head.

        share = (original − patched) / original, each averaged over prompts first: positive for heads that help along this
        path (the paper shows the same with the opposite sign).
        """
        return sweeps.path_sweep(self, _receivers(to, into), at, self.corruption(corruption, "noising"))


@dataclass(frozen=True)
class Patched:
    """Heads patched together, clean into corrupted."""

    task: Task
    heads: tuple[Head, ...]
    at: str | None
    corruption: str
    part: Part = "output"

    def value(self) -> Measurement:
        """The metric of the corrupted prompts with the patch, judged by the clean prompts' answers."""
        task = self.task

        def measure(clean: Batch, corrupted: Batch) -> np.ndarray:
            run, start = task.subject.run(corrupted.tokens), first_difference(clean.tokens, corrupted.tokens)
            patched = task.subject.transformer.intervene(run, [self._edits(clean, corrupted)], start=start)
            return task.value_from(patched, clean)[0]

        return task.pairs(f"{task.metric.name} with {self._name} patched", self.corruption, task.metric.unit, measure)

    def change(self) -> Measurement:
        """What is won back, prompt by prompt: patched minus corrupted metric."""
        task = self.task

        def measure(clean: Batch, corrupted: Batch) -> np.ndarray:
            return task.recovered(clean, corrupted, [self._edits(clean, corrupted)])[0][:, 0]

        unit = task.metric.unit
        won_back = task.pairs(f"recovery by {self._name}, in {unit}", self.corruption, unit, measure)
        return won_back.presupposing(task.baseline(self.corruption))

    def recovery(self) -> Measurement:
        """(patched − corrupted) / (clean − corrupted) of the metric, each averaged over prompts first."""
        task = self.task
        quantity = f"recovery by {self._name} ({self.corruption}){task.under}"
        return self.change().share_of(task.baseline(self.corruption), quantity, SHARE)

    def share_of_output(self) -> Measurement:
        """What the part recovers as a share of what the outputs of the same heads do, each averaged over prompts first."""
        whole = replace(self, part="output").change()
        quantity = f"recovery by {self._name}, as a share of that by their whole output ({self.corruption}){self.task.under}"
        return self.change().share_of(whole, quantity, "share of the outputs' recovery")

    def _edits(self, clean: Batch, corrupted: Batch):
        return parts_of(self.task, clean, self.heads, self.part, corrupted, self.at)

    @property
    def _name(self) -> str:
        part = "" if self.part == "output" else f"the {PARTS[self.part]} of "
        return f"{part}{head_list(self.heads)} at {self.at or 'all positions'}"


@dataclass(frozen=True)
class Noised(Intervention):
    """Heads patched together, corrupted into clean."""

    heads: tuple[Head, ...]
    at: str
    corruption: str

    def value(self) -> Measurement:
        """The metric of the clean prompts with the heads' outputs from the corrupted ones."""
        task = self.task

        def measure(clean: Batch, corrupted: Batch) -> np.ndarray:
            edits = parts_of(task, corrupted, self.heads, "output", clean, self.at)
            run = task.subject.run(clean.tokens)
            return task.value_from(task.subject.transformer.intervene(run, [edits]), clean)[0]

        quantity = f"{task.metric.name} with {head_list(self.heads)} at {self.at} from other prompts"
        return task.pairs(quantity, self.corruption, task.metric.unit, measure)

    @property
    def how(self) -> str:
        """What is done, in words."""
        return f"by noising {head_list(self.heads)} at {self.at} ({self.corruption})"


@dataclass(frozen=True)
class Path(Intervention):
    """Senders and receivers, and the prompts that the senders' outputs come from."""

    senders: tuple[Head, ...]
    receivers: Receivers | None
    at: str
    corruption: str

    def value(self) -> Measurement:
        """The metric with the path patched."""
        task = self.task

        def measure(clean: Batch, corrupted: Batch) -> np.ndarray:
            aligned(clean, corrupted, "path patching", self.at)
            run, new = task.subject.run(clean.tokens), task.subject.run(corrupted.tokens)
            streams = task.subject.transformer.path_patch(run, new, [self.senders], self.receivers, clean.at(self.at))
            return task.value_from(streams, clean)[0]

        quantity = f"{task.metric.name} with the path {self._name} patched"
        return self._as_edge(task.pairs(quantity, self.corruption, task.metric.unit, measure))

    def change(self) -> Measurement:
        """Clean minus patched value, prompt by prompt."""
        return self._as_edge(super().change())

    def _as_edge(self, measurement: Measurement) -> Measurement:
        """The measurement, whose rows say which path they are about (see `circuit_claims.verdicts.rows.Row.edge`)."""
        edge = {
            "senders": [str(head) for head in self.senders],
            "receivers": [str(head) for head in self.receivers.heads] if self.receivers else "logits",
            "into": self.receivers.input if self.receivers else "",
            "at": self.at,
            "corruption": self.corruption,
        }
        return measurement.mapped(lambda samples: replace(samples, facts={**samples.facts, "edge": edge}))

    @property
    def how(self) -> str:
        """What is done, in words."""
        return f"by the path {self._name} ({self.corruption})"

    @property
    def _name(self) -> str:
        return f"{head_list(self.senders)} at {self.at} → {self.receivers or 'logits'}"


def _receivers(to: Sequence[Head] | Literal["logits"], into: Reader) -> Receivers | None:
    return None if isinstance(to, str) else Receivers(tuple(to), into)
