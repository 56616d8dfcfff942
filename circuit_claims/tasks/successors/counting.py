"""Sentences that count, and circuits kept alone on them: the numerals circuit, and circuits of other tasks as controls.

Source: Lan, Torr and Barez 2024, seqcont_circuits: the logit difference is that of the next numeral and the last one shown; a
circuit is heads and MLPs that are kept at all positions, all others being replaced with their mean over sentences of the same
form with numerals in no order. Those who published percentages had other fillers, and only prompts that GPT-2 answers with
confidence; here the order of the circuits is what is asked for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims.engine.edits import Edit
from circuit_claims.heads import Head
from circuit_claims.measure.measurement import Measurement
from circuit_claims.prompts.batch import Batch, TokenizationError, make_batches
from circuit_claims.prompts.sequences import THINGS, Counting
from circuit_claims.prompts.word_tokens import inside
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.task import Task
from circuit_claims.time_spent import spent_on
from circuit_claims.untested import Untested

#: Sentences of one form that a mean is taken over.
REFERENCES = 64


@dataclass(frozen=True, repr=False)
class CountingTask(Task):
    """Sentences that count, on one subject."""

    corruptions: ClassVar[tuple[str, ...]] = ("random numerals",)
    done: ClassVar[str] = "the next numeral is ahead of the last shown"

    @classmethod
    def of(cls, subject: Subject, *, seed: int, chunk: int, prepend_bos: bool) -> "CountingTask":
        """The task with those names and things that the subject's tokenizer has as one token wherever they stand.

        Raises Untested where it does not know the sentences' words, or has too few fillers.
        """
        fillers = [tuple(word for word in words if _one_token(subject, word)) for words in (subject.names, THINGS)]
        population = Counting(*fillers)
        task = cls(subject=subject, seed=seed, chunk=chunk, population=population, prepend_bos=prepend_bos)
        try:
            first = [next(replace(population, sentences=(sentence,)).stream(seed)) for sentence in population.sentences]
            batches = make_batches(subject.tokenizer, first, prepend_bos=False)
        except (TokenizationError, ValueError) as error:
            raise Untested(f"sentences that count cannot be put to this subject: {error}") from None
        if any(subject.tokenizer.unk_token_id in batch.tokens for batch in batches if _has_unknowns(subject)):
            raise Untested("this tokenizer does not know the words of the sentences that count: take a subject with GPT-2's")
        return task

    def kept(self, heads: Iterable[Head], mlps: Iterable[int], called: str) -> "Kept":
        """These heads and MLPs alone, at all positions."""
        return Kept(self, frozenset(heads), frozenset(mlps), called)


@dataclass(frozen=True)
class Kept:
    """A circuit of heads and whole MLPs; `called` is how rows name it."""

    task: CountingTask
    heads: frozenset[Head]
    mlps: frozenset[int]
    called: str

    def without(self, head: Head) -> "Kept":
        """The circuit less one of its heads."""
        return replace(self, heads=self.heads - {head}, called=f"{self.called} without {head}")

    def logit_difference(self) -> Measurement:
        """logit(next) − logit(last shown) of the circuit alone, in logits."""
        key = (self.heads, self.mlps, REFERENCES)
        return self.task.samples(f"logit difference of {self.called} alone", "logits", self._measured, key=key)

    def faithfulness(self) -> Measurement:
        """The circuit's logit difference over the model's, each averaged over prompts first."""
        return self.logit_difference().share_of(
            self.task.whole(), f"logit difference left in {self.called} alone, of the whole"
        )

    def lead_over(self, other: "Kept") -> Measurement:
        """By how much more of the model's logit difference this circuit has than another."""
        quantity = f"logit difference left in {self.called} less that in {other.called}, of the whole"
        part = self.logit_difference().minus(other.logit_difference(), f"{quantity}, in logits", "logits")
        return part.share_of(self.task.whole(), quantity)

    def _measured(self, batch: Batch) -> Float[np.ndarray, " prompt"]:
        model = self.task.subject.transformer
        run = self.task.subject.run(batch.tokens)
        return self.task.difference(model.intervene(run, [self.edits(batch)]), batch)[0]

    def edits(self, batch: Batch) -> list[Edit]:
        """What replaces the rest of the model on a batch."""
        model, means = (
            self.task.subject.transformer,
            [reference_means(self.task, prompt.sentence) for prompt in batch.prompts],
        )
        edits = []
        for layer in range(model.n_layers):
            z, mlp = (torch.stack([mean[part][layer] for mean in means]) for part in ("z", "mlp_out"))
            keep = torch.zeros(*batch.tokens.shape, model.n_heads, dtype=torch.bool, device=batch.tokens.device)
            keep[:, :, [head.head for head in self.heads if head.layer == layer]] = True
            edits.append(Edit(layer, "z", z, keep=keep))
            if layer not in self.mlps:
                edits.append(Edit(layer, "mlp_out", mlp))
        return edits


@spent_on("reference means")
def reference_means(task: CountingTask, sentence: int) -> dict[str, Float[Tensor, "layer pos *width"]]:
    """Head outputs z and MLP outputs, position by position, averaged over sentences of one form with random numerals."""
    place = ("sequence means", sentence, task.population, task.prepend_bos, REFERENCES)
    return task.store.get(place, lambda: _means(task, sentence))


@torch.inference_mode()
def _means(task: CountingTask, sentence: int) -> dict[str, Float[Tensor, "layer pos *width"]]:
    model = task.subject.transformer
    stream = replace(task.population, sentences=(sentence,), half=None).stream(task.seed + 1)
    prompts = [next(stream).changed("random numerals") for _ in range(REFERENCES)]
    (batch,) = task.batches(prompts)  # fillers and numerals are one token each
    run = model.run(batch.tokens)
    found: dict[str, list[Tensor]] = {"z": [], "mlp_out": []}
    for layer in range(model.n_layers):
        inside = model.attention(layer, run.resid[layer])
        found["z"].append(inside.z.mean(0))
        found["mlp_out"].append((run.resid[layer + 1] - run.resid[layer] - inside.out).mean(0))
    return {name: torch.stack(layers) for name, layers in found.items()}


def _one_token(subject: Subject, word: str) -> bool:
    """Whether a word is one token at the beginning of a text and within it."""
    tokenizer = subject.tokenizer
    forms: Sequence[list[int]] = [tokenizer(word, add_special_tokens=False).input_ids, inside(tokenizer, f" {word}")]
    return all(len(ids) == 1 and (not _has_unknowns(subject) or ids[0] != subject.tokenizer.unk_token_id) for ids in forms)


def _has_unknowns(subject: Subject) -> bool:
    """Whether the tokenizer has a token for what it does not know; GPT-2's calls its end of text so, and knows everything."""
    tokenizer = subject.tokenizer
    return tokenizer.unk_token_id is not None and tokenizer.unk_token_id != tokenizer.eos_token_id
