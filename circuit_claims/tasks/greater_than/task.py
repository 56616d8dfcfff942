"""Greater-than: what the claims on year spans measure.

    greater_than.probability_difference()
    greater_than.head_sweep_through(mlps)
    greater_than.end_circuit(card.heads("greater than END"), mlps).remaining()

Source: Hanna et al. 2023. After "The war lasted from the year 1732 to the year 17", the probability difference is that of all
two-digit tokens above 32 minus that of all others, over the whole vocabulary; so is everything that is patched judged by it.
Prompts begin with BOS, as published. On a model for which most of the probability does not fall on later years there is nothing
to take apart, and claims that do are refuted.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims.engine.paths import Part, Receivers
from circuit_claims.heads import Head
from circuit_claims.measure.measurement import Measurement, side_by_side
from circuit_claims.measure.samples import Shown
from circuit_claims.prompts.batch import Batch, bare_token, make_batches
from circuit_claims.prompts.greater_than import FORMS, YearPrompt, Years, knows_form, year_tokens
from circuit_claims.tasks.cells import Cells
from circuit_claims.tasks.measuring import head_list, in_order
from circuit_claims.tasks.metric import Metric, as_array
from circuit_claims.tasks.operations.attention import Attention
from circuit_claims.tasks.operations.intervention import Intervention, share_of_metric
from circuit_claims.tasks.operations.patching import Patching
from circuit_claims.untested import Untested

PROBABILITY = "probability"
CORRUPTION = "01"
DECADES = [f"{decade}0–{decade}9" for decade in range(10)]


@dataclass(frozen=True, repr=False)
class GreaterThan(Patching, Attention):
    """Year spans on one subject."""

    population: Years
    family: ClassVar[str] = "greater than"

    def own_metric(self) -> Metric:
        """The probability of all years after YY minus that of all others."""
        return probability_difference(self._year_tokens)

    def changed(self, change: str) -> "GreaterThan":
        """The same prompts with 01 for YY ("01"); they are judged by the YY that they had."""
        return replace(self, change=change)

    def worded(self, form: str, *, century: int) -> "GreaterThan":
        """Year spans of one century in another form (see `circuit_claims.prompts.greater_than.FORMS`).

        Raises Untested where the subject's tokenizer has not its words, or no such years.
        """
        years = tuple(year for year in self.population.years if year // 100 == century)
        if not years or not knows_form(self.subject.tokenizer, form):
            before, between = FORMS[form]
            text = f"{before.format(noun='war')}{century}32{between}{century}".strip()
            raise Untested(f"the subject's vocabulary has not the words of {text!r}: take a subject that has them")
        return replace(self, population=replace(self.population, years=years, form=form))

    def batches(self, prompts: Sequence[YearPrompt]) -> list[Batch]:
        """Prompts as batches of one length each; the answers are YY + 1 and YY − 1."""
        options: dict[str, Any] = {
            "prepend_bos": self.prepend_bos,
            "device": str(self.subject.device),
            "answer_token": bare_token,
        }
        return make_batches(self.subject.tokenizer, prompts, **options)

    # Behaviour

    def probability_difference(self) -> Measurement:
        """The probability of all years after YY minus that of all others, from 00 on (Hanna et al. 2023, section 2)."""
        return self.baseline()

    def cutoff_sharpness(self) -> Measurement:
        """The probability of YY + 1 minus that of YY − 1 (Hanna et al. 2023, section 2)."""
        return self.measured_by(cutoff_sharpness(self._year_tokens))

    def prefers_later(self) -> Measurement:
        """1 where the probability difference is above zero; drawn with the probability of every year by start year."""
        rate = self.samples("years after YY above all others", "rate", lambda batch: (self.value_of(batch) > 0).astype(float))
        return replace(rate, take=lambda n: replace(rate.take(n), drawn=self.heatmap(n)))

    def mean_year_by_decade(self) -> Measurement:
        """The mean predicted year for the start years of each decade: a grid decade × (sum, count).

        A prompt's mean is over the two-digit tokens alone; the grid holds what the means of decades are made of.
        """

        def measure(batch: Batch) -> np.ndarray:
            found = self.year_probabilities_of(batch)
            mean = found @ np.arange(100) / found.sum(-1)
            inside = np.eye(10)[_starts(batch) // 10]
            return np.stack([inside * mean[:, None], inside], axis=-1)

        grid = self.grid(
            "mean predicted year by decade of YY",
            "years",
            measure,
            columns=["sum", "count"],
            column_axis="",
            rows=DECADES,
            row_axis="YY",
        )
        drawn = replace(grid, take=lambda n: replace(grid.take(n), drawn=self.heatmap(n)))
        return drawn.presupposing(self.majority())

    def majority(self) -> Measurement:
        """By how much the probability of years after YY exceeds one half: above zero where the model does the task.

        A claim that takes the task apart presupposes it. The probability difference itself will not do: on a model that knows
        no years it is next to nothing, but not exactly nothing, and of either sign.
        """

        metric = later_years_over_half(self._year_tokens)
        return self.measured_by(metric).showing(Shown(metric.shows))

    def competence(self) -> Measurement:
        """What a claim that takes the task apart presupposes: that years after YY have most of the probability."""
        return self.majority()

    def preference_lost(self) -> Measurement:
        """What becomes of the probability difference with 01 shown for YY: clean minus corrupted, as a share of clean."""
        return self._share(self.baseline(CORRUPTION), f"loss by showing {CORRUPTION} for YY{self.under}")

    def heatmap(self, n: int) -> dict[str, Any]:
        """The probability of every year by decade of YY, on the first n prompts, as Hanna et al. 2023 draw it in figure 2."""
        prompts = self.prompts(n)

        def chunk(some: Sequence[YearPrompt]) -> np.ndarray:
            return in_order(self.batches(some), self.year_probabilities_of)

        found = self._in_chunks(("probability of every year",), chunk, prompts)
        decades = np.array([prompt.start // 10 for prompt in prompts])
        there = [decade for decade in range(10) if (decades == decade).any()]
        return {
            "kind": "heatmap",
            "title": f"probability of each year by decade of YY{self.under}",
            "rows": [DECADES[decade] for decade in there],
            "columns": [f"{year:02d}" for year in range(100)],
            "row_axis": "YY",
            "column_axis": "predicted year",
            "unit": PROBABILITY,
            "values": [found[decades == decade].mean(0).tolist() for decade in there],
            "marks": [],
        }

    # Paths at END

    def direct_sweep_of_mlps(self) -> Measurement:
        """The loss of probability difference with each MLP's direct path to the logits from the 01 prompt: layer × 1."""
        senders = [[Part(layer)] for layer in range(self.subject.transformer.n_layers)]
        return self._loss_sweep(
            "loss by the direct path of each MLP at END to the logits", senders, (), columns=["MLP"], column_axis=""
        )

    def head_sweep_through(self, mlps: Sequence[int]) -> Measurement:
        """The loss with each head's paths from END, straight to the logits or through some MLPs, from the 01 prompt."""
        senders = [[Part(*head)] for head in self.all_heads]
        quantity = f"loss by the paths of each head at END to the logits and through {_mlp_list(mlps)}"
        return self._loss_sweep(quantity, senders, mlps, **self.heads_axis)

    def value_sweep(self, receivers: Sequence[Head]) -> Measurement:
        """The loss by path patching each head at YY into the values of some heads, from the 01 prompt: layer × head."""
        model, into = self.subject.transformer, Receivers(tuple(receivers), "v")

        def measure(clean: Batch, corrupted: Batch, cells: Cells) -> np.ndarray:
            run, new = self.subject.run(clean.tokens), self.subject.run(corrupted.tokens)
            senders = [[self.all_heads[cell]] for cell in cells]
            resid = model.path_patch(run, new, senders, into, clean.at("YY"))
            return (self.value_of(clean) - self.value_from(resid, clean)).T

        quantity = f"loss by path patching one head at YY to the {into}"
        return self.change_grid(quantity, CORRUPTION, measure, **self.heads_axis)

    def mlp_effect(self, layer: int, *, direct: bool) -> Measurement:
        """What an MLP at END carries to the logits, directly or through the MLPs after it, from the 01 prompt, as a share."""
        model = self.subject.transformer
        later = range(layer + 1, model.n_layers)

        def measure(clean: Batch, corrupted: Batch) -> np.ndarray:
            run, new = self.subject.run(clean.tokens), self.subject.run(corrupted.tokens)
            straight = model.path_patch_parts(run, new, [[Part(layer)]])[0]
            resid = straight
            if not direct:  # what arrives by all paths, less what arrives straight
                resid = model.path_patch_parts(run, new, [[Part(layer)]], later)[0] - straight + run.resid[-1][:, -1]
            return self.value_of(clean) - self.value_from(resid, clean)

        way = "directly" if direct else "through later MLPs"
        quantity = f"loss by what MLP {layer} at END carries to the logits {way}"
        part = self.pairs(f"{quantity}, as a probability", CORRUPTION, PROBABILITY, measure)
        return self._share(part, f"{quantity} ({CORRUPTION})")

    def end_circuit(self, heads: Sequence[Head], mlps: Sequence[int]) -> "EndCircuit":
        """The circuit of some heads at END, and of MLPs at END that see them."""
        return EndCircuit(self, tuple(heads), tuple(mlps))

    # Steps

    def year_probabilities_of(self, batch: Batch) -> Float[np.ndarray, "prompt 100"]:
        """The probability of each two-digit token after each prompt."""
        return year_probabilities(self.subject.last_logits(batch.tokens), self._year_tokens)

    @cached_property
    def _year_tokens(self) -> tuple[int, ...]:
        return year_tokens(self.subject.tokenizer)

    def _share(self, part: Measurement, quantity: str) -> Measurement:
        """A part of the probability difference as a share of it, on a model that does the task."""
        grid = side_by_side([part, self.baseline()], ["part", "whole"], quantity, PROBABILITY, presupposes=self.competence())
        return grid.of(lambda means: means[..., 0, 0] / means[..., 0, 1], quantity, share_of_metric(self))

    def _loss_sweep(
        self, quantity: str, senders: Sequence[Collection[Part]], through: Sequence[int], **axes: Any
    ) -> Measurement:
        model = self.subject.transformer

        def measure(clean: Batch, corrupted: Batch, cells: Cells) -> np.ndarray:
            run, new = self.subject.run(clean.tokens), self.subject.run(corrupted.tokens)
            resid = model.path_patch_parts(run, new, [senders[cell] for cell in cells], through)
            return (self.value_of(clean) - self.value_from(resid, clean)).T

        return self.change_grid(quantity, CORRUPTION, measure, **axes)


