"""Attribution patching: the first-order estimate of every patch, and how far it is from the patch itself.

    ioi.attribution_sweep(part="q", corruption="S2 to IO")
    ioi.attribution_correlation("mlp_out")

Nanda 2023 ("Attribution Patching: Activation Patching At Industrial Scale"); the numbers of its demo are TransformerLens's.
"""

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch

from circuit_claims.engine.edits import Attributions
from circuit_claims.measure.agreement import correlation, largest_difference, two_sweeps
from circuit_claims.measure.blocks import FIRST_LOOK
from circuit_claims.measure.measurement import Measurement
from circuit_claims.prompts.batch import Batch
from circuit_claims.tasks.measuring import aligned
from circuit_claims.tasks.metric import LOGIT_DIFFERENCE, as_array
from circuit_claims.tasks.operations.head_parts import BLOCKS, PARTS, SITES, Block, Part
from circuit_claims.tasks.operations.sweeps import SHARE, head_sweep, places, places_axis, residual_sweep
from circuit_claims.tasks.task import Task


@dataclass(frozen=True, repr=False)
class AttributionPatching(Task):
    """First-order estimates of denoising, on prompts and their corruptions, of the difference of the two answers' logits."""

    def attribution_sweep(self, *, part: Part = "output", corruption: str | None = None) -> Measurement:
        """The estimated recovery by a part of each head, added up over all positions: a grid layer × head.

        In the units of `head_sweep`: a share of clean minus corrupted logit difference, each averaged over prompts first.
        """
        quantity = f"attribution to one head's {PARTS[part]} at all positions"
        return self._estimated(quantity, part, corruption, self.heads_axis)

    def residual_attribution_sweep(self, *, site: Block = "resid_pre", corruption: str | None = None) -> Measurement:
        """The estimated recovery by what each layer has at one position, in the cells and units of `residual_sweep`."""
        return self._estimated(f"attribution to {BLOCKS[site]}", site, corruption, places_axis(self))

    def attribution_agreement(self, of: Part | Block, *, corruption: str | None = None) -> Measurement:
        """Patching and its estimate side by side, cell by cell, for `measure.agreement` to compare; drawn as a scatter.

        of: a part of every head (at all positions together), or what every layer has at one position. Drawn prompts are
        as many as there are templates in both orders, one of each: a sweep at all positions patches every head of every
        prompt, and the templates, which intervals go over, are all there.
        """
        corruption = self.corruption(corruption, "attribution")
        if of in PARTS:
            exact = head_sweep(self, of, None, corruption)
            estimated = self.attribution_sweep(part=of, corruption=corruption)
            what = f"one head's {PARTS[of]}"
        else:
            site = cast(Block, of)
            exact = residual_sweep(self, site, corruption)
            estimated = self.residual_attribution_sweep(site=site, corruption=corruption)
            what = BLOCKS[site]
        name = f"patching and attribution patching of {what} ({corruption}){self.under}"
        both = two_sweeps(exact, estimated, name, f"estimated, {SHARE}")
        frames = getattr(self.population, "frames", None)  # of templates, each in both orders
        most = FIRST_LOOK if frames is None else len(frames())
        return both if self.fixed else replace(both, limit=min(most, self.limit or most))

    def attribution_correlation(self, of: Part | Block, *, corruption: str | None = None) -> Measurement:
        """Pearson's coefficient, over all cells, of the recoveries by patching and their estimates."""
        what = f"correlation of patching with attribution patching, {_named(of)}"
        return self.attribution_agreement(of, corruption=corruption).of(correlation, what, "correlation")

    def attribution_error(self, of: Part | Block, *, corruption: str | None = None) -> Measurement:
        """The largest difference, over all cells, of a recovery by patching and its estimate."""
        what = f"largest error of attribution patching, {_named(of)}"
        return self.attribution_agreement(of, corruption=corruption).of(largest_difference, what, SHARE)

    def attributions(self, clean: Batch, corrupted: Batch) -> Attributions:
        """To first order, what each patch clean into corrupted adds to the logit difference at END, in logits.

        The estimate is linear in the logits compared: of lists of answers, it is the mean over answers and foils.
        """
        model, run, other = self.subject.transformer, self.subject.run(clean.tokens), self.subject.run(corrupted.tokens)
        if clean.weights is None:
            return model.attributions(run, other, clean.answers)
        total: Attributions = {}
        n_right, n_wrong = (int((side > 0).sum(1).max()) for side in (clean.weights, -clean.weights))
        order = clean.weights.argsort(dim=1, descending=True, stable=True)  # answers first, foils last
        for i in range(n_right):
            for j in range(n_wrong):
                both = torch.stack([order[:, i], order[:, -1 - j]], dim=1)
                share, tokens = clean.weights.gather(1, both), clean.tokens_compared.gather(1, both)
                # Where a list is shorter, what fills it up counts nothing.
                product = share[:, 0].clamp(min=0) * (-share[:, 1]).clamp(min=0)
                for site, found in model.attributions(run, other, tokens).items():
                    scaled = found * product.view(-1, *[1] * (found.ndim - 1))
                    total[site] = total[site] + scaled if site in total else scaled
        return total

    def _estimated(self, quantity: str, of: Part | Block, given: str | None, axes: dict[str, Any]) -> Measurement:
        if self.metric.of_logits is not LOGIT_DIFFERENCE.of_logits:
            raise ValueError(f"attribution patching estimates logit differences, and not the {self.metric.name}: patch instead")
        corruption = self.corruption(given, "attribution")
        # One backward pass serves all sweeps, so all are measured, and kept, as one.
        model, columns = self.subject.transformer, len(places_axis(self)["columns"])
        sizes: dict[Part | Block, int] = {part: model.n_layers * model.n_heads for part in PARTS}
        sizes |= {site: model.n_layers * columns for site in BLOCKS}
        first = sum(size for name, size in list(sizes.items())[: list(sizes).index(of)])

        def packed(clean: Batch, corrupted: Batch) -> np.ndarray:
            aligned(clean, corrupted, "attribution patching")
            found = self.attributions(clean, corrupted)
            heads = [as_array(found[SITES[part]].sum(2)) for part in PARTS]
            where = [place.expand(-1, model.n_layers)[:, :, None] for place in places(self, clean)]
            blocks = [np.stack([as_array(found[site].gather(2, at))[..., 0] for at in where], axis=-1) for site in BLOCKS]
            _, whole = self.recovered(clean, corrupted, [])
            return np.concatenate([each.reshape(len(whole), -1) for each in (*heads, *blocks, whole)], axis=1)

        labels = {
            "quantity": f"{quantity} ({corruption}){self.under}",
            "column_labels": axes["columns"],
            "column_axis": axes["column_axis"],
            "marks": axes.get("marks", ()),
        }
        key, chunk = ("attributions", corruption, self.swept_roles), self._paired(corruption, packed)
        cells = slice(first, first + sizes[of])
        swept = self._swept(key, chunk, f"estimated {SHARE}", weighted=True, labels=labels, cells=cells)
        return self.as_shares(swept, corruption)


def _named(of: Part | Block) -> str:
    return {**PARTS, **BLOCKS}[of]
