"""Pairs of prompts with their answers: the operations of the suite on prompts of one's own.

    antonyms = ContrastTask.of(subject, Contrasts.of("antonyms.csv"))
    antonyms.logit_difference()
    antonyms.patch([Head(9, 9)], at="word").recovery()
    antonyms.head_sweep(at="END")
    antonyms.circuit(nodes, by="resample").faithfulness()

A pair is a clean text, a corrupted one, and the answers of the clean one with their foils. What is marked in the texts
(`The opposite of [word: hot] is`) is a role: `at="word"` is the position of the last token that the mark covers, in each text
its own; of a mark of several tokens, `first word token` and `last word token` are roles too. END is the last token of all.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Shown
from circuit_claims.measure.store import SessionStore
from circuit_claims.prompts.batch import Batch, TokenizationError, make_batches
from circuit_claims.prompts.contrasts.errors import PairsError
from circuit_claims.prompts.contrasts.population import DEALT, Contrasts
from circuit_claims.prompts.contrasts.prompt import CORRUPTED, ContrastPrompt
from circuit_claims.prompts.source import Half
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.contrast.metrics import DIFFERENCE, PROBABILITY_DIFFERENCE, likelier_tokens, metric_named
from circuit_claims.tasks.contrast.places import recovery_at
from circuit_claims.tasks.contrast.reference import reference_tokens
from circuit_claims.tasks.contrast.tokens import as_read, first_token
from circuit_claims.tasks.measuring import NotAligned, in_order
from circuit_claims.tasks.metric import PROBABILITY, Metric, as_array
from circuit_claims.tasks.operations.attention import Attention
from circuit_claims.tasks.operations.attribution_patching import AttributionPatching
from circuit_claims.tasks.operations.circuits import Circuits
from circuit_claims.tasks.operations.direct_attribution import DirectAttribution
from circuit_claims.tasks.operations.head_parts import Block
from circuit_claims.tasks.operations.logit_lens import LogitLens
from circuit_claims.tasks.operations.patching import Patching
from circuit_claims.tasks.operations.self_repair import SelfRepair
from circuit_claims.tasks.probing.answers import AnswerProbes
from circuit_claims.tasks.task import Layout
from circuit_claims.untested import Untested

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

#: What pairs of different length can be patched at.
AT_ROLES = "pairs of different length patch at END and at marked positions only"


@dataclass(frozen=True, repr=False)
class ContrastTask(Patching, AttributionPatching, Attention, Circuits, SelfRepair, DirectAttribution, LogitLens):
    """Pairs of prompts on one subject.

    every_position: sweeps over places visit all positions in place of the marked ones and END (see `position_sweep`).
    """

    population: Contrasts
    every_position: bool = field(default=False, kw_only=True)

    @classmethod
    def of(
        cls,
        subject: Subject,
        population: Contrasts,
        *,
        metric: str | Metric = "logit difference",
        seed: int = 0,
        chunk: int = 120,
        prepend_bos: bool | None = None,
        store: SessionStore | None = None,
    ) -> Self:
        """The task on a subject, judged by a metric (see `circuit_claims.tasks.contrast.metrics`).

        prepend_bos: None for what the subject was loaded with.

        Raises PairsError where an answer is the number of a token that the subject's vocabulary lacks.
        """
        token, row = population.table.largest_token
        if token >= len(subject.tokenizer):
            raise PairsError(
                f"row {row} of {population.table.name} has the token {token}, and the vocabulary of {subject.name} ends at "
                f"{len(subject.tokenizer) - 1}: give indices of this model's tokenizer, or the answers as texts"
            )
        return cls(
            subject=subject,
            seed=seed,
            chunk=chunk,
            population=population,
            prepend_bos=subject.prepend_bos if prepend_bos is None else prepend_bos,
            other_metric=metric_named(metric, subject),
            store=store or SessionStore(),
        )

    def own_metric(self) -> Metric:
        """The logit of the answer minus that of the foil; of lists, the mean over answers minus the mean over foils."""
        return DIFFERENCE

    def judged_by(self, metric: str | Metric) -> Self:
        """The same task, judged by another metric, which may be named."""
        return replace(self, other_metric=metric_named(metric, self.subject))

    def on(self, *, half: Half | None = None, dealt: bool | None = None) -> Self:
        """The same on one half of the clusters, or with answers dealt out anew; what is left out stays as it is."""
        given = {"half": half, "dealt": dealt}
        return replace(
            self, population=replace(self.population, **{key: value for key, value in given.items() if value is not None})
        )

    def among(self, clusters: Collection[str]) -> Self:
        """The same on some of the clusters alone.

        Raises PairsError where these have too few pairs.
        """
        chosen = replace(self.population, only=frozenset(clusters))
        _ = chosen.chosen
        return replace(self, population=chosen)

    def sets_of_clusters(self) -> "SearchStrategy[frozenset[str]]":
        """What hypothesis draws for `among`: sets of clusters, each with enough pairs to be measured."""
        from circuit_claims.prompts.contrasts.strategies import sets_of_clusters  # hypothesis is slow to import

        return sets_of_clusters(self.population)

    def changed(self, change: str = CORRUPTED) -> Self:
        """The corrupted prompts, judged by the answers of the clean ones."""
        return replace(self, change=change)

    # Behaviour

    def logit_difference(self) -> Measurement:
        """logit(answer) − logit(foil) at END; of lists, the mean over answers minus the mean over foils."""
        return self.measured_by(DIFFERENCE).showing(Shown(DIFFERENCE.shows))

    def probability(self) -> Measurement:
        """The probability of the answer at END, over the whole vocabulary; of several answers, of all together."""
        return self.measured_by(PROBABILITY)

    def probability_difference(self) -> Measurement:
        """The probability of the answers minus that of the foils."""
        return self.measured_by(PROBABILITY_DIFFERENCE)

    def prefers_answer(self) -> Measurement:
        """1 where the logit difference is above zero."""
        return self.samples("answer above foil", "rate", lambda batch: (self._value(DIFFERENCE, batch) > 0).astype(float))

    def answers_right(self) -> Measurement:
        """1 where the answer, or one of the answers, is the likeliest token of the whole vocabulary."""

        def measure(batch: Batch) -> np.ndarray:
            return as_array(batch.is_answer(self.subject.last_logits(batch.tokens).argmax(-1)))

        return self.samples("the answer is the top token", "rate", measure)

    def rank(self) -> Measurement:
        """The answer's place among all tokens, 1 for the likeliest; of several answers, that of the likeliest of them."""

        def measure(batch: Batch) -> np.ndarray:
            return as_array(likelier_tokens(self.subject.last_logits(batch.tokens), batch)) + 1

        return self.samples("rank of the answer", "rank", measure)

    def competence(self) -> Measurement:
        """What a claim that takes the task apart presupposes, whatever it is judged by: answers are ahead of their foils."""
        return self.logit_difference()

    def probes(self) -> AnswerProbes:
        """Linear probes of which answer of a small set it is, at a marked position or END."""
        return AnswerProbes(self)

    # Sweeps over all positions

    def position_sweep(self, *, site: Block = "resid_pre", corruption: str | None = None) -> Measurement:
        """Recovery for what each layer has at one position, patched alone: a grid layer × position, over all positions.

        `residual_sweep` visits the marked positions and END alone, which prompts of different length have in common.

        Raises Untested, when it is taken, where prompts differ in length.
        """
        return replace(self, every_position=True).residual_sweep(site=site, corruption=corruption)

    def position_attribution_sweep(self, *, site: Block = "resid_pre", corruption: str | None = None) -> Measurement:
        """The estimate of `position_sweep` by attribution patching, in its cells and units."""
        return replace(self, every_position=True).residual_attribution_sweep(site=site, corruption=corruption)

    def recovery_at(self, role: str, depth: float) -> Measurement:
        """Recovery for the stream at one position, part of the way up the layers (`circuit_claims.tasks.contrast.places`)."""
        return recovery_at(self, role, depth)

    @property
    def swept_roles(self) -> tuple[str, ...] | None:
        """The marks and END, or None for all positions."""
        return None if self.every_position else self.population.roles

    @property
    def position_labels(self) -> list[str]:
        """The positions' numbers, with the token that stands there where the first prompts agree on it.

        Raises NotAligned where these differ in length.
        """
        batches = self.batches(self.prompts(self.chunk))
        lengths = sorted({batch.tokens.shape[1] for batch in batches})
        if len(lengths) > 1:
            raise Untested(
                f"a sweep over all positions needs prompts of one length, and these have {lengths[0]} to {lengths[-1]} tokens: "
                "sweep over marked positions and END, with residual_sweep"
            )
        tokens = torch.cat([batch.tokens for batch in batches])
        words = [self.subject.tokenizer.decode([token]).strip() for token in tokens[0].tolist()]
        same = (tokens == tokens[0]).all(0).tolist()
        return [f"{place} {word}" if alike else f"{place}" for place, (word, alike) in enumerate(zip(words, same, strict=True))]

    # Which prompts

    @property
    def under(self) -> str:
        """The change that the prompts are under, and whether their answers are their own, as it ends a sentence."""
        return super().under + (f", {DEALT}" if self.population.dealt else "")

    def samples(self, quantity: str, unit: str, measure: Callable[[Batch], np.ndarray], *, key: tuple = ()) -> Measurement:
        """A number from each prompt by itself (see `Measuring.samples`); its name says so where answers are dealt out anew."""
        measured = super().samples(quantity, unit, measure, key=key)
        if not self.population.dealt:
            return measured
        return measured.mapped(lambda samples: replace(samples, quantity=f"{samples.quantity}, {DEALT}"))

    @property
    def limit(self) -> int | None:
        """How many pairs there are."""
        return len(self.population)

    def prompts(self, n: int) -> Sequence[ContrastPrompt]:
        """The first n pairs, or all where there are fewer, with the task's change."""
        order, made = self.store.get(("pairs", self.population, self.seed), lambda: (self.population.order(self.seed), []))
        made += [self.population.prompt(number) for number in order[len(made) : n]]
        return [prompt.changed(self.change) for prompt in made[:n]] if self.change else made[:n]

    def batches(self, prompts: Sequence[ContrastPrompt]) -> list[Batch]:
        """Prompts as batches, each of one length, whose corrupted prompts are of one length too.

        Raises Untested, with one sentence, for prompts or answers that the subject's tokenizer cannot carry.
        """
        answer_token = partial(first_token, space=self.population.space)
        options: dict[str, Any] = {"prepend_bos": self.prepend_bos, "device": str(self.subject.device)}
        try:
            found = make_batches(self.subject.tokenizer, prompts, answer_token=answer_token, **options)
            read = [as_read(batch, self.subject, answer_token, skipped=int(self.prepend_bos)) for batch in found]
        except TokenizationError as error:
            raise Untested(f"{self.population.table.name} cannot be put to {self.subject.name}: {error}") from error
        others = self.subject.tokenizer([prompt.corrupted_text for prompt in prompts], add_special_tokens=False)["input_ids"]
        batches = []
        for batch in read:
            lengths = np.array([len(others[i]) for i in batch.index])
            parts = [np.flatnonzero(lengths == length).tolist() for length in np.unique(lengths)]
            batches += [batch] if len(parts) == 1 else [batch.of_rows(rows) for rows in parts]
        return batches

    def reference_tokens(self, form: Any, prompt: Any, layout: Layout, size: int) -> torch.Tensor:
        """What a mean ablation of a prompt averages over: corrupted prompts of all pairs that lie on tokens as it does."""
        return reference_tokens(self, form, prompt, layout, size)

    # Pairs of different length

    def _paired(self, corruption: str, measure: Callable[[Batch, Batch], np.ndarray]) -> Callable[[Sequence[Any]], np.ndarray]:
        super()._paired(corruption, measure)  # refuses what is no corruption

        def chunk(prompts: Sequence[Any]) -> np.ndarray:
            return in_order(self.batches(prompts), lambda batch: measure(batch, self._other(batch, corruption)))

        return chunk

    def _other(self, clean: Batch, corruption: str) -> Batch:
        """The corrupted prompts of a batch, which are of one length, in its order."""
        (other,) = self.batches([prompt.changed(corruption) for prompt in clean.prompts])
        return other

    def _kept(self, key: tuple, part: tuple, measure: Callable[[], np.ndarray]) -> np.ndarray:
        try:
            return super()._kept(key, part, measure)
        except NotAligned as error:
            first, last, *_ = part
            raise Untested(self._how_they_differ(str(error), self.prompts(last)[first:])) from error

    def _how_they_differ(self, what: str, prompts: Sequence[ContrastPrompt]) -> str:
        """One sentence: what needs pairs that lie alike, how many of these do not, and what to do."""
        unlike, example = [], ""
        for batch in self.batches(prompts):
            other = self._other(batch, CORRUPTED) if not self.change else batch
            lengths = batch.tokens.shape[1], other.tokens.shape[1]
            for row, prompt in enumerate(batch.prompts):
                moved = [role for role in self.population.roles if batch.positions[role][row] != other.positions[role][row]]
                if lengths[0] != lengths[1] or moved:
                    unlike.append(prompt)
                    how = f"{lengths[0]} and {lengths[1]} tokens" if lengths[0] != lengths[1] else f"{moved[0]!r} is elsewhere"
                    example = example or f"row {prompt.row}: {how}"
        return (
            f"{what} needs pairs whose texts have their tokens in the same places, and {len(unlike)} of the first "
            f"{len(prompts)} pairs do not ({example}): {AT_ROLES}"
        )
