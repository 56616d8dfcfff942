"""Copy scores: what a head would write if it attended to one token alone, read off the weights.

Source: Wang et al. 2022, section 3.1 and the authors' `check_copy_circuit`: the stream after block 0 at a name's position,
through the head's layer norm, W_V with its bias and W_O, the final layer norm and the unembedding; the score is how often
the name is among the five highest logits, over the words IO, S1 and S2. The negative copy score turns the output round.
Processed weights have b_V folded into the layer's b_O, where it is no head's own: scores in raw mode include it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from circuit_claims.heads import Head
from circuit_claims.measure.measurement import Measurement, pooled
from circuit_claims.prompts.batch import Batch
from circuit_claims.tasks.metric import as_array
from circuit_claims.tasks.task import Task

WORDS = ("IO", "S1", "S2")
HIGHEST = 5

Sign = Literal["positive", "negative"]


@dataclass(frozen=True, repr=False)
class CopyScores(Task):
    """Copy scores on the words of the prompts."""

    def copy_score(self, head: Head, sign: Sign = "positive") -> Measurement:
        """How often a head's copying circuit puts the word among its five highest logits, over IO, S1 and S2: a rate."""
        name = "copy score" if sign == "positive" else "negative copy score"

        def measure_word(word: str) -> Measurement:
            def measure(batch: Batch) -> np.ndarray:
                return as_array(next(iter(self._copied(batch, [head], [word], sign)))[:, 0])

            return self.samples(f"{name} of {head} on {word}", "rate", measure)

        return pooled([measure_word(word) for word in WORDS], f"{name} of {head}", "rate")

    def copy_score_sweep(self, sign: Sign = "positive") -> Measurement:
        """The copy score of every head: a grid layer × head."""
        model, heads = self.subject.transformer, self.all_heads

        def measure(batch: Batch) -> np.ndarray:
            copied = torch.stack([hit.double().mean(1) for hit in self._copied(batch, heads, WORDS, sign)], dim=1)
            return as_array(copied).reshape(len(batch.prompts), model.n_layers, model.n_heads)

        name = "copy score" if sign == "positive" else "negative copy score"
        return self.grid(f"{name} of every head", "rate", measure, **self.heads_axis)

    def _copied(
        self, batch: Batch, heads: Sequence[Head], words: Sequence[str], sign: Sign
    ) -> Iterator[Bool[Tensor, "prompt word"]]:
        """For each head, whether each word is among the five highest logits; a tie with the sixth does not count."""
        model = self.subject.transformer
        rows, where = torch.arange(len(batch.tokens), device=batch.tokens.device)[:, None], batch.at(*words)
        after_block_0 = self.subject.run(batch.tokens).resid[1][rows, where]
        tokens = batch.tokens[rows, where]
        for layer, head in heads:
            out = model.head_out(layer, model.head_input(layer, after_block_0, head, "v"), head)
            logits = model.logits(out if sign == "positive" else -out)
            own = logits.gather(-1, tokens[..., None])
            yield (logits >= own).sum(-1) <= HIGHEST
