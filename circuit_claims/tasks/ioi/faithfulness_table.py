"""Faithfulness by template and order: where one percentage hides a spread from half to one and a half.

Source: Miller et al. 2024 and AutoCircuit's stored results: 50 prompts of each of the 15 templates in each order, tokenwise
mean ablation over the corrupted prompts, the circuit's nodes at their own positions, ratio of means.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Grid, Samples, Shown
from circuit_claims.prompts.templates import ORDERS
from circuit_claims.tasks.ioi.faithfulness_statistics import ratio
from circuit_claims.tasks.operations.circuits import Circuits
from circuit_claims.tasks.operations.knockouts import Node

#: Prompts of each template and order, as the source took.
PROMPTS_OF_EACH = 50


@dataclass(frozen=True)
class FaithfulnessTable:
    """Circuit and model on each template and order of a task's population, with or without BOS."""

    task: Circuits
    nodes: frozenset[Node]
    prepend_bos: bool

    @property
    def _population(self) -> Any:
        """The task's: a `circuit_claims.prompts.ioi.Population`, which has templates and orders."""
        return self.task.population

    def measure(self) -> Measurement:
        """A grid with a row for each template: circuit and model in ABBA, circuit and model in BABA, in logits.

        The heatmap shows the two ratios. Prompts are resampled within templates: the statement is about these templates.
        """
        templates = self._population.templates

        def take(n: int) -> Grid:
            columns = [
                np.stack([self._values(template, order, kept, n) for template in templates], axis=1)
                for order in ORDERS
                for kept in (True, False)
            ]
            bos = "with BOS" if self.prepend_bos else "without BOS"
            return Grid(
                values=np.stack(columns, axis=-1),
                quantity=f"faithfulness by template and order, {bos}",
                unit="share",
                clusters=range(n),
                row_axis="template",
                row_labels=[str(template) for template in templates],
                column_axis="order",
                column_labels=[f"{order} {which}" for order in ORDERS for which in ("circuit", "model")],
                shown=lambda means: np.stack([ratio(means, order) for order in ORDERS], axis=-1),
                shown_labels=ORDERS,
                denominator=self._whole(n),
            )

        return Measurement(take, self.prepend_bos, PROMPTS_OF_EACH)

    def _of(self, template: int, order: str) -> Circuits:
        population = replace(self._population, templates=(template,), orders=(order,))
        return replace(self.task, population=population, prepend_bos=self.prepend_bos, chunk=PROMPTS_OF_EACH)

    def _values(self, template: int, order: str, kept: bool, n: int) -> Float[np.ndarray, " prompt"]:
        task = self._of(template, order)
        return (task.circuit(self.nodes).value() if kept else task.baseline()).take(n).values

    def _whole(self, n: int) -> Samples:
        cells = [(template, order) for template in self._population.templates for order in ORDERS]
        values = [self._values(template, order, False, n) for template, order in cells]
        clusters = [template for template, _ in cells for _ in range(n)]
        shown = Shown(self.task.metric.shows)
        return Samples(np.concatenate(values), self.task.metric.name, self.task.metric.unit, clusters, shown=shown)


def faithfulness_table(task: Circuits, nodes: Iterable[Node], *, prepend_bos: bool) -> Measurement:
    """The table for a circuit of these nodes."""
    return FaithfulnessTable(task, frozenset(nodes), prepend_bos).measure()
