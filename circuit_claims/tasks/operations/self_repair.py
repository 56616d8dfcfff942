"""Self-repair: what other heads carry straight to the logits once some are knocked out.

Source: Wang et al. 2022, section 3.3 and appendix B. Knocked-out heads are at their mean over p_ABC at END, in all runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from circuit_claims.heads import Head
from circuit_claims.measure.measurement import Measurement
from circuit_claims.prompts.batch import Batch
from circuit_claims.tasks.measuring import aligned, head_list
from circuit_claims.tasks.operations.intervention import share_of_metric
from circuit_claims.tasks.operations.knockouts import KnockedOut
from circuit_claims.tasks.operations.sweeps import path_sweep
from circuit_claims.tasks.task import Task


@dataclass(frozen=True, repr=False)
class SelfRepair(Task):
    """Direct paths to the logits with heads knocked out at END."""

    def path_sweep_without(self, removed: Sequence[Head], *, corruption: str | None = None) -> Measurement:
        """Path patching of every head alone from END to the logits, with some heads knocked out: a grid layer × head.

        The loss is counted from what is left without them, and is a share of the untouched model's baseline all the same.
        """
        edits, called = self._at_end(removed).edits, f" without {head_list(removed)}"
        return path_sweep(self, None, "END", self.corruption(corruption, "noising"), knocked_out=edits, called=called)

    def taken_over(self, heads: Sequence[Head], *, from_heads: Sequence[Head], corruption: str | None = None) -> Measurement:
        """How much more of the metric heads carry straight to the logits once others are knocked out, as a share.

        The heads' joint direct effect (path patching from END to the logits) with `from_heads` knocked out at END, minus
        that in the whole model.
        """
        model, senders, corruption = self.subject.transformer, [tuple(heads), ()], self.corruption(corruption, "noising")

        def measure(clean: Batch, corrupted: Batch) -> np.ndarray:
            aligned(clean, corrupted, "path patching", "END")
            run, new, positions = self.subject.run(clean.tokens), self.subject.run(corrupted.tokens), clean.at("END")
            effects = []
            for knocked_out in ([], self._at_end(from_heads).edits(clean) if from_heads else []):
                streams = model.path_patch(run, new, senders, None, positions, knocked_out=knocked_out)
                patched, original = self.value_from(streams, clean)
                effects.append(original - patched)
            return effects[1] - effects[0]

        quantity, unit = f"what {head_list(heads)} take over from {head_list(from_heads)}", self.metric.unit
        part = self.pairs(f"{quantity}, in {unit}", corruption, unit, measure)
        return part.share_of(self.baseline(), f"{quantity} ({corruption}){self.under}", share_of_metric(self))

    def _at_end(self, heads: Sequence[Head]) -> KnockedOut:
        return KnockedOut(self, frozenset((head, "END") for head in heads))
