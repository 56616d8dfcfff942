"""Sweeps of a task: a number a prompt for every head, or for every cell of another grid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims.heads import Head, head_labels, layer_labels
from circuit_claims.measure.measurement import Measurement, Wanted
from circuit_claims.measure.samples import Grid, Shown
from circuit_claims.prompts.batch import Batch
from circuit_claims.tasks.cells import Cells, cells_in_blocks
from circuit_claims.tasks.measuring import Measuring, clusters_of, in_order
from circuit_claims.untested import Untested

#: How a prompt lies on tokens: how many there are, and where its roles stand.
Layout = tuple[int, tuple[int, ...]]


def layouts_of(batch: Batch) -> list[Layout]:
    """How each prompt of a batch lies on its tokens."""
    where = [batch.positions[role].tolist() for role in batch.positions]
    return [(batch.tokens.shape[1], positions) for positions in zip(*where, strict=True)]


@dataclass(frozen=True, repr=False)
class Task(Measuring):
    """Prompts on one subject, how they are measured, and its sweeps (see `circuit_claims.tasks.measuring`)."""

    def grid(
        self,
        quantity: str,
        unit: str,
        measure: Callable[[Batch], Float[np.ndarray, "prompt layer column"]],
        *,
        columns: Sequence[str],
        column_axis: str,
        rows: Sequence[str] | None = None,
        row_axis: str = "layer",
        marks: Sequence[tuple[int, int]] = (),
    ) -> Measurement:
        """A sweep that gives every cell a number from each prompt by itself; its rows are layers unless others are named."""

        def chunk(prompts: Sequence[Any]) -> np.ndarray:
            return in_order(self.batches(prompts), lambda batch: measure(batch).reshape(len(batch.prompts), -1))

        labels = {"quantity": quantity + self.under, "column_labels": columns, "column_axis": column_axis, "marks": marks}
        labels["row_axis"] = row_axis
        return self._swept((quantity,), chunk, unit, weighted=False, labels=labels, rows=rows)

    def grid_by_cell(
        self,
        quantity: str,
        unit: str,
        measure: Callable[[Batch, Cells], Float[np.ndarray, "prompt cell"]],
        *,
        rows: Sequence[str],
        row_axis: str,
        columns: Sequence[str],
        column_axis: str,
    ) -> Measurement:
        """A sweep whose cells get a number from each prompt by themselves; `measure` is told which, row by row."""

        def chunk(prompts: Sequence[Any], cells: Cells) -> np.ndarray:
            return in_order(self.batches(prompts), lambda batch: measure(batch, cells))

        labels = {"quantity": quantity + self.under, "column_labels": columns, "column_axis": column_axis}
        labels |= {"row_labels": rows, "row_axis": row_axis}
        return self._swept_by_cell((quantity,), chunk, unit, weighted=False, labels=labels)

    def paired_grid(
        self,
        quantity: str,
        corruption: str,
        unit: str,
        measure: Callable[[Batch, Batch, Cells], tuple[Float[np.ndarray, "prompt cell"], Float[np.ndarray, " prompt"]]],
        *,
        of_clean: bool = False,
        columns: Sequence[str],
        column_axis: str,
        marks: Sequence[tuple[int, int]] = (),
    ) -> Measurement:
        """A sweep over each prompt and its corruption: `measure` gives some cells' numerators and the common denominator.

        It is told which cells, by their numbers, row by row. of_clean: the denominator is the clean metric; else it is clean
        minus corrupted.
        """

        def chunk(prompts: Sequence[Any], cells: Cells) -> np.ndarray:
            def packed(clean: Batch, corrupted: Batch) -> np.ndarray:
                found, whole = measure(clean, corrupted, cells)
                return np.concatenate([found, whole[:, None]], axis=1)

            return self._paired(corruption, packed)(prompts)

        self._paired(corruption, lambda *_: np.empty(0))  # refuse a corruption that is not there before anything is measured
        name = f"{quantity} ({corruption}){self.under}"
        labels = {"quantity": name, "column_labels": columns, "column_axis": column_axis, "marks": marks}
        swept = self._swept_by_cell((quantity, corruption), chunk, unit, weighted=True, labels=labels)
        return self.as_shares(swept, "" if of_clean else corruption)

    def change_grid(
        self,
        quantity: str,
        corruption: str,
        measure: Callable[[Batch, Batch, Cells], Float[np.ndarray, "prompt cell"]],
        *,
        columns: Sequence[str],
        column_axis: str,
        marks: Sequence[tuple[int, int]] = (),
    ) -> Measurement:
        """A sweep over each prompt and its corruption of what some cells cost, in the metric's unit: clean minus patched.

        `measure` is told which cells, by their numbers, row by row.
        """

        def chunk(prompts: Sequence[Any], cells: Cells) -> np.ndarray:
            return self._paired(corruption, lambda clean, corrupted: measure(clean, corrupted, cells))(prompts)

        self._paired(corruption, lambda *_: np.empty(0))  # as for shares
        labels = {"quantity": f"{quantity} ({corruption}){self.under}", "column_labels": columns}
        labels |= {"column_axis": column_axis, "marks": marks}
        swept = self._swept_by_cell((quantity, corruption), chunk, self.metric.unit, weighted=False, labels=labels)
        return swept.presupposing(self.competence())

    def as_shares(self, swept: Measurement, corruption: str) -> Measurement:
        """A sweep whose denominators are those of `baseline(corruption)`: what that presupposes, its cells do."""
        shown = self.costs(corruption) if corruption else Shown(self.metric.shows)
        marked = swept.mapped(lambda grid: replace(grid, whole_shown=shown))
        return replace(marked.presupposing(self.competence()), whole=self.baseline(corruption))

    def _swept(
        self,
        key: tuple,
        chunk: Callable[[Sequence[Any]], np.ndarray],
        unit: str,
        *,
        weighted: bool,
        labels: dict[str, Any],
        rows: Sequence[str] | None = None,
        cells: slice = slice(None),
    ) -> Measurement:
        """cells: which of the numbers that `chunk` gives for a prompt are the grid's; the weight is the last of all."""
        rows = rows or layer_labels(self.subject.transformer.n_layers)

        def take(n: int) -> Grid:
            prompts = self.prompts(n)
            values = self._in_chunks(key, chunk, prompts)
            return Grid(
                values=(values[:, :-1] if weighted else values)[:, cells].reshape(len(prompts), len(rows), -1),
                weights=values[:, -1] if weighted else None,
                unit=unit,
                clusters=clusters_of(prompts),
                row_labels=rows,
                exact=0 < len(self.fixed) <= n,
                **labels,
            )

        return Measurement(take, self.prepend_bos, self.limit)

    def _swept_by_cell(
        self,
        key: tuple,
        chunk: Callable[[Sequence[Any], Cells], np.ndarray],
        unit: str,
        *,
        weighted: bool,
        labels: dict[str, Any],
    ) -> Measurement:
        """A sweep of which any cells can be measured by themselves, over layers unless its rows are labelled otherwise.

        weighted: what `chunk` gives ends with the weight.
        """
        labels = {"row_labels": layer_labels(self.subject.transformer.n_layers)} | labels
        shape = len(labels["row_labels"]), len(labels["column_labels"])

        def take(n: int, wanted: Wanted | None = None) -> Grid:
            prompts = self.prompts(n)
            n = len(prompts)  # of published ones there may be fewer
            counts = np.full(shape, n) if wanted is None else np.minimum(wanted, n)
            values = cells_in_blocks(partial(self._kept, key), chunk, prompts, counts.ravel(), self.chunk)
            return Grid(
                values=values[:, : counts.size].reshape(n, *shape),
                weights=values[:, -1] if weighted else None,
                unit=unit,
                clusters=clusters_of(prompts),
                exact=0 < len(self.fixed) <= n,
                counts=None if (counts == n).all() else counts,
                **labels,
            )

        return Measurement(take, self.prepend_bos, self.limit, cells=shape)

    def reference_tokens(self, form: Any, prompt: Any, layout: Layout, size: int) -> Int[Tensor, "reference pos"]:
        """What a mean ablation of a prompt averages over: `size` corrupted prompts of its form whose tokens lie as in `layout`.

        Raises Untested where there are too few of them.
        """
        stream, corruption = form.stream(self.seed + 1), self.population.corruptions.noising
        found: list[Tensor] = []
        for _ in range(20):  # blocks; with fillers of one token each, as in GPT-2's vocabulary, the first one suffices
            block = [next(stream) for _ in range(size)]
            block = [(other.changed(self.change) if self.change else other).changed(corruption) for other in block]
            for batch in self.batches(block):
                found += [batch.tokens[row] for row, there in enumerate(layouts_of(batch)) if there == layout]
            if len(found) >= size:
                return torch.stack(found[:size])
        raise Untested(f"too few reference prompts have their tokens where {prompt.text!r} has them: give other fillers")

    @property
    def marks(self) -> list[tuple[int, int]]:
        """The heads that the card names for this task: outlined in the report's heatmaps."""
        card = self.subject.card
        if not self.family:
            return [(layer, head) for layer, head in card.named_heads]
        families = (family for family in card.families.values() if family.name.startswith(self.family))
        return sorted({(layer, head) for family in families for layer, head in family.heads})

    @property
    def all_heads(self) -> list[Head]:
        """Every head of the model, layer by layer, as a sweep visits them."""
        model = self.subject.transformer
        return [Head(layer, head) for layer in range(model.n_layers) for head in range(model.n_heads)]

    @property
    def heads_axis(self) -> dict[str, Any]:
        """How a grid of heads is labelled in the report."""
        return {"columns": head_labels(self.subject.transformer.n_heads), "column_axis": "head", "marks": self.marks}
