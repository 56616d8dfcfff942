"""Indirect object identification: what the IOI claims measure.

    ioi.logit_difference()
    ioi.changed("extra IO").logit_difference()
    ioi.patch(card.heads("name mover"), at="END").recovery()
    ioi.ablate(card.heads("S-inhibition"), by="mean").value()
    ioi.head_sweep(at="END")

Everything returns a `Measurement`: nothing is computed until `expect` asks for prompts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from circuit_claims.heads import Head
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Shown
from circuit_claims.prompts.batch import Batch
from circuit_claims.prompts.ioi import Population, Prompt
from circuit_claims.prompts.source import Half
from circuit_claims.prompts.strategies import FEWEST_NAMES
from circuit_claims.prompts.templates import TWO_SENTENCE_TEMPLATES
from circuit_claims.tasks.ioi.counterfactuals import Counterfactuals
from circuit_claims.tasks.ioi.faithfulness_table import faithfulness_table
from circuit_claims.tasks.ioi.projections import NameProjections
from circuit_claims.tasks.measuring import in_order, with_article
from circuit_claims.tasks.metric import LOGIT_DIFFERENCE, Metric, as_array
from circuit_claims.tasks.operations.attention import Attention
from circuit_claims.tasks.operations.attribution_patching import AttributionPatching
from circuit_claims.tasks.operations.circuits import Circuits
from circuit_claims.tasks.operations.copy_score import CopyScores
from circuit_claims.tasks.operations.direct_attribution import DirectAttribution
from circuit_claims.tasks.operations.intervention import share_of_metric
from circuit_claims.tasks.operations.patching import Patching
from circuit_claims.tasks.operations.published_prompts import PublishedPrompts
from circuit_claims.tasks.operations.self_repair import SelfRepair

PREFERENCE = LOGIT_DIFFERENCE.showing("IO is preferred")


@dataclass(frozen=True, repr=False)
class IOI(
    Patching,
    AttributionPatching,
    Attention,
    CopyScores,
    Circuits,
    SelfRepair,
    DirectAttribution,
    Counterfactuals,
    NameProjections,
    PublishedPrompts,
):
    """Indirect object identification on one subject (Wang et al. 2022)."""

    population: Population

    def own_metric(self) -> Metric:
        """The logit difference, above zero where IO is preferred."""
        return PREFERENCE

    # Which prompts

    def on(
        self,
        *,
        templates: Sequence[int] | None = None,
        orders: Sequence[str] | None = None,
        prefix: int | None = None,
        half: Half | None = None,
    ) -> "IOI":
        """The same on another population of prompts; what is left out stays as it is."""
        given = {"templates": templates, "orders": orders, "prefix": prefix, "half": half}
        wanted = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items() if value is not None}
        return replace(self, population=replace(self.population, **wanted))

    def among(self, population: Population) -> "IOI":
        """The same on a population that hypothesis has drawn, with those of its names that the subject's tokenizer has."""
        there = [name for name in population.names if name in self.subject.names]
        names = tuple(dict.fromkeys([*there, *self.subject.names]))[: max(len(there), FEWEST_NAMES)]
        return replace(self, population=replace(population, names=names))

    def changed(self, change: str) -> "IOI":
        """The same prompts with one change (see `Prompt.changed`); answers stay those of the unchanged prompt.

        An extra sentence needs a template of two sentences, so with it the population keeps only these.

        Raises ValueError where it has none of these.
        """
        if not change.startswith("extra"):
            return replace(self, change=change)
        kept = tuple(template for template in self.population.templates if template in TWO_SENTENCE_TEMPLATES)
        if not kept:
            raise ValueError(
                f"none of the templates has two sentences, so none takes an extra one: use {TWO_SENTENCE_TEMPLATES}"
            )
        return replace(self, change=change, population=replace(self.population, templates=kept))

    # Behaviour

    def logit_difference(self) -> Measurement:
        """logit(IO) − logit(S) at END, in logits (Wang et al. 2022, section 2)."""
        return self.measured_by(PREFERENCE).showing(Shown(PREFERENCE.shows))

    def probability(self) -> Measurement:
        """The probability of IO at END, over the whole vocabulary (Wang et al. 2022, section 2)."""

        def measure(batch: Batch) -> np.ndarray:
            probabilities = self.subject.last_logits(batch.tokens).softmax(-1)
            return as_array(probabilities.gather(1, batch.answers[:, :1])[:, 0])

        return self.samples("probability of IO", "probability", measure)

    def prefers_io(self) -> Measurement:
        """1 where IO's logit is above S's (Wang et al. 2022, section 2)."""
        return self.samples("IO above S", "rate", lambda batch: (self._value(PREFERENCE, batch) > 0).astype(float))

    def prefers_s(self) -> Measurement:
        """1 where S's logit is above IO's (Wang et al. 2022, figure 8)."""
        return self.samples("S above IO", "rate", lambda batch: (self._value(PREFERENCE, batch) < 0).astype(float))

    def answers_io(self) -> Measurement:
        """1 where IO is the likeliest token of the whole vocabulary."""

        def measure(batch: Batch) -> np.ndarray:
            return as_array(self.subject.last_logits(batch.tokens).argmax(-1) == batch.answers[:, 0])

        return self.samples("IO is the top token", "rate", measure)

    def effect_of(self, change: str) -> Measurement:
        """How much a change moves the metric, as a share of the unchanged one: (changed − unchanged) / unchanged.

        Paired prompt by prompt; both are averaged over prompts before they are divided.
        """
        unchanged = replace(self.changed(change), change=self.change)

        def chunk(prompts: Sequence[Prompt]) -> np.ndarray:
            after = in_order(self.batches([prompt.changed(change) for prompt in prompts]), self.value_of)
            before = in_order(self.batches(prompts), self.value_of)
            return np.stack([after - before, before], axis=1)

        quantity = f"change of the {self.metric.name} by {with_article(change)}"
        measured = unchanged.measurement(("effect", change), chunk, quantity, share_of_metric(self))
        return unchanged.as_shares(measured, "")

    def faithfulness_table(self, nodes: Iterable[tuple[Head, str]], *, prepend_bos: bool) -> Measurement:
        """F(C) and F(M) on each template in each order, with or without BOS (Miller et al. 2024): see that module."""
        return faithfulness_table(self, nodes, prepend_bos=prepend_bos)
