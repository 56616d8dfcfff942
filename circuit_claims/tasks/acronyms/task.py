"""Acronyms: what the claims on three-letter acronyms measure.

    acronyms.noise_sweep()
    acronyms.attention_to_roles(head)

Source: García-Carrasco et al. 2024. The logit difference is that of the third letter and the likeliest other capital letter, as
the authors' code takes it (`compute_logit_diff_2`). Prompts begin with BOS, as published.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims.engine.edits import Edit
from circuit_claims.heads import Head
from circuit_claims.measure.measurement import Measurement, combined
from circuit_claims.prompts.acronyms import LAYOUT, LETTERS, AcronymPrompt, Acronyms
from circuit_claims.prompts.batch import Batch, bare_token, make_batches
from circuit_claims.tasks.operations.attention import Attention
from circuit_claims.tasks.task import as_array, head_list

CORRUPTION = "third word"


@dataclass(frozen=True, repr=False)
class AcronymTask(Attention):
    """Acronyms on one subject."""

    population: Acronyms
    corruptions: ClassVar[tuple[str, ...]] = (CORRUPTION,)
    done: ClassVar[str] = "the right letter is ahead of all others"

    def batches(self, prompts: Sequence[AcronymPrompt]) -> list[Batch]:
        """Prompts as batches of one length each; the answers are the letters of the clean and the corrupted third word."""
        options = {"prepend_bos": self.prepend_bos, "device": str(self.subject.device), "answer_token": bare_token}
        return make_batches(self.subject.tokenizer, prompts, **options)

    def logit_difference(self) -> Measurement:
        """logit(third letter) − the highest logit of any other capital letter, at END."""
        return self.whole()

    def noise_sweep(self) -> Measurement:
        """The loss of logit difference with each head's z at END from the prompt with another third word: layer × head."""
        model = self.subject.transformer

        def measure(clean: Batch, corrupted: Batch) -> np.ndarray:
            positions, run, edits = clean.at("END"), self.subject.run(clean.tokens), []
            for layer, z in enumerate(self.head_outputs_at(corrupted, positions)):
                edits += [[Edit(layer, "z", z[:, :, head], head, positions)] for head in range(model.n_heads)]
            return (self.logit_difference_of(clean) - self.difference(model.intervene(run, edits), clean)).T

        quantity = "loss by noising one head's output at END"
        labels = {"quantity": f"{quantity} ({CORRUPTION})", "column_axis": "head", "marks": self._marks}
        labels["column_labels"] = [f"H{head}" for head in range(model.n_heads)]
        swept = self._swept((quantity,), self._paired(CORRUPTION, measure), "logits", weighted=False, labels=labels)
        return swept.presupposing(self.whole())

    def attention_to_third_word(self, head: Head) -> Measurement:
        """Attention from END to the third word's capital letter over the next most of any token but BOS, drawn as it lies."""
        measured = self.attention_preference(head, to="C3", of="END")
        return replace(measured, take=lambda n: replace(measured.take(n), drawn=self.drawn_attention([head], n)))

    def attention_one_back(self, heads: Sequence[Head]) -> Measurement:
        """Attention from each word's rest to its capital letter, one token back, over the next most, averaged over heads."""
        each = [self.mean_preference(heads, to=f"C{word}", of=f"T{word}") for word in (1, 2, 3)]
        quantity = f"attention of {head_list(heads)} one token back over the next most"
        return combined(each, lambda *values: np.mean(values, axis=0), quantity, "probability")

    def drawn_attention(self, heads: Sequence[Head], n: int) -> dict[str, Any]:
        """The mean attention of heads from END, token by token, on the first n prompts: all are laid out alike."""
        batches, n_prompts = self.batches(self.prompts(n)), len(self.prompts(n))
        with torch.inference_mode():
            sums = [as_array(self.attention_of(batch, head, "END").sum(0)) for batch in batches for head in heads]
        tokens = ["BOS", *LAYOUT]
        return {
            "kind": "attention",
            "title": f"attention of {head_list(heads)} from END, on average",
            "tokens": tokens,
            "values": (np.sum(sums, axis=0) / (n_prompts * len(heads))).tolist(),
            "query": len(tokens) - 1,
            "unit": "probability",
        }

    # What patches are judged by

    def difference(self, resid: Float[Tensor, "*n prompt d_model"], batch: Batch) -> Float[np.ndarray, "*n prompt"]:
        """The logit difference from a final residual stream at END."""
        letters = self._letters.expand(len(batch.tokens), -1)
        return self._over_the_others(as_array(self.subject.transformer.answer_logits(resid, letters)), batch)

    def logit_difference_of(self, batch: Batch) -> Float[np.ndarray, " prompt"]:
        """The logit difference at END."""
        return self._over_the_others(as_array(self.subject.last_logits(batch.tokens)[:, self._letters]), batch)

    def _over_the_others(self, logits: Float[np.ndarray, "*n prompt 26"], batch: Batch) -> Float[np.ndarray, "*n prompt"]:
        own = np.array([LETTERS.index(prompt.third[0]) for prompt in batch.prompts])
        is_own = np.arange(len(LETTERS)) == own[:, None]
        return np.where(is_own, logits, 0).sum(-1) - np.where(is_own, -np.inf, logits).max(-1)

    @cached_property
    def _letters(self) -> Int[Tensor, " 26"]:
        return torch.tensor([bare_token(self.subject.tokenizer, letter) for letter in LETTERS], device=self.subject.device)

    @property
    def _marks(self) -> list[tuple[int, int]]:
        """The heads that the card names for this task."""
        families = (family for family in self.subject.card.families.values() if family.name.startswith("acronym"))
        return sorted({tuple(head) for family in families for head in family.heads})
