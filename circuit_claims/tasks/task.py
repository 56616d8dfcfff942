"""From prompts to samples: what every task needs to be measured.

A task knows its subject and its prompts. It measures them batch by batch, in chunks of fixed bounds, each once a session, so
that a verdict that asks for more prompts, and a claim that asks for the same numbers, pay only for what is new.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims.engine.edits import Edit
from circuit_claims.engine.run import first_difference
from circuit_claims.heads import Head
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Grid, Samples, Shown
from circuit_claims.measure.store import SessionStore
from circuit_claims.prompts.batch import Batch, TokenizationError, make_batches
from circuit_claims.prompts.ioi import CORRUPTIONS, Prompt
from circuit_claims.prompts.source import PromptSource
from circuit_claims.subjects.subject import Subject
from circuit_claims.untested import Untested


@dataclass(frozen=True)
class FixedPrompt:
    """A prompt as somebody published it, with the two answers compared.

    corrupted: the texts that it was published with as corruptions of it, by what the corruption is called (see `CORRUPTIONS`).
    """

    text: str
    answers: tuple[str, str]
    spans: tuple[tuple[str, int, int], ...] = ()
    corrupted: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self.text

    def changed(self, change: str) -> "FixedPrompt":
        """This prompt as it was published corrupted; the answers stay those of the clean one.

        Raises ValueError where no such corruption of it was published.
        """
        texts = dict(self.corrupted)
        if change not in texts:
            raise ValueError(f"no corruption {change!r} of {self.text!r} was published: use drawn prompts")
        return FixedPrompt(texts[change], self.answers)

    @property
    def cluster(self) -> frozenset[str]:
        """What is one observation: of two prompts that are each other's corruption, the two together."""
        return frozenset({self.text, *dict(self.corrupted).values()})


