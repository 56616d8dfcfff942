"""Acronyms: what the claims on three-letter acronyms measure.

    acronyms.noise_sweep()
    acronyms.attention_to_third_word(head)

Source: García-Carrasco et al. 2024. The logit difference is that of the third letter and the likeliest other capital letter, as
the authors' code takes it (`compute_logit_diff_2`). Prompts begin with BOS, as published.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims.heads import Head
from circuit_claims.measure.measurement import Measurement, combined
from circuit_claims.prompts.acronyms import LAYOUT, LETTERS, AcronymPrompt, Acronyms
from circuit_claims.prompts.batch import Batch, bare_token, make_batches
from circuit_claims.tasks.measuring import head_list
from circuit_claims.tasks.metric import Metric, as_array
from circuit_claims.tasks.operations.attention import Attention
from circuit_claims.tasks.operations.patching import Patching


@dataclass(frozen=True, repr=False)
class AcronymTask(Patching, Attention):
    """Acronyms on one subject."""

    population: Acronyms
    family: ClassVar[str] = "acronym"

    def batches(self, prompts: Sequence[AcronymPrompt]) -> list[Batch]:
        """Prompts as batches of one length each; the answers are the letters of the clean and the corrupted third word."""
        options: dict[str, Any] = {
            "prepend_bos": self.prepend_bos,
            "device": str(self.subject.device),
            "answer_token": bare_token,
        }
        return make_batches(self.subject.tokenizer, prompts, **options)

    def logit_difference(self) -> Measurement:
        """logit(third letter) − the highest logit of any other capital letter, at END."""
        return self.baseline()

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

    def own_metric(self) -> Metric:
        """The third letter's logit over the highest of all other capital letters."""
        tokenizer = self.subject.tokenizer
        return letter_margin(tuple(bare_token(tokenizer, letter) for letter in LETTERS))


@lru_cache
def letter_margin(letters: tuple[int, ...]) -> Metric:
    """The logit of the third letter minus the highest of any other; letters: the tokens of A to Z."""

    def tokens(batch: Batch) -> Int[Tensor, "prompt 26"]:
        return torch.tensor(letters, device=batch.tokens.device).expand(len(batch.tokens), -1)

    def margin(logits: Float[Tensor, "*n prompt 26"], batch: Batch) -> Float[np.ndarray, "*n prompt"]:
        own = np.array([LETTERS.index(prompt.third[0]) for prompt in batch.prompts])
        is_own, found = np.arange(len(LETTERS)) == own[:, None], as_array(logits)
        return np.where(is_own, found, 0).sum(-1) - np.where(is_own, -np.inf, found).max(-1)

    return Metric("logit difference", "logits", margin, tokens, "the right letter is ahead of all others")
