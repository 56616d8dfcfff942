"""Activation patching and path patching.

Denoising puts clean activations into the corrupted run and asks what is restored; noising puts corrupted ones into the clean
run and asks what is lost. Path patching (Wang et al. 2022, appendix B) noises one path and leaves all others alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from circuit_claims.engine.edits import Edit
from circuit_claims.engine.paths import Receivers
from circuit_claims.engine.run import first_difference
from circuit_claims.heads import Head
from circuit_claims.measure.measurement import Measurement
from circuit_claims.prompts.batch import Batch
from circuit_claims.prompts.roles import SWEPT_ROLES
from circuit_claims.tasks.operations.head_parts import BLOCKS, PARTS, Block, Part, block_output, parts_of
from circuit_claims.tasks.task import Task, head_list

SHARE = "recovered share"
LOST = "share of the logit difference"


@dataclass(frozen=True, repr=False)
class Patching(Task):
    """Patching of heads, of the residual stream, and of paths."""

    def patch(
        self, heads: Sequence[Head], *, part: Part = "output", at: str | None = "END", corruption: str = "name swap"
    ) -> "Patched":
        """Denoising: run the corrupted prompts with a part of these heads from the clean prompts.

        part: their outputs z, queries, keys, values, or patterns (of the query's position); at: at one role's position, or
        None for all positions.
        """
        return Patched(self, tuple(heads), at, corruption, part)

    def noise(self, heads: Sequence[Head], *, at: str = "END", corruption: str = "ABC") -> "Noised":
        """Noising: run the clean prompts with these heads' outputs z, at one role's position, from the corrupted prompts."""
        return Noised(self, tuple(heads), at, corruption)

    def path(
        self,
        senders: Sequence[Head],
        *,
        to: Sequence[Head] | Literal["logits"] = "logits",
        into: Literal["q", "k", "v"] = "q",
        at: str = "END",
        corruption: str = "ABC",
    ) -> "Path":
        """Path patching of senders together, at one role's position: to the logits, or into the receivers' q, k or v there."""
        return Path(self, tuple(senders), _receivers(to, into), at, corruption)

    def head_sweep(self, *, part: Part = "output", at: str | None = "END", corruption: str = "name swap") -> Measurement:
        """Recovery of the logit difference for a part of each head, patched alone: a grid layer × head.

        recovery = (patched − corrupted) / (clean − corrupted), each averaged over prompts first; 1 restores everything.
        part, at: as for `patch`.
        """
        model = self.subject.transformer
        heads = [Head(layer, head) for layer in range(model.n_layers) for head in range(model.n_heads)]

        def measure(clean: Batch, corrupted: Batch) -> tuple[np.ndarray, np.ndarray]:
            edits = parts_of(self, clean, heads, part, None if at is None else clean.at(at))
            return self.recovered(clean, corrupted, [[edit] for edit in edits])

        quantity = f"recovery by one head's {PARTS[part]} at {at or 'all positions'}"
        return self.paired_grid(quantity, corruption, SHARE, measure, **self.heads_axis)

    def residual_sweep(self, *, site: Block = "resid_pre", corruption: str = "name swap") -> Measurement:
        """Recovery for what each layer has at one position, patched alone: a grid layer × role.

        Of published prompts, a grid layer × position. site: the stream before the layer, or what its attention or MLP writes.
        It presupposes that the untouched model has the answer: what little a corruption changes in a model that has none
        arrives at END by the architecture alone.
        """

        def measure(clean: Batch, corrupted: Batch) -> tuple[np.ndarray, np.ndarray]:
            start, columns = first_difference(clean.tokens, corrupted.tokens), []
            rows = torch.arange(len(clean.tokens), device=clean.tokens.device)[:, None]
            values = [block_output(self, clean, layer, site) for layer in range(self.subject.transformer.n_layers)]
            _, whole = self.recovered(clean, corrupted, [])
            for where in self.places(clean):  # one cone a place, since each begins at its own position
                cells = np.zeros((len(whole), len(values)))
                if int(where.max()) >= start:  # before it, clean and corrupted are the same
                    edits = [[Edit(layer, site, value[rows, where], None, where)] for layer, value in enumerate(values)]
                    cells, _ = self.recovered(clean, corrupted, edits)
                columns.append(cells)
            return np.stack(columns, axis=-1), whole

        return self.paired_grid(f"recovery by {BLOCKS[site]}", corruption, SHARE, measure, **self.places_axis)

    def places(self, batch: Batch) -> list[Int[Tensor, "prompt 1"]]:
        """The positions that a sweep over positions visits: those of the roles, and of published prompts all there are.

        Raises ValueError where published prompts differ in length, and so have no positions in common.
        """
        if not self.fixed:
            return [batch.at(role) for role in SWEPT_ROLES]
        if len(batch.prompts) < len(self.fixed):
            raise ValueError("these published prompts differ in length: sweep over the positions of those of one length")
        return [torch.full_like(batch.answers[:, :1], position) for position in range(batch.tokens.shape[1])]

    @property
    def places_axis(self) -> dict[str, Any]:
        """How a grid of places is labelled: by role, or, of published prompts, by the tokens of the first."""
        columns = list(SWEPT_ROLES)
        if self.fixed:
            (batch,) = self.batches(self.fixed[:1])
            tokens = batch.tokens[0].tolist()
            columns = [f"{place} {self.subject.tokenizer.decode([token]).strip()}" for place, token in enumerate(tokens)]
        return {"columns": columns, "column_axis": "position"}

    def path_sweep(
        self,
        *,
        to: Sequence[Head] | Literal["logits"] = "logits",
        into: Literal["q", "k", "v"] = "q",
        at: str = "END",
        corruption: str = "ABC",
        without: Sequence[Head] = (),
    ) -> Measurement:
        """Path patching of every head alone: the loss of logit difference as a share of it, a grid layer × head.

        loss = (original − patched) / original, each averaged over prompts first: positive for heads that help along this
        path (the paper shows the same with the opposite sign). without: heads that are knocked out at END all the while, in
        all runs, by their mean over p_ABC (for backup heads; to the logits alone); the loss is then counted from what is left
        without them, and is a share of the untouched model's logit difference all the same.
        """
        receivers = _receivers(to, into)
        model = self.subject.transformer
        senders = [[Head(layer, head)] for layer in range(model.n_layers) for head in range(model.n_heads)]

        def measure(clean: Batch, corrupted: Batch) -> tuple[np.ndarray, np.ndarray]:
            positions = clean.at(at)
            knocked_out = self._knocked_out_at_end(clean, without)
            run, new = self.subject.run(clean.tokens), self.subject.run(corrupted.tokens)
            sets = [*senders, []]  # the last shows the original, or the original without the heads
            resid = model.path_patch(run, new, sets, receivers, positions, knocked_out=knocked_out)
            differences = self.difference(resid, clean)
            whole = self.logit_difference_of(clean)
            return (differences[-1:] - differences[:-1]).T, whole

        target = f"the {receivers}" if receivers else "the logits"
        knocked = f" without {head_list(without)}" if without else ""
        quantity = f"loss by path patching one head at {at} to {target}{knocked}"
        return self.paired_grid(quantity, corruption, LOST, measure, of_clean=True, **self.heads_axis)

    def taken_over(self, heads: Sequence[Head], *, from_heads: Sequence[Head], corruption: str = "ABC") -> Measurement:
        """How much more logit difference heads carry straight to the logits once others are knocked out, as a share.

        The heads' joint direct effect (path patching from END to the logits) with `from_heads` knocked out at END, minus
        that in the whole model (Wang et al. 2022, section 3.3 and appendix B).
        """
        model, senders = self.subject.transformer, [tuple(heads), ()]

        def measure(clean: Batch, corrupted: Batch) -> np.ndarray:
            run, new, positions = self.subject.run(clean.tokens), self.subject.run(corrupted.tokens), clean.at("END")
            effects = []
            for knocked_out in ([], self._knocked_out_at_end(clean, from_heads)):
                resid = model.path_patch(run, new, senders, None, positions, knocked_out=knocked_out)
                patched, original = self.difference(resid, clean)
                effects.append(original - patched)
            return effects[1] - effects[0]

        quantity = f"what {head_list(heads)} take over from {head_list(from_heads)}"
        part = self.pairs(f"{quantity}, in logits", corruption, "logits", measure)
        return part.share_of(self.whole(), f"{quantity} ({corruption}){self.under}", LOST)

    def _knocked_out_at_end(self, batch: Batch, heads: Sequence[Head]) -> list[Edit]:
        from circuit_claims.tasks.operations.knockouts import KnockedOut

        return KnockedOut(self, frozenset((head, "END") for head in heads)).edits(batch) if heads else []

    @property
    def heads_axis(self) -> dict[str, Any]:
        """How a grid of heads is labelled in the report: the card's heads are outlined."""
        columns = [f"H{head}" for head in range(self.subject.transformer.n_heads)]
        marks = [tuple(head) for head in self.subject.card.named_heads]
        return {"columns": columns, "column_axis": "head", "marks": marks}


@dataclass(frozen=True)
class Patched:
    """Heads patched together, clean into corrupted."""

    task: Patching
    heads: tuple[Head, ...]
    at: str | None
    corruption: str
    part: Part = "output"

    def recovery(self) -> Measurement:
        """(patched − corrupted) / (clean − corrupted) of the logit difference, each averaged over prompts first."""
        task = self.task
        return self.recovered().share_of(
            task.whole(self.corruption), f"recovery by {self._name} ({self.corruption}){task.under}", SHARE
        )

    def recovered(self) -> Measurement:
        """Patched minus corrupted logit difference, prompt by prompt, in logits."""
        task = self.task

        def measure(clean: Batch, corrupted: Batch) -> np.ndarray:
            positions = None if self.at is None else clean.at(self.at)
            edits = parts_of(task, clean, self.heads, self.part, positions)
            return task.recovered(clean, corrupted, [edits])[0][:, 0]

        recovered = task.pairs(f"recovery by {self._name}, in logits", self.corruption, "logits", measure)
        return recovered.presupposing(task.whole(self.corruption))

    def share_of_output(self) -> Measurement:
        """What the part recovers as a share of what the outputs of the same heads do, each averaged over prompts first."""
        whole = replace(self, part="output").recovered()
        quantity = f"recovery by {self._name}, as a share of that by their whole output ({self.corruption}){self.task.under}"
        return self.recovered().share_of(whole, quantity, "share of the outputs' recovery")

    @property
    def _name(self) -> str:
        part = "" if self.part == "output" else f"the {PARTS[self.part]} of "
        return f"{part}{head_list(self.heads)} at {self.at or 'all positions'}"


@dataclass(frozen=True)
class Noised:
    """Heads patched together, corrupted into clean."""

    task: Patching
    heads: tuple[Head, ...]
    at: str
    corruption: str

    def logit_difference(self) -> Measurement:
        """logit(IO) − logit(S) of the clean prompt's names, in logits."""

        def measure(clean: Batch, corrupted: Batch) -> np.ndarray:
            edits = parts_of(self.task, corrupted, self.heads, "output", clean.at(self.at))
            run = self.task.subject.run(clean.tokens)
            return self.task.difference(self.task.subject.transformer.intervene(run, [edits]), clean)[0]

        quantity = f"logit difference with {head_list(self.heads)} at {self.at} from other prompts"
        return self.task.pairs(quantity, self.corruption, "logits", measure)

    def loss(self) -> Measurement:
        """Clean minus noised logit difference, prompt by prompt, in logits."""
        quantity = f"loss by noising {head_list(self.heads)} at {self.at} ({self.corruption}){self.task.under}"
        loss = self.task.whole().minus(self.logit_difference(), quantity, "logits")
        return loss.presupposing(self.task.whole())


@dataclass(frozen=True)
class Path:
    """Senders and receivers, and the prompts that the senders' outputs come from."""

    task: Patching
    senders: tuple[Head, ...]
    receivers: Receivers | None
    at: str
    corruption: str

    def logit_difference(self) -> Measurement:
        """logit(IO) − logit(S) with the path patched, in logits."""
        task = self.task

        def measure(clean: Batch, corrupted: Batch) -> np.ndarray:
            run, new = task.subject.run(clean.tokens), task.subject.run(corrupted.tokens)
            resid = task.subject.transformer.path_patch(run, new, [self.senders], self.receivers, clean.at(self.at))
            return task.difference(resid, clean)[0]

        return task.pairs(f"logit difference with the path {self._name} patched", self.corruption, "logits", measure)

    def loss(self) -> Measurement:
        """Clean minus patched logit difference, prompt by prompt, in logits."""
        quantity = f"loss by the path {self._name} ({self.corruption}){self.task.under}"
        loss = self.task.whole().minus(self.logit_difference(), quantity, "logits")
        return loss.presupposing(self.task.whole())

    def share_lost(self) -> Measurement:
        """The loss as a share of the clean logit difference, each averaged over prompts first."""
        quantity = f"share lost by the path {self._name} ({self.corruption}){self.task.under}"
        return self.loss().share_of(self.task.whole(), quantity, LOST)

    @property
    def _name(self) -> str:
        return f"{head_list(self.senders)} at {self.at} → {self.receivers or 'logits'}"


def _receivers(to: Sequence[Head] | Literal["logits"], into: Literal["q", "k", "v"]) -> Receivers | None:
    return None if isinstance(to, str) else Receivers(tuple(to), into)
