"""Repeated random tokens: the scores of previous-token, duplicate-token and induction heads.

Source: Wang et al. 2022, appendix H (100 random tokens, duplicated); Elhage et al. 2021 and Olsson et al. 2022 for the scores.
Random text has no grammar to lean on, so what a head attends to here is its own doing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims.cards.schema import PublishedTable
from circuit_claims.heads import Head
from circuit_claims.measure.grid_statistics import correlation_with, largest_difference
from circuit_claims.measure.measurement import Measurement, combined
from circuit_claims.measure.samples import Grid, Samples
from circuit_claims.measure.store import SessionStore
from circuit_claims.prompts.random_tokens import DRAWS
from circuit_claims.subjects.subject import Subject
from circuit_claims.untested import Untested

Score = Literal["previous token", "duplicate token", "induction", "induction diagonal"]
#: The "induction diagonal" is TransformerLens's demos' score: the whole diagonal that lies so far back, and so one query more
#: than "induction", the last token of the first half, with its attention to the first token, where heads rest.
SCORES: tuple[Score, ...] = ("previous token", "duplicate token", "induction", "induction diagonal")
#: Sequences in the sample, and how many go through the model at once.
SEQUENCES, AT_ONCE = 32, 8
#: What tells one set of random tokens from another of the same seed.
SAID_TWICE = 2022
#: Pairs of draws that make up a null distribution.
PAIRS = 1000
Distance = Literal["largest difference", "correlation"]


@dataclass(frozen=True, repr=False)
class RepeatedTokens:
    """Sequences of repeated random tokens.

    length: of the half that is repeated; a model of fewer positions gets what fits.
    ids: the first token id that is drawn, and the first that is not; a smaller vocabulary is drawn from as a whole. None for
        all tokens. Special tokens are never drawn.
    sequences: how many of them a source's numbers are the mean of, for their tolerance.
    """

    subject: Subject
    seed: int
    prepend_bos: bool
    length: int = 100
    ids: tuple[int, int] | None = None
    sequences: int = SEQUENCES
    store: SessionStore = field(default_factory=SessionStore, repr=False)

    def __repr__(self) -> str:
        """Short: hypothesis prints a claim's arguments with a counterexample."""
        return f"repeated random tokens on {self.subject.name}"

    def as_drawn_by(self, notebook: str) -> Self:
        """The same, with the set-up of one of TransformerLens's notebooks: length, token ids, and whether BOS stands before.

        Raises KeyError for a notebook that is not among `circuit_claims.prompts.random_tokens.DRAWS`.
        """
        draw = DRAWS[notebook]
        given = {"length": draw.length, "ids": (draw.first, draw.end), "sequences": draw.sequences}
        return replace(self, prepend_bos=draw.prepend_bos, **given)

    @property
    def about(self) -> str:
        """Which tokens these are, in words."""
        ids = "" if self._ids is None else f" (ids {self._ids[0]:,} to {self._ids[1] - 1:,})"
        return f"{self.half} repeated random tokens{ids}"

    def attention_scores(self, score: Score) -> Measurement:
        """The score of every head: a grid layer × head of mean attention probabilities.

        previous token: from every position to the one before. duplicate token: from each position of the second half to the
        same token in the first. induction: to the token after that; "induction diagonal": see `SCORES`.

        Raises ValueError for an unknown score.
        """
        if score not in SCORES:
            raise ValueError(f"unknown score {score!r}: use one of {', '.join(SCORES)}")

        def take(n: int) -> Grid:
            values = self._scores()[score][:n]
            return Grid.of_heads(
                values=values,
                quantity=f"{score} score on {self.about}",
                unit="probability",
                marks=self.subject.card.named_heads,
            )

        return Measurement(take, self.prepend_bos, SEQUENCES)

    def score_of(self, head: Head, score: Score) -> Measurement:
        """One head's score, a mean attention probability a sequence."""
        whole = self.attention_scores(score)

        def take(n: int) -> Samples:
            grid = whole.take(n)
            values = grid.values[:, head.layer, head.head]
            return Samples(values, f"{score} score of {head} on {self.about}", grid.unit, grid.clusters)

        return Measurement(take, self.prepend_bos, SEQUENCES)

    def excess(self, heads: Sequence[Head], score: Score, over: float) -> Measurement:
        """The mean of some heads' scores less `over`: above zero where they are what they are called."""
        each = [self.score_of(head, score) for head in heads]
        quantity = f"{score} score of {', '.join(map(str, heads))} less {over:g}, on {self.about}"
        return combined(each, lambda *values: np.mean(values, axis=0) - over, quantity, "probability")

    def beside(self, score: Score, table: PublishedTable) -> Measurement:
        """The score of every head, with the published ones drawn beside them."""
        whole = self.attention_scores(score)
        return replace(whole, take=lambda n: replace(whole.take(n), published=np.array(table.values)))

    def chance_of_distance(self, score: Score, table: PublishedTable, *, by: Distance) -> Measurement:
        """Of pairs of draws, one of as many sequences as the source's and one of ours, those as far apart as the two are.

        One number a pair, 1 where it is so: their share is the p-value of "the source drew from the same model". Both draws are
        taken, with replacement, from the sequences that were measured here.

        by: the largest difference over heads, or how far Pearson's correlation over heads is from 1.
        """
        whole, published = self.beside(score, table), np.array(table.values)

        def reached() -> Float[np.ndarray, " pair"]:
            values = whole.take(SEQUENCES).values
            random = np.random.default_rng([self.seed, PAIRS])
            theirs, ours = (values[random.integers(0, len(values), (PAIRS, n))] for n in (self.sequences, len(values)))
            apart = [_distance(a.mean(0), b.mean(0), by) for a, b in zip(theirs, ours, strict=True)]
            return (np.array(apart) >= _distance(published, values.mean(0), by)).astype(float)

        def take(n: int) -> Samples:
            values = self.store.get(("pairs", score, table, by, self.sequences, *self._key), reached)[:n]
            what = f"share of draws of {self.sequences} whose {by} is as bad, {score} score on {self.about}"
            return Samples(values, what, "rate", range(len(values)), drawn=whole.take(SEQUENCES).figure())

        return Measurement(take, self.prepend_bos, PAIRS)

    def tolerance(self, measured: Measurement, precision: float) -> float:
        """How far from the truth a source's mean may lie that drew so many sequences as it did, by how ours differ.

        Three standard errors of such a mean, and half a unit of the last digit printed (`precision` is one unit).
        """
        taken = measured.take(SEQUENCES)
        if not isinstance(taken, Samples):
            raise TypeError(f"{taken.quantity} is a sweep: ask for the tolerance of a measurement of one number a sequence")
        return 3 * float(taken.values.std(ddof=1)) / self.sequences**0.5 + precision / 2

    @property
    def half(self) -> int:
        """How many tokens are repeated.

        Raises Untested where the model's context is too short to repeat anything.
        """
        room = (self.subject.transformer.n_ctx - int(self.prepend_bos)) // 2
        if room < 4:
            raise Untested(
                f"{self.subject.name} has a context of {self.subject.transformer.n_ctx} tokens: too short to repeat any"
            )
        return min(self.length, room)

    @property
    def _vocabulary(self) -> int:
        return min(len(self.subject.tokenizer), self.subject.transformer.d_vocab)

    @property
    def _ids(self) -> tuple[int, int] | None:
        """The ids drawn from, where this vocabulary has all of them."""
        return self.ids if self.ids is not None and self.ids[1] <= self._vocabulary else None

    def _draw(self, stream: int, shape: tuple[int, ...]) -> Int[Tensor, "*shape"]:
        """Ordinary tokens, by the task's seed and the number of the stream."""
        special, (first, end) = set(self.subject.tokenizer.all_special_ids), self._ids or (0, self._vocabulary)
        ordinary = np.array([token for token in range(first, end) if token not in special])
        return torch.from_numpy(np.random.default_rng([self.seed, stream]).choice(ordinary, shape))

    def _tokens(self, stream: int = SAID_TWICE) -> Int[Tensor, "sequence pos"]:
        half = self._draw(stream, (SEQUENCES, self.half))
        start = [torch.full((SEQUENCES, 1), self.subject.tokenizer.bos_token_id)] if self.prepend_bos else []
        return torch.cat([*start, half, half], dim=1).to(self.subject.device)

    @torch.inference_mode()
    def _scores(self) -> dict[Score, Float[np.ndarray, "sequence layer head"]]:
        return self.store.get(("scores", *self._key), self._measured_scores)

    @property
    def _key(self) -> tuple:
        return self.seed, self.prepend_bos, self.length, self.ids

    def _measured_scores(self) -> dict[Score, Float[np.ndarray, "sequence layer head"]]:
        model, period, first = self.subject.transformer, self.half, int(self.prepend_bos)
        parts: dict[Score, list[Tensor]] = {score: [] for score in SCORES}
        for tokens in self._tokens().split(AT_ONCE):
            run = model.run(tokens)  # too large to keep, and never asked for again
            layers: dict[Score, list[Tensor]] = {score: [] for score in SCORES}
            for layer in range(model.n_layers):
                pattern = model.attention(layer, run.resid[layer]).pattern
                layers["previous token"].append(_diagonal(pattern, 1, first + 1))
                layers["duplicate token"].append(_diagonal(pattern, period, first + period))
                layers["induction"].append(_diagonal(pattern, period - 1, first + period))
                layers["induction diagonal"].append(_diagonal(pattern, period - 1, first + period - 1))
            for score in SCORES:
                parts[score].append(torch.stack(layers[score], dim=1))
        return {score: torch.cat(parts[score]).double().cpu().numpy() for score in SCORES}


def _distance(a: Float[np.ndarray, "layer head"], b: Float[np.ndarray, "layer head"], by: Distance) -> float:
    return float(largest_difference(b)(a)) if by == "largest difference" else 1 - float(correlation_with(b)(a))


def _diagonal(pattern: Float[Tensor, "sequence head query key"], back: int, first_query: int) -> Float[Tensor, "sequence head"]:
    """Mean attention to the token `back` positions earlier, over queries from `first_query` on."""
    queries: Sequence[int] = range(first_query, pattern.shape[-1])
    keys = [query - back for query in queries]
    return pattern[..., list(queries), keys].mean(-1)
