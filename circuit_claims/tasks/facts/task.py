"""Recall of facts: what the claims of `claims/facts` measure.

    facts.published([OXYGEN], prepend_bos=False).crossover_layer()
    facts.layers_committed()
    facts.trace(corruption="noise")

The prompts are those facts of `circuit_claims/prompts/facts.py` that the subject can be asked: its tokenizer has all words of
them,
both answers are one token, and another subject of as many tokens, whose answer is another, can stand in the same place. As in
Meng et al. 2022 (section 2), what is said of how facts are recalled is measured on those that the subject answers right.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch

from circuit_claims.measure.measurement import Measurement
from circuit_claims.prompts.batch import Batch, TokenizationError, name_token
from circuit_claims.prompts.facts import RELATIONS, FactList, FactPrompt
from circuit_claims.prompts.source import Half
from circuit_claims.tasks.measuring import in_order
from circuit_claims.tasks.metric import as_array
from circuit_claims.tasks.operations.causal_tracing import CausalTracing
from circuit_claims.tasks.operations.logit_lens import LogitLens
from circuit_claims.tasks.operations.published_prompts import PublishedPrompts
from circuit_claims.untested import Untested

#: Fewer prompts than this give no interval worth the name; one that knows less than this share of what it is asked, guesses.
FEWEST, GUESSING = 8, 0.05

#: The tokens of a prompt before its subject, its subject's, and those after.
Layout = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


class KnowsTooLittle(AssertionError):
    """The subject answers next to none of the facts that it is asked: what presupposes that it does is refuted."""


@dataclass(frozen=True, repr=False)
class Facts(LogitLens, CausalTracing, PublishedPrompts):
    """Facts on one subject, those that it knows unless others are asked for."""

    population: FactList

    def on(self, *, relations: Sequence[str] | None = None, half: Half | None = None, several: bool | None = None) -> "Facts":
        """The same on other facts; what is left out stays as it is.

        Raises ValueError for an unknown relation.
        """
        for name in relations or ():
            if name not in RELATIONS:
                raise ValueError(f"unknown relation {name!r}: use some of {', '.join(RELATIONS)}")
        given = {"relations": None if relations is None else tuple(relations), "half": half, "several": several}
        wanted = {key: value for key, value in given.items() if value is not None}
        return replace(self, population=replace(self.population, **wanted))

    def published(self, prompts: Sequence[tuple[str, str, str]], *, prepend_bos: bool) -> "Facts":
        """Exactly these prompts, each (text, answer, other answer), with or without BOS: nothing is chosen among them.

        Raises Untested where the tokenizer does not know a word of them, or an answer is not one token.
        """
        tokenizer = self.subject.tokenizer
        for text, *_ in prompts:
            if tokenizer.unk_token_id in tokenizer(text, add_special_tokens=False).input_ids:
                raise Untested(f"{self.subject.name}'s tokenizer does not know all words of {text!r}: take a subject that does")
        return super().published(prompts, prepend_bos=prepend_bos)

    def asked(self) -> "Facts":
        """The same on all facts that the subject can be asked, whether it knows them or not."""
        return replace(self, population=replace(self.population, known=False))

    @property
    def n_layers(self) -> int:
        """How many layers the subject has."""
        return self.subject.transformer.n_layers

    # Behaviour

    def answers_right(self) -> Measurement:
        """1 where the right answer is the likeliest token of the whole vocabulary."""
        return self.samples("the right answer is the top token", "rate", self._right)

    def prefers_its_own(self) -> Measurement:
        """1 where the right answer's logit is above that of the answer for the partner, another subject."""
        return self.samples(
            "the right answer above another subject's",
            "rate",
            lambda batch: (self.value_of(batch) > 0).astype(float),
        )

    def _right(self, batch: Batch) -> np.ndarray:
        return as_array(self.subject.last_logits(batch.tokens).argmax(-1) == batch.answers[:, 0])

    # Which prompts

    @property
    def limit(self) -> int | None:
        """How many prompts there are: as many as were published, or as the subject can be asked, or knows."""
        return len(self.fixed) or len(self._facts())

    def prompts(self, n: int) -> Sequence[Any]:
        """The first n prompts."""
        return self.fixed[:n] if self.fixed else self._facts()[:n]

    def _facts(self) -> tuple[FactPrompt, ...]:
        return self.store.get(("facts", self.population, self.prepend_bos), self._chosen)

    def _chosen(self) -> tuple[FactPrompt, ...]:
        """The facts of the population that this subject can be asked, and knows where that is wanted.

        Raises Untested where these are too few, and KnowsTooLittle where the subject knows no more than guessing gives.
        """
        asked = self._askable()
        if len(asked) < FEWEST:
            raise Untested(
                f"{self.subject.name}'s tokenizer can carry {len(asked)} of the prompts about {self.population}: "
                "add facts in its words to circuit_claims/prompts/facts.py"
            )
        if not self.population.known:
            return asked
        place = ("right", self.population, self.prepend_bos)
        right = self.store.get(place, lambda: in_order(self.batches(asked), self._right))
        known = tuple(prompt for prompt, is_right in zip(asked, right, strict=True) if is_right)
        told = f"of {len(asked)} prompts about facts, {self.subject.name} answers {len(known)} right"
        if len(known) < FEWEST and len(known) < GUESSING * len(asked):
            raise KnowsTooLittle(f"{told}: how it recalls facts presupposes that it does")
        if len(known) < FEWEST:
            raise Untested(f"{told}, and {FEWEST} are needed: add facts that it knows to circuit_claims/prompts/facts.py")
        return known

    def _askable(self) -> tuple[FactPrompt, ...]:
        """The facts that the subject's tokenizer can carry, each with a partner, in the order of the stream.

        The partner is the next subject round the table with the same tokens before and after it, as many of its own, and
        another answer.
        """
        prompts = [prompt for prompt in self.population.stream(self.seed) if self._one_token(prompt.answers[0])]
        layouts = self._layouts(prompts) if prompts else []
        tables: dict[tuple, list[int]] = {}
        for index, layout in enumerate(layouts):
            if layout is not None and (len(layout[1]) > 1 or not self.population.several):
                tables.setdefault((prompts[index].template, layout[0], len(layout[1]), layout[2]), []).append(index)
        asked = {}
        for table in tables.values():
            for seat, index in enumerate(table):
                answer = prompts[index].answers[0]
                others = (prompts[other] for other in table[seat + 1 :] + table[:seat])
                partner = next((other for other in others if other.answers[0] != answer), None)
                if partner is not None:
                    asked[index] = replace(prompts[index], answers=(answer, partner.answers[0]), partner=partner.subject)
        return tuple(asked[index] for index in sorted(asked))

    def _one_token(self, answer: str) -> bool:
        try:
            name_token(self.subject.tokenizer, answer)
        except TokenizationError:
            return False
        return True

    def _layouts(self, prompts: Sequence[FactPrompt]) -> list[Layout | None]:
        """How each prompt lies on tokens; None where the tokenizer does not know a word of it."""
        tokenizer, found = self.subject.tokenizer, []
        encoded = tokenizer([prompt.text for prompt in prompts], add_special_tokens=False, return_offsets_mapping=True)
        for prompt, ids, offsets in zip(prompts, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            ((_, begin, end),) = prompt.phrases
            inside = [a < end and b > begin for a, b in offsets]
            parts = [tuple(token for _, token in group) for _, group in groupby(zip(inside, ids, strict=True), lambda p: p[0])]
            layout = ((), *parts) if inside[0] else tuple(parts)
            found.append(layout if len(layout) == 3 and tokenizer.unk_token_id not in ids else None)
        return found

    @property
    def spread(self) -> float:
        """How far embeddings are spread: the standard deviation of all numbers in those of the subjects that can be asked.

        As in the paper's code, of token embeddings alone, without positions. Of all relations, whichever are asked, so that
        noise is the same for all.
        """
        everything = replace(self, population=FactList(half=self.population.half, known=False))

        def make() -> float:
            layouts = everything._layouts(everything._askable())
            subjects = dict.fromkeys(layout[1] for layout in layouts if layout is not None)
            tokens = torch.tensor([token for subject in subjects for token in subject], device=self.subject.device)
            return float(self.subject.transformer.token_embeddings(tokens).double().std())

        return self.store.get(("spread", everything.population), make)
