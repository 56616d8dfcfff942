"""Greater-than: what the claims on year spans measure.

    years.probability_difference()
    years.head_sweep_through(mlps)
    years.end_circuit(card.heads("greater than END"), mlps).share()

Source: Hanna et al. 2023. After "The war lasted from the year 1732 to the year 17", the probability difference is that of all
two-digit tokens above 32 minus that of all others, over the whole vocabulary; so is everything that is patched judged by it.
Prompts begin with BOS, as published. On a model for which most of the probability does not fall on later years there is nothing
to take apart, and claims that do are refuted.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
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
from circuit_claims.tasks.operations.attention import Attention
from circuit_claims.tasks.task import as_array, head_list, in_order
from circuit_claims.untested import Untested

PROBABILITY = "probability"
SHARE = "share of the probability difference"
CORRUPTION = "01"
#: Rows of logits over the whole vocabulary at a time.
ROWS = 128
DECADES = [f"{decade}0–{decade}9" for decade in range(10)]


@dataclass(frozen=True, repr=False)
class GreaterThan(Attention):
    """Year spans on one subject."""

    population: Years
    corruptions: ClassVar[tuple[str, ...]] = (CORRUPTION,)
    done: ClassVar[str] = "years after YY are likelier than all others"

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
        options = {"prepend_bos": self.prepend_bos, "device": str(self.subject.device), "answer_token": bare_token}
        return make_batches(self.subject.tokenizer, prompts, **options)

    # Behaviour

    def probability_difference(self) -> Measurement:
        """The probability of all years after YY minus that of all others, from 00 on (Hanna et al. 2023, section 2)."""
        return self.whole()

    def cutoff_sharpness(self) -> Measurement:
        """The probability of YY + 1 minus that of YY − 1 (Hanna et al. 2023, section 2)."""
        return self.samples("cutoff sharpness", PROBABILITY, lambda batch: _sharpness(self.year_probabilities_of(batch), batch))

    def prefers_later(self) -> Measurement:
        """1 where the probability difference is above zero; drawn with the probability of every year by start year."""
        rate = self.samples(
            "years after YY above all others", "rate", lambda batch: (self.logit_difference_of(batch) > 0).astype(float)
        )
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

        def measure(batch: Batch) -> np.ndarray:
            return (self.year_probabilities_of(batch) * _later(batch)).sum(-1) - 0.5

        majority = self.samples("probability of years after YY, above one half", PROBABILITY, measure)
        return majority.showing(Shown("years after YY have most of the probability"))

    def preference_lost(self) -> Measurement:
        """What becomes of the probability difference with 01 shown for YY: clean minus corrupted, as a share of clean."""
        return self._share(self.whole(CORRUPTION), f"loss by showing {CORRUPTION} for YY{self.under}")

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
        return self._loss_sweep("loss by the direct path of each MLP at END to the logits", senders, (), columns=["MLP"])

    def head_sweep_through(self, mlps: Sequence[int]) -> Measurement:
        """The loss with each head's paths from END, straight to the logits or through some MLPs, from the 01 prompt."""
        model = self.subject.transformer
        senders = [[Part(layer, head)] for layer in range(model.n_layers) for head in range(model.n_heads)]
        quantity = f"loss by the paths of each head at END to the logits and through {_mlp_list(mlps)}"
        return self._loss_sweep(quantity, senders, mlps, columns=[f"H{head}" for head in range(model.n_heads)])

    def value_sweep(self, receivers: Sequence[Head]) -> Measurement:
        """The loss by path patching each head at YY into the values of some heads, from the 01 prompt: layer × head."""
        model, into = self.subject.transformer, Receivers(tuple(receivers), "v")
        senders = [[Head(layer, head)] for layer in range(model.n_layers) for head in range(model.n_heads)]

        def measure(clean: Batch, corrupted: Batch) -> np.ndarray:
            run, new = self.subject.run(clean.tokens), self.subject.run(corrupted.tokens)
            resid = model.path_patch(run, new, senders, into, clean.at("YY"))
            return (self.logit_difference_of(clean) - self.difference(resid, clean)).T

        quantity = f"loss by path patching one head at YY to the {into}"
        return self._grid_of_losses(quantity, measure, [f"H{head}" for head in range(model.n_heads)])

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
            return self.logit_difference_of(clean) - self.difference(resid, clean)

        way = "directly" if direct else "through later MLPs"
        quantity = f"loss by what MLP {layer} at END carries to the logits {way}"
        part = self.pairs(f"{quantity}, as a probability", CORRUPTION, PROBABILITY, measure)
        return self._share(part, f"{quantity} ({CORRUPTION})")

    def end_circuit(self, heads: Sequence[Head], mlps: Sequence[int]) -> "EndCircuit":
        """The circuit of some heads at END, and of MLPs at END that see them."""
        return EndCircuit(self, tuple(heads), tuple(mlps))

    # What patches are judged by

    def difference(self, resid: Float[Tensor, "*n prompt d_model"], batch: Batch) -> Float[np.ndarray, "*n prompt"]:
        """The probability difference from a final residual stream at END."""
        found = self.year_probabilities(resid)
        return (found * _later(batch)).sum(-1) - (found * ~_later(batch)).sum(-1)

    def logit_difference_of(self, batch: Batch) -> Float[np.ndarray, " prompt"]:
        """The probability difference at END: the metric of this task."""
        found = self.year_probabilities_of(batch)
        return (found * _later(batch)).sum(-1) - (found * ~_later(batch)).sum(-1)

    def whole(self, corruption: str = "") -> Measurement:
        """What shares are taken of: the probability difference, or with a corruption, clean minus corrupted."""
        if not corruption:
            return self.samples("probability difference", PROBABILITY, self.logit_difference_of).showing(Shown(self.done))

        def measure(clean: Batch, corrupted: Batch) -> np.ndarray:
            return self.logit_difference_of(clean) - self.logit_difference_of(replace(corrupted, prompts=clean.prompts))

        cost = self.pairs("clean minus corrupted probability difference", corruption, PROBABILITY, measure)
        return cost.showing(self.costs(corruption)).presupposing(self.whole())

    def year_probabilities_of(self, batch: Batch) -> Float[np.ndarray, "prompt 100"]:
        """The probability of each two-digit token after each prompt."""
        return self._of_years(self.subject.last_logits(batch.tokens))

    def year_probabilities(self, resid: Float[Tensor, "*n prompt d_model"]) -> Float[np.ndarray, "*n prompt 100"]:
        """The same from a final residual stream at END; the whole vocabulary is in the denominator, a few rows at a time."""
        rows = resid.reshape(-1, resid.shape[-1])
        parts = [self._of_years(self.subject.transformer.logits(part).float()) for part in rows.split(ROWS)]
        return np.concatenate(parts).reshape(*resid.shape[:-1], 100)

    def _of_years(self, logits: Float[Tensor, "row d_vocab"]) -> Float[np.ndarray, "row 100"]:
        return as_array((logits[:, self._year_tokens] - logits.logsumexp(-1, keepdim=True)).exp())

    @cached_property
    def _year_tokens(self) -> Int[Tensor, " 100"]:
        return torch.tensor(year_tokens(self.subject.tokenizer), device=self.subject.device)

    def _share(self, part: Measurement, quantity: str) -> Measurement:
        """A part of the probability difference as a share of it, on a model that does the task."""
        grid = side_by_side([part, self.whole()], ["part", "whole"], quantity, PROBABILITY, presupposes=self.majority())
        return grid.of(lambda means: means[..., 0, 0] / means[..., 0, 1], quantity, SHARE)

    def _loss_sweep(
        self, quantity: str, senders: Sequence[Collection[Part]], through: Sequence[int], *, columns: Sequence[str]
    ) -> Measurement:
        model = self.subject.transformer

        def measure(clean: Batch, corrupted: Batch) -> np.ndarray:
            run, new = self.subject.run(clean.tokens), self.subject.run(corrupted.tokens)
            resid = model.path_patch_parts(run, new, senders, through)
            return (self.logit_difference_of(clean) - self.difference(resid, clean)).T

        return self._grid_of_losses(quantity, measure, columns)

    def _grid_of_losses(self, quantity: str, measure: Any, columns: Sequence[str]) -> Measurement:
        """Clean minus patched probability difference, prompt by prompt, for every cell layer × column."""
        labels = {"quantity": f"{quantity} ({CORRUPTION})", "column_labels": columns}
        labels |= {"column_axis": "head", "marks": self._marks} if len(columns) > 1 else {"column_axis": ""}
        key, chunk = (quantity, CORRUPTION), self._paired(CORRUPTION, measure)
        return self._swept(key, chunk, PROBABILITY, weighted=False, labels=labels).presupposing(self.majority())

    @property
    def _marks(self) -> list[tuple[int, int]]:
        """The heads that the card names for this task."""
        families = (family for family in self.subject.card.families.values() if family.name.startswith("greater than"))
        return sorted({tuple(head) for family in families for head in family.heads})


