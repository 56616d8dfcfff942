"""From prompts to samples: what every task needs to be measured.

A task knows its subject and its prompts. It measures them batch by batch, in chunks of fixed bounds, each once a session, so
that a verdict that asks for more prompts, and a claim that asks for the same numbers, pay only for what is new.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims import forward_passes
from circuit_claims.engine.edits import Edit
from circuit_claims.engine.run import first_difference
from circuit_claims.heads import Head
from circuit_claims.measure.blocks import blocks
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Samples, Shown
from circuit_claims.measure.store import SessionStore
from circuit_claims.prompts.batch import Batch, make_batches
from circuit_claims.prompts.source import AnyPrompt, FixedPrompt, PromptSource
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.metric import LOGIT_DIFFERENCE, Metric


class NotAligned(ValueError):
    """Something needs pairs that lie alike on their positions, and these do not; the message names what does."""


def aligned(clean: Batch, corrupted: Batch, what: str, role: str | None = None) -> None:
    """Raise NotAligned where the two differ in length or, of a role, in where it stands; what: what needs that they do not."""
    if clean.tokens.shape != corrupted.tokens.shape or (role and not torch.equal(clean.at(role), corrupted.at(role))):
        raise NotAligned(what)


@dataclass(frozen=True, repr=False)
class Measuring:
    """Prompts on one subject, and how they are measured.

    population: which prompts; change: what is done to each of them ("" for nothing); fixed: published prompts in place of drawn
    ones; chunk: how many prompts are measured at a time; store: what has been measured, shared by all variants of the task;
    other_metric: what the model is judged by in place of the task's own metric.
    """

    subject: Subject
    seed: int
    chunk: int
    population: PromptSource
    prepend_bos: bool
    change: str = ""
    fixed: tuple[FixedPrompt, ...] = ()
    store: SessionStore = field(default_factory=SessionStore, repr=False)
    other_metric: Metric | None = None

    def __repr__(self) -> str:
        """Short: hypothesis prints a claim's arguments with a counterexample."""
        return f"{type(self).__name__} on {self.subject.name}: {self.about}"

    #: The card's families of this task begin with these words; none for a task whose families have no chapter of their own.
    family: ClassVar[str] = ""

    @cached_property
    def metric(self) -> Metric:
        """What the model is judged by: the task's own metric, unless another was given (see `judged_by`)."""
        return self.other_metric or self.own_metric()

    def own_metric(self) -> Metric:
        """The metric that the task is published with."""
        return LOGIT_DIFFERENCE

    def judged_by(self, metric: Metric) -> Self:
        """The same task, judged by another metric."""
        return replace(self, other_metric=metric)

    def corruption(self, given: str | None, use: Literal["denoising", "noising", "attribution"]) -> str:
        """The corruption that was asked for, or the population's own for this use."""
        return given or getattr(self.population.corruptions, use)

    @property
    def about(self) -> str:
        """Which prompts these are, in words."""
        if self.fixed:
            return f"{len(self.fixed)} published prompts"
        return self.population.about(self.under, self.subject.names)

    @property
    def limit(self) -> int | None:
        """How many prompts there are, where they are finitely many."""
        return len(self.fixed) or None

    @property
    def swept_roles(self) -> tuple[str, ...] | None:
        """The roles whose positions a sweep visits; None where it visits all positions that there are."""
        return None if self.fixed else self.population.roles

    @property
    def position_labels(self) -> list[str]:
        """What positions are called where all are visited: their numbers, with the tokens of the first published prompt."""
        (batch,) = self.batches(self.fixed[:1])
        tokens = batch.tokens[0].tolist()
        return [f"{place} {self.subject.tokenizer.decode([token]).strip()}" for place, token in enumerate(tokens)]

    # Prompts

    def prompts(self, n: int) -> Sequence[Any]:
        """The first n prompts, of the kind that the population draws, as they are measured: with the task's change."""
        if self.fixed:
            return [prompt.changed(self.change) for prompt in self.fixed[:n]] if self.change else self.fixed[:n]
        place = ("prompts", self.population)
        drawn, stream = self.store.get(place, lambda: ([], self.population.stream(self.seed)))
        while len(drawn) < n:
            drawn.append(next(stream))
        return [prompt.changed(self.change) for prompt in drawn[:n]] if self.change else drawn[:n]

    def batches(self, prompts: Sequence[AnyPrompt]) -> list[Batch]:
        """Prompts as batches of one length each, on the subject's device."""
        device = str(self.subject.device)
        return make_batches(self.subject.tokenizer, prompts, prepend_bos=self.prepend_bos, device=device)

    # Measurements

    def measurement(
        self, key: tuple, chunk: Callable[[Sequence[Any]], Float[np.ndarray, "prompt ..."]], quantity: str, unit: str
    ) -> Measurement:
        """Whatever `chunk` gives for some prompts: one number each, or numerator and denominator of a ratio of means.

        key: what tells this measurement from every other of the session.
        """

        def take(n: int) -> Samples:
            prompts = self.prompts(n)
            values = self._in_chunks(key, chunk, prompts)
            return Samples(
                values=values[:, 0] if values.ndim == 2 else values,
                weights=values[:, 1] if values.ndim == 2 else None,
                quantity=quantity,
                unit=unit,
                clusters=clusters_of(prompts),
                prompts=prompts,
                population=self.about,
                exact=0 < len(self.fixed) <= n,
            )

        return Measurement(take, self.prepend_bos, self.limit)

    def samples(self, quantity: str, unit: str, measure: Callable[[Batch], np.ndarray], *, key: tuple = ()) -> Measurement:
        """A number (or two, see `measurement`) from each prompt by itself.

        key: what tells it from other measurements, where its quantity's name does not.
        """
        name = quantity + (f" with {with_article(self.change)}" if self.change else "")
        return self.measurement((quantity, *key), lambda prompts: in_order(self.batches(prompts), measure), name, unit)

    def baseline(self, corruption: str = "") -> Measurement:
        """What shares are taken of: the metric of the untouched model, or with a corruption, clean minus corrupted metric.

        Both say of every prompt whether there is something to share; what a corruption costs presupposes the competence.
        """
        metric = self.metric
        if not corruption:
            return self.measured_by(metric).showing(Shown(metric.shows))

        def measure(clean: Batch, corrupted: Batch) -> np.ndarray:
            before = self.value_from(self.subject.run(corrupted.tokens).resid[-1][:, -1], clean)
            return self.value_of(clean) - before

        cost = self.pairs(f"clean minus corrupted {metric.name}", corruption, metric.unit, measure)
        return cost.showing(self.costs(corruption)).presupposing(self.competence())

    def competence(self) -> Measurement:
        """What a claim that takes the task apart presupposes: above zero where the model does the task."""
        return self.baseline()

    def measured_by(self, metric: Metric) -> Measurement:
        """A metric of the untouched model: the task's own, or another beside it."""
        return self.samples(metric.name, metric.unit, lambda batch: self._value(metric, batch))

    def costs(self, corruption: str) -> Shown:
        """What a prompt shows where a corruption makes a difference to it."""
        return Shown(f"the corruption ({corruption}) costs some of it", task=False)

    def pairs(self, quantity: str, corruption: str, unit: str, measure: Callable[[Batch, Batch], np.ndarray]) -> Measurement:
        """A number (or two) from each prompt and its corruption."""
        return self.measurement(
            (quantity, corruption), self._paired(corruption, measure), f"{quantity} ({corruption}){self.under}", unit
        )

    def of_each_pair(
        self, key: tuple, corruption: str, measure: Callable[[Batch, Batch], np.ndarray], n: int
    ) -> Float[np.ndarray, "prompt ..."]:
        """What `measure` gives for each of the first n prompts and its corruption, in their order; kept for the session.

        key: what tells this measure from every other of the session.

        Raises ValueError for an unknown corruption.
        """
        return self._in_chunks((*key, corruption), self._paired(corruption, measure), self.prompts(n))

    def each_pair(self, corruption: str, n: int) -> list[tuple[Batch, Batch]]:
        """The first n prompts and their corruptions as batches, for what looks at all of them more than once.

        Raises ValueError for an unknown corruption.
        """
        found: list[tuple[Batch, Batch]] = []

        def note(clean: Batch, corrupted: Batch) -> np.ndarray:
            found.append((clean, corrupted))
            return np.zeros(len(clean.tokens))

        self._paired(corruption, note)(self.prompts(n))
        return found

    # Steps that measures share

    def value_of(self, batch: Batch) -> Float[np.ndarray, " prompt"]:
        """The metric of the untouched model."""
        return self._value(self.metric, batch)

    def _value(self, metric: Metric, batch: Batch) -> Float[np.ndarray, " prompt"]:
        return metric.of_last_logits(self.subject.last_logits(batch.tokens), batch)

    def value_from(self, streams: Float[Tensor, "*n prompt d_model"], batch: Batch) -> Float[np.ndarray, "*n prompt"]:
        """The metric from final residual streams at END."""
        return self.metric.of_streams(self.subject.transformer, streams, batch)

    def recovered(
        self, clean: Batch, corrupted: Batch, interventions: Sequence[Sequence[Edit]]
    ) -> tuple[Float[np.ndarray, "prompt intervention"], Float[np.ndarray, " prompt"]]:
        """Patched minus corrupted for every intervention on the corrupted run, and clean minus corrupted."""
        run, start = self.subject.run(corrupted.tokens), first_difference(clean.tokens, corrupted.tokens)
        base = self.value_from(run.resid[-1][:, -1], clean)
        patched = self.value_from(self.subject.transformer.intervene(run, interventions, start=start), clean)
        return (patched - base).T, self.value_of(clean) - base

    def head_outputs_at(self, batch: Batch, positions: Int[Tensor, "prompt k"]) -> list[Float[Tensor, "prompt k head d_head"]]:
        """Every layer's head outputs z at some positions."""
        model, run = self.subject.transformer, self.subject.run(batch.tokens)
        return [model.head_outputs_at(run, layer, positions) for layer in range(model.n_layers)]

    def attention_of(self, batch: Batch, head: Head, role: str) -> Float[Tensor, "prompt key"]:
        """One head's attention from a role's position to all positions."""
        model, run = self.subject.transformer, self.subject.run(batch.tokens)
        return model.attention(head.layer, run.resid[head.layer]).pattern[_rows(batch), head.head, batch.at(role)[:, 0]]

    @property
    def under(self) -> str:
        """The change that the prompts are under, as it ends a sentence."""
        return f", with {with_article(self.change)}" if self.change else ""

    def _paired(self, corruption: str, measure: Callable[[Batch, Batch], np.ndarray]) -> Callable[[Sequence[Any]], np.ndarray]:
        there = self.population.corruptions.names
        if corruption not in there:
            raise ValueError(f"unknown corruption {corruption!r}: use one of {', '.join(there)}")
        if any(corruption not in dict(prompt.corrupted) for prompt in self.fixed):
            raise ValueError(f"these published prompts have no corruption {corruption!r} of their own: patch on drawn prompts")
        if self.change in there:
            raise ValueError(f"the prompts are already changed by {self.change!r}: name the corruption in the patch instead")

        def chunk(prompts: Sequence[Any]) -> np.ndarray:
            clean, corrupted = self.batches(prompts), self.batches([prompt.changed(corruption) for prompt in prompts])
            pairs = zip(clean, corrupted, strict=True)
            if any(a.index != b.index for a, b in pairs):
                raise ValueError(f"{corruption!r} changes the length of a prompt: a corruption replaces a token by a token")
            of_clean = {batch.index: other for batch, other in zip(clean, corrupted, strict=True)}
            return in_order(clean, lambda batch: measure(batch, of_clean[batch.index]))

        return chunk

    def _in_chunks(
        self, key: tuple, chunk: Callable[[Sequence[Any]], np.ndarray], prompts: Sequence[Any]
    ) -> Float[np.ndarray, "prompt ..."]:
        bounds = blocks(len(prompts), self.chunk)
        return np.concatenate([self._kept(key, (first, last), partial(chunk, prompts[first:last])) for first, last in bounds])

    def _kept(self, key: tuple, part: tuple, measure: Callable[[], np.ndarray]) -> np.ndarray:
        """What was measured of a part of the prompts: measured once a session."""
        place = ("values", key, self.metric, self.change, self.population, self.prepend_bos, self.fixed, *part)
        forward_passes.look_up()
        with torch.inference_mode():
            return self.store.get(place, measure)