@dataclass(frozen=True)
class EndCircuit(Intervention):
    """Heads at END whose outputs come from the clean prompt, straight to the logits and through some MLPs; the rest from 01.

    So the authors' code evaluates it (`big_ds_experiments.py`): whatever else writes at END, MLPs of other layers included, is
    what it was on the 01 prompt, and MLPs of the circuit see that together with what the heads write on the clean prompt.
    """

    task: GreaterThan
    heads: tuple[Head, ...]
    mlps: tuple[int, ...]

    @property
    def name(self) -> str:
        """What is kept, in words."""
        return f"{head_list(self.heads)} at END with {_mlp_list(self.mlps)}"

    @property
    def how(self) -> str:
        """What is done, in words."""
        return f"by keeping the circuit {self.name} alone"

    def value(self) -> Measurement:
        """The metric of the circuit alone, on a model that does the task."""
        return self._measured(self.task.metric, corrupted=False)

    def cutoff_sharpness_gained(self) -> Measurement:
        """The cutoff sharpness of the circuit alone minus that of the model."""
        task, name = self.task, f"cutoff sharpness of the circuit {self.name} minus the model's"
        circuit = self.cutoff_sharpness()
        return circuit.minus(task.cutoff_sharpness(), name, PROBABILITY).presupposing(task.majority())

    def cutoff_sharpness(self) -> Measurement:
        """The cutoff sharpness of the circuit alone."""
        return self._measured(cutoff_sharpness(self.task._year_tokens), corrupted=False)

    def remaining(self) -> Measurement:
        """The circuit's probability difference as a share of the model's, each averaged over prompts first."""
        return self.task._share(self.value(), f"share kept by the circuit {self.name}")

    def corrupted(self) -> Measurement:
        """The probability difference with the circuit, and nothing else, from the 01 prompt."""
        return self._measured(self.task.metric, corrupted=True)

    def _measured(self, metric: Metric, *, corrupted: bool) -> Measurement:
        task, sender = self.task, [Part(*head) for head in self.heads]

        def measure(clean: Batch, other: Batch) -> np.ndarray:
            runs = [task.subject.run(batch.tokens) for batch in (clean, other)]
            base, new = runs if corrupted else reversed(runs)
            model = task.subject.transformer
            return metric.of_streams(model, model.path_patch_parts(base, new, [sender], self.mlps)[0], clean)

        how = "with the circuit alone corrupted" if corrupted else "of the circuit alone"
        measured = task.pairs(f"{metric.name} {how}: {self.name}", CORRUPTION, metric.unit, measure)
        return measured.presupposing(task.majority())