@dataclass(frozen=True)
class EndCircuit:
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

    def probability_difference(self) -> Measurement:
        """That of the circuit alone, on a model that does the task."""
        return self._measured("probability difference", self.task.difference, corrupted=False)

    def cutoff_sharpness_gained(self) -> Measurement:
        """The cutoff sharpness of the circuit alone minus that of the model."""
        task, name = self.task, f"cutoff sharpness of the circuit {self.name} minus the model's"
        circuit = self._measured("cutoff sharpness", self._sharpness, corrupted=False)
        return circuit.minus(task.cutoff_sharpness(), name, PROBABILITY).presupposing(task.majority())

    def cutoff_sharpness(self) -> Measurement:
        """The cutoff sharpness of the circuit alone."""
        return self._measured("cutoff sharpness", self._sharpness, corrupted=False)

    def share(self) -> Measurement:
        """The circuit's probability difference as a share of the model's, each averaged over prompts first."""
        return self.task._share(self.probability_difference(), f"share kept by the circuit {self.name}")

    def corrupted(self) -> Measurement:
        """The probability difference with the circuit, and nothing else, from the 01 prompt."""
        return self._measured("probability difference", self.task.difference, corrupted=True)

    def _sharpness(self, resid: Float[Tensor, "prompt d_model"], batch: Batch) -> Float[np.ndarray, " prompt"]:
        return _sharpness(self.task.year_probabilities(resid), batch)

    def _measured(self, quantity: str, read: Any, *, corrupted: bool) -> Measurement:
        task, sender = self.task, [Part(*head) for head in self.heads]

        def measure(clean: Batch, other: Batch) -> np.ndarray:
            runs = [task.subject.run(batch.tokens) for batch in (clean, other)]
            base, new = runs if corrupted else reversed(runs)
            return read(task.subject.transformer.path_patch_parts(base, new, [sender], self.mlps)[0], clean)

        how = "with the circuit alone corrupted" if corrupted else "of the circuit alone"
        measured = task.pairs(f"{quantity} {how}: {self.name}", CORRUPTION, PROBABILITY, measure)
        return measured.presupposing(task.majority())


def _starts(batch: Batch) -> Int[np.ndarray, " prompt"]:
    return np.array([prompt.start for prompt in batch.prompts])


def _later(batch: Batch) -> np.ndarray:
    """Which years are after each prompt's YY, `[prompt, 100]`."""
    return np.arange(100) > _starts(batch)[:, None]


def _sharpness(probabilities: Float[np.ndarray, "prompt 100"], batch: Batch) -> Float[np.ndarray, " prompt"]:
    rows, starts = np.arange(len(probabilities)), _starts(batch)
    return probabilities[rows, starts + 1] - probabilities[rows, starts - 1]


def _mlp_list(layers: Sequence[int]) -> str:
    return "MLPs " + ", ".join(map(str, layers)) if len(layers) else "no MLP"
