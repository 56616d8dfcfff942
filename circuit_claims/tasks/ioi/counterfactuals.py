"""Counterfactual outputs of S-inhibition heads: what `circuit_claims.tasks.ioi.signals` reads numbers off."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from circuit_claims.heads import Head
from circuit_claims.measure.measurement import Measurement
from circuit_claims.prompts.batch import Batch
from circuit_claims.tasks.cells import Cells
from circuit_claims.tasks.ioi.signals import COUNTERFACTUALS, POSITIONS, TOKENS
from circuit_claims.tasks.measuring import head_list
from circuit_claims.tasks.operations.head_parts import parts_of
from circuit_claims.tasks.task import Task


@dataclass(frozen=True, repr=False)
class Counterfactuals(Task):
    """Counterfactual outputs of S-inhibition heads."""

    def signals(self, heads: Sequence[Head], *, at: str = "END") -> Measurement:
        """The metric with these heads' outputs from each of the six data sets: a grid token × position."""

        changes = [COUNTERFACTUALS[token, position] for token in TOKENS for position in POSITIONS]

        def measure(batch: Batch, cells: Cells) -> Float[np.ndarray, "prompt cell"]:
            run, settings = self.subject.run(batch.tokens), []
            for change in (changes[cell] for cell in cells):
                (other,) = self.batches([prompt.changed(change) if change else prompt for prompt in batch.prompts])
                settings.append(parts_of(self, other, heads, "output", batch, at))
            return self.value_from(self.subject.transformer.intervene(run, settings), batch).T

        grid = self.grid_by_cell(
            f"{self.metric.name} with {head_list(heads)} at {at} from counterfactual prompts",
            self.metric.unit,
            measure,
            rows=TOKENS,
            row_axis="token signal",
            columns=POSITIONS,
            column_axis="position signal",
        )
        return grid.presupposing(self.competence())