def clusters_of(prompts: Sequence[Any]) -> list[Any]:
    """What each prompt is alike to others in: what it says itself (published ones their pair), or its template, or nothing."""
    return [getattr(prompt, "cluster", getattr(prompt, "template", i)) for i, prompt in enumerate(prompts)]


def in_order(batches: Sequence[Batch], measure: Callable[[Batch], np.ndarray]) -> Float[np.ndarray, "prompt ..."]:
    """Measure batch by batch, and put the results in the order of the prompts."""
    index = np.concatenate([batch.index for batch in batches])
    values = np.concatenate([measure(batch) for batch in batches])
    return values[np.argsort(index)]


def with_article(change: str) -> str:
    """A change as it reads in a sentence: "an extra S", "a name swap"."""
    plural_or_name = {
        "corrupted": "the corrupted text",
        "ABC": "ABC names",
        "random names": "random names",
        "S1-IO flip": "an S1-IO flip",
    }
    article = "an" if change.startswith("extra") else "a"
    return plural_or_name.get(change, f"{article} {change}")


def head_list(heads: Sequence[Head]) -> str:
    """Heads as they read in a sentence: "L9H9, L9H6"."""
    return ", ".join(str(head) for head in heads)


def _rows(batch: Batch) -> Int[Tensor, " prompt"]:
    return torch.arange(len(batch.tokens), device=batch.tokens.device)