def _starts(batch: Batch) -> Int[np.ndarray, " prompt"]:
    return np.array([prompt.start for prompt in batch.prompts])


def _later(batch: Batch) -> np.ndarray:
    """Which years are after each prompt's YY, `[prompt, 100]`."""
    return np.arange(100) > _starts(batch)[:, None]


@lru_cache
def probability_difference(years: tuple[int, ...]) -> Metric:
    """The probability of all years after YY minus that of all others; years: the tokens of 00 to 99."""

    def of_logits(logits: Float[Tensor, "*n prompt d_vocab"], batch: Batch) -> Float[np.ndarray, "*n prompt"]:
        found, later = year_probabilities(logits, years), _later(batch)
        return (found * later).sum(-1) - (found * ~later).sum(-1)

    return Metric("probability difference", PROBABILITY, of_logits, shows="years after YY are likelier than all others")


@lru_cache
def cutoff_sharpness(years: tuple[int, ...]) -> Metric:
    """The probability of YY + 1 minus that of YY − 1; years: the tokens of 00 to 99."""

    def of_logits(logits: Float[Tensor, "*n prompt d_vocab"], batch: Batch) -> Float[np.ndarray, "*n prompt"]:
        found, rows, starts = year_probabilities(logits, years), np.arange(len(batch.prompts)), _starts(batch)
        return found[..., rows, starts + 1] - found[..., rows, starts - 1]

    return Metric("cutoff sharpness", PROBABILITY, of_logits, shows="the year after YY is likelier than the one before")


@lru_cache
def later_years_over_half(years: tuple[int, ...]) -> Metric:
    """The probability of all years after YY, less one half; years: the tokens of 00 to 99."""

    def of_logits(logits: Float[Tensor, "*n prompt d_vocab"], batch: Batch) -> Float[np.ndarray, "*n prompt"]:
        return (year_probabilities(logits, years) * _later(batch)).sum(-1) - 0.5

    name, shows = "probability of years after YY, above one half", "years after YY have most of the probability"
    return Metric(name, PROBABILITY, of_logits, shows=shows)


def year_probabilities(logits: Float[Tensor, "*n d_vocab"], years: tuple[int, ...]) -> Float[np.ndarray, "*n 100"]:
    """The probability of each two-digit token, over the whole vocabulary."""
    wanted = torch.tensor(years, device=logits.device)
    return as_array((logits[..., wanted] - logits.logsumexp(-1, keepdim=True)).exp())


def _mlp_list(layers: Sequence[int]) -> str:
    return "MLPs " + ", ".join(map(str, layers)) if len(layers) else "no MLP"