@dataclass(frozen=True, repr=False)
class Task:
    """Prompts on one subject, and how they are measured.

    population: which prompts; change: what is done to each of them ("" for nothing); fixed: published prompts in place of drawn
    ones; chunk: how many prompts are measured at a time; store: what has been measured, shared by all variants of the task.
    """

    subject: Subject
    seed: int
    chunk: int
    population: PromptSource
    prepend_bos: bool
    change: str = ""
    fixed: tuple[FixedPrompt, ...] = ()
    store: SessionStore = field(default_factory=SessionStore, repr=False)

    def __repr__(self) -> str:
        """Short: hypothesis prints a claim's arguments with a counterexample."""
        return f"{type(self).__name__} on {self.subject.name}: {self.about}"

    #: What pairs with a clean prompt position by position.
    corruptions: ClassVar[tuple[str, ...]] = CORRUPTIONS
    #: What a prompt shows where the task's whole is above zero on it.
    done: ClassVar[str] = "the right answer is ahead"

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

    def published(
        self,
        prompts: Sequence[tuple[str, str, str]],
        *,
        prepend_bos: bool,
        corrupted: Mapping[str, Sequence[tuple[str, str, str]]] | None = None,
    ) -> Self:
        """Exactly these prompts, each (text, IO, S), with or without BOS as they were published: no sampling.

        corrupted: what they were published with to patch between, by the name of the corruption: for each prompt the corrupted
        one, with the answers of the clean one.

        Raises Untested where a name in them is not one token for the subject's tokenizer, or a corrupted prompt has not as many
        tokens as its clean one, and ValueError where its answers are not the clean one's.
        """
        partners: list[list[tuple[str, str]]] = [[] for _ in prompts]
        for name, others in (corrupted or {}).items():
            for of, (_, *answers), (text, *kept) in zip(partners, prompts, others, strict=True):
                if answers != kept:
                    raise ValueError(
                        f"{text!r} is compared at other answers than its clean prompt: patching keeps the clean ones"
                    )
                of.append((name, text))
        fixed = tuple(
            FixedPrompt(text, (io, s), corrupted=tuple(of)) for (text, io, s), of in zip(prompts, partners, strict=True)
        )
        try:
            lists = [fixed, *([prompt.changed(name) for prompt in fixed] for name in corrupted or {})]
            batches = [make_batches(self.subject.tokenizer, each, prepend_bos=prepend_bos) for each in lists]
        except TokenizationError as error:
            raise Untested(f"these prompts cannot be put to {self.subject.name}: {error}") from error
        lengths = [{i: batch.tokens.shape[1] for batch in of for i in batch.index} for of in batches]
        for others, of in zip(lists, lengths, strict=True):
            for i, clean in enumerate(fixed):
                if of[i] != lengths[0][i]:
                    raise Untested(
                        f"{clean.text!r} and its corruption {others[i].text!r} are {lengths[0][i]} and {of[i]} tokens for this "
                        "tokenizer: they must be equally many to be paired position by position"
                    )
        return replace(self, fixed=fixed, prepend_bos=prepend_bos)

    # Prompts

    def prompts(self, n: int) -> Sequence[Prompt | FixedPrompt]:
        """The first n prompts, as they are measured: with the task's change."""
        if self.fixed:
            return [prompt.changed(self.change) for prompt in self.fixed[:n]] if self.change else self.fixed[:n]
        place = ("prompts", self.population)
        drawn, stream = self.store.get(place, lambda: ([], self.population.stream(self.seed)))
        while len(drawn) < n:
            drawn.append(next(stream))
        return [prompt.changed(self.change) for prompt in drawn[:n]] if self.change else drawn[:n]

    def batches(self, prompts: Sequence[Prompt | FixedPrompt]) -> list[Batch]:
        """Prompts as batches of one length each, on the subject's device."""
        device = str(self.subject.device)
        return make_batches(self.subject.tokenizer, prompts, prepend_bos=self.prepend_bos, device=device)

    # Measurements

    def measurement(
        self, key: tuple, chunk: Callable[[Sequence[Prompt]], Float[np.ndarray, "prompt ..."]], quantity: str, unit: str
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

    def whole(self, corruption: str = "") -> Measurement:
        """What shares are taken of: the logit difference, or with a corruption, clean minus corrupted logit difference.

        Both say of every prompt whether there is something to share; what a corruption costs presupposes the logit difference.
        """
        if not corruption:
            return self.samples("logit difference", "logits", self.logit_difference_of).showing(Shown(self.done))

        def measure(clean: Batch, corrupted: Batch) -> np.ndarray:
            before = self.difference(self.subject.run(corrupted.tokens).resid[-1][:, -1], clean)
            return self.logit_difference_of(clean) - before

        cost = self.pairs("clean minus corrupted logit difference", corruption, "logits", measure)
        return cost.showing(self.costs(corruption)).presupposing(self.whole())

    def costs(self, corruption: str) -> Shown:
        """What a prompt shows where a corruption makes a difference to it."""
        return Shown(f"the corruption ({corruption}) costs some of it", task=False)

    def pairs(self, quantity: str, corruption: str, unit: str, measure: Callable[[Batch, Batch], np.ndarray]) -> Measurement:
        """A number (or two) from each prompt and its corruption."""
        return self.measurement(
            (quantity, corruption), self._paired(corruption, measure), f"{quantity} ({corruption}){self.under}", unit
        )

    def grid(
        self,
        quantity: str,
        unit: str,
        measure: Callable[[Batch], Float[np.ndarray, "prompt layer column"]],
        *,
        columns: Sequence[str],
        column_axis: str,
        rows: Sequence[str] | None = None,
        row_axis: str = "layer",
        marks: Sequence[tuple[int, int]] = (),
    ) -> Measurement:
        """A sweep that gives every cell a number from each prompt by itself; its rows are layers unless others are named."""

        def chunk(prompts: Sequence[Prompt]) -> np.ndarray:
            return in_order(self.batches(prompts), lambda batch: measure(batch).reshape(len(batch.prompts), -1))

        labels = {"quantity": quantity + self.under, "column_labels": columns, "column_axis": column_axis, "marks": marks}
        labels["row_axis"] = row_axis
        return self._swept((quantity,), chunk, unit, weighted=False, labels=labels, rows=rows)

    def paired_grid(
        self,
        quantity: str,
        corruption: str,
        unit: str,
        measure: Callable[[Batch, Batch], tuple[Float[np.ndarray, "prompt layer column"], Float[np.ndarray, " prompt"]]],
        *,
        of_clean: bool = False,
        columns: Sequence[str],
        column_axis: str,
        marks: Sequence[tuple[int, int]] = (),
    ) -> Measurement:
        """A sweep over each prompt and its corruption: `measure` gives the cells' numerators and the common denominator.

        of_clean: the denominator is the clean logit difference; else it is clean minus corrupted.
        """

        def packed(clean: Batch, corrupted: Batch) -> np.ndarray:
            cells, whole = measure(clean, corrupted)
            return np.concatenate([cells.reshape(len(whole), -1), whole[:, None]], axis=1)

        name = f"{quantity} ({corruption}){self.under}"
        labels = {"quantity": name, "column_labels": columns, "column_axis": column_axis, "marks": marks}
        swept = self._swept((quantity, corruption), self._paired(corruption, packed), unit, weighted=True, labels=labels)
        return self.as_shares(swept, "" if of_clean else corruption)

    def as_shares(self, swept: Measurement, corruption: str) -> Measurement:
        """A sweep whose denominators are those of `whole(corruption)`: what that presupposes, its cells do."""
        shown = self.costs(corruption) if corruption else Shown(self.done)
        marked = replace(swept, take=lambda n: replace(swept.take(n), whole_shown=shown))
        return replace(marked.presupposing(self.whole()), whole=self.whole(corruption))

    def _swept(
        self,
        key: tuple,
        chunk: Callable[[Sequence[Prompt]], np.ndarray],
        unit: str,
        *,
        weighted: bool,
        labels: dict[str, Any],
        rows: Sequence[str] | None = None,
        cells: slice = slice(None),
    ) -> Measurement:
        """cells: which of the numbers that `chunk` gives for a prompt are the grid's; the weight is the last of all."""
        rows = rows or [f"L{layer}" for layer in range(self.subject.transformer.n_layers)]

        def take(n: int) -> Grid:
            prompts = self.prompts(n)
            values = self._in_chunks(key, chunk, prompts)
            return Grid(
                values=(values[:, :-1] if weighted else values)[:, cells].reshape(len(prompts), len(rows), -1),
                weights=values[:, -1] if weighted else None,
                unit=unit,
                clusters=clusters_of(prompts),
                row_labels=rows,
                exact=0 < len(self.fixed) <= n,
                **labels,
            )

        return Measurement(take, self.prepend_bos, self.limit)

    # Steps that measures share

    def logit_difference_of(self, batch: Batch) -> Float[np.ndarray, " prompt"]:
        """logit(IO) − logit(S) at END, in logits."""
        logits = self.subject.last_logits(batch.tokens).gather(1, batch.answers)
        return as_array(logits[:, 0] - logits[:, 1])

    def difference(self, resid: Float[Tensor, "*n prompt d_model"], batch: Batch) -> Float[np.ndarray, "*n prompt"]:
        """logit(IO) − logit(S) from a final residual stream at END."""
        logits = self.subject.transformer.answer_logits(resid, batch.answers)
        return as_array(logits[..., 0] - logits[..., 1])

    def recovered(
        self, clean: Batch, corrupted: Batch, interventions: Sequence[Sequence[Edit]]
    ) -> tuple[Float[np.ndarray, "prompt intervention"], Float[np.ndarray, " prompt"]]:
        """Patched minus corrupted for every intervention on the corrupted run, and clean minus corrupted."""
        run, start = self.subject.run(corrupted.tokens), first_difference(clean.tokens, corrupted.tokens)
        base = self.difference(run.resid[-1][:, -1], clean)
        patched = self.difference(self.subject.transformer.intervene(run, interventions, start=start), clean)
        return (patched - base).T, self.logit_difference_of(clean) - base

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

    def _paired(
        self, corruption: str, measure: Callable[[Batch, Batch], np.ndarray]
    ) -> Callable[[Sequence[Prompt]], np.ndarray]:
        if corruption not in self.corruptions:
            raise ValueError(f"unknown corruption {corruption!r}: use one of {', '.join(self.corruptions)}")
        if any(corruption not in dict(prompt.corrupted) for prompt in self.fixed):
            raise ValueError(f"these published prompts have no corruption {corruption!r} of their own: patch on drawn prompts")
        if self.change in self.corruptions:
            raise ValueError(f"the prompts are already changed by {self.change!r}: name the corruption in the patch instead")

        def chunk(prompts: Sequence[Prompt]) -> np.ndarray:
            clean, corrupted = self.batches(prompts), self.batches([prompt.changed(corruption) for prompt in prompts])
            pairs = zip(clean, corrupted, strict=True)
            if any(a.index != b.index for a, b in pairs):
                raise ValueError(f"{corruption!r} changes the length of a prompt: a corruption replaces a token by a token")
            of_clean = {batch.index: other for batch, other in zip(clean, corrupted, strict=True)}
            return in_order(clean, lambda batch: measure(batch, of_clean[batch.index]))

        return chunk

    def _in_chunks(
        self, key: tuple, chunk: Callable[[Sequence[Prompt]], np.ndarray], prompts: Sequence[Prompt]
    ) -> Float[np.ndarray, "prompt ..."]:
        parts = []
        for first in range(0, len(prompts), self.chunk):
            last = min(len(prompts), first + self.chunk)
            place = ("values", key, self.change, self.population, self.prepend_bos, self.fixed, first, last)
            with torch.inference_mode():
                parts.append(self.store.get(place, partial(chunk, prompts[first:last])))
        return np.concatenate(parts)


def clusters_of(prompts: Sequence[Any]) -> list[Any]:
    """What each prompt is alike to others in: what it says itself (published ones their pair), or its template, or nothing."""
    return [getattr(prompt, "cluster", getattr(prompt, "template", i)) for i, prompt in enumerate(prompts)]


def in_order(batches: Sequence[Batch], measure: Callable[[Batch], np.ndarray]) -> Float[np.ndarray, "prompt ..."]:
    """Measure batch by batch, and put the results in the order of the prompts."""
    index = np.concatenate([batch.index for batch in batches])
    values = np.concatenate([measure(batch) for batch in batches])
    return values[np.argsort(index)]


def as_array(tensor: Tensor) -> np.ndarray:
    """A tensor as float64 on the host, where statistics are done."""
    return tensor.detach().double().cpu().numpy()


def with_article(change: str) -> str:
    """A change as it reads in a sentence: "an extra S", "a name swap"."""
    plural_or_name = {"ABC": "ABC names", "random names": "random names", "S1-IO flip": "an S1-IO flip"}
    article = "an" if change.startswith("extra") else "a"
    return plural_or_name.get(change, f"{article} {change}")


def head_list(heads: Sequence[Head]) -> str:
    """Heads as they read in a sentence: "L9H9, L9H6"."""
    return ", ".join(str(head) for head in heads)


def _rows(batch: Batch) -> Int[Tensor, " prompt"]:
    return torch.arange(len(batch.tokens), device=batch.tokens.device)
