"""Indirect object identification in feature space: what a set of features carries into END, by patching it there.

The autoencoder's features at END are changed, what it does not reconstruct stays, and the rest of the model runs on. Noising
puts in the features' activations on the corrupted prompt, as `ioi.noise` puts in heads' outputs: the two are held against
each other. All other features stay as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims.cards.card import Card
from circuit_claims.cards.schema import Published
from circuit_claims.heads import Head
from circuit_claims.measure.measurement import Measurement
from circuit_claims.prompts.batch import Batch
from circuit_claims.sae.card_rows import published, rows_of
from circuit_claims.sae.loaded import Change, LoadedSae
from circuit_claims.tasks.ioi.task import IOI
from circuit_claims.tasks.measuring import in_order
from circuit_claims.tasks.metric import as_array
from circuit_claims.untested import Untested

#: The card's table of them: a row a feature, `mini-sae: 17`, with what of its activation the subject explains.
SUBJECT_FEATURES = "sae subject features"
LOST = "share of what the heads lose"
#: As many random sets of other features are tried, whose mean effect is the control.
RANDOM_SETS = 8


@dataclass(frozen=True)
class SaeIOI:
    """Features at one role's position (END unless said otherwise), on the IOI prompts."""

    ioi: IOI
    sae: LoadedSae
    card: Card
    at: str = "END"

    def subject_features(self) -> list[int]:
        """The features that tell who the subject S is, by the card.

        Raises Untested where it names none of this autoencoder.
        """
        return [int(row) for row in rows_of(self.card, self.sae, SUBJECT_FEATURES)]

    def published(self, quantity: str) -> Published:
        """What the card says of the autoencoder. Raises Untested where it says nothing."""
        return published(self.card, self.sae, quantity)

    # What features are like there

    def activations(self, n: int) -> tuple[Float[np.ndarray, "prompt d_sae"], list[str]]:
        """The feature activations on the first n prompts, and who the subject S is in each."""
        prompts = self.ioi.prompts(n)
        values = in_order(self.ioi.batches(prompts), lambda batch: as_array(self._features(batch)))
        return values, [prompt.answers[1] for prompt in prompts]

    def _features(self, batch: Batch) -> Float[Tensor, "prompt d_sae"]:
        stream = self.sae.stream(batch.tokens)
        rows = torch.arange(len(stream), device=stream.device)
        return self.sae.encode(stream[rows, batch.positions[self.at]])

    # Noising

    def change(self, features: Sequence[int], what: str, *, corruption: str = "ABC") -> Measurement:
        """What is lost of the metric where these features have their activations from the corrupted prompt."""
        quantity = f"loss by noising {what} at {self.at}"
        return self._said(
            self.ioi.pairs(quantity, corruption, self.ioi.metric.unit, self._losses([list(features)], corruption))
        )

    def change_of_others(self, features: Sequence[int], *, corruption: str = "ABC") -> Measurement:
        """The same for as many other features that fire at the same place: the mean over random sets of them."""
        sets = self._other_sets(features)
        quantity = f"loss by noising as many other features at {self.at} ({RANDOM_SETS} random sets)"
        return self._said(self.ioi.pairs(quantity, corruption, self.ioi.metric.unit, self._losses(sets, corruption)))

    def share_of_heads(
        self, features: Sequence[int], what: str, heads: Sequence[Head], *, corruption: str = "ABC"
    ) -> Measurement:
        """What noising features loses as a share of what noising heads at the same position loses."""
        whole = self.ioi.noise(heads, at=self.at, corruption=corruption).change()
        quantity = f"what {what} lose, noised at {self.at} ({corruption}), of what the heads lose"
        return self.change(features, what, corruption=corruption).share_of(whole, quantity, LOST)

    def others_share(self, features: Sequence[int], what: str, *, corruption: str = "ABC") -> Measurement:
        """What noising as many other features loses as a share of what noising these loses."""
        quantity = f"what as many other features lose, noised at {self.at} ({corruption}), of what {what} lose"
        whole = self.change(features, what, corruption=corruption).presupposing(self.ioi.baseline())
        return self.change_of_others(features, corruption=corruption).share_of(whole, quantity, f"share of what {what} lose")

    def _losses(self, sets: Sequence[Sequence[int]], corruption: str):
        """A measure of pairs: the mean loss over sets of features."""

        def measure(clean: Batch, corrupted: Batch) -> np.ndarray:
            others = self._features(corrupted)
            changes = [_taken_from(others, features) for features in sets]
            resid = self.sae.changed_at(clean.tokens, clean.at(self.at), changes)
            return (self.ioi.value_of(clean) - self.ioi.value_from(resid, clean)).mean(0)

        return measure

    def _other_sets(self, features: Sequence[int]) -> list[list[int]]:
        """Random sets, as large, of other features that fire at the same place on some of the first prompts."""
        activations, _ = self.activations(self.ioi.chunk)
        candidates = sorted(set(np.flatnonzero((activations > 0).any(0)).tolist()) - set(features))
        if not candidates:
            raise Untested("no other feature fires there: there is nothing to hold these against")
        size = min(len(features), len(candidates))
        random = np.random.default_rng([self.ioi.seed, 2023])
        return [sorted(random.choice(candidates, size, replace=False).tolist()) for _ in range(RANDOM_SETS)]

    def _said(self, measurement: Measurement) -> Measurement:
        """The same, with what rows say of the autoencoder."""
        return replace(measurement, take=lambda n: replace(measurement.take(n), facts=self.sae.row_facts))


def _taken_from(others: Float[Tensor, "prompt d_sae"], features: Sequence[int]) -> Change:
    """Give some features the activations that they have elsewhere."""
    columns = list(features)

    def change(activations: Float[Tensor, "prompt 1 d_sae"]) -> Float[Tensor, "prompt 1 d_sae"]:
        activations = activations.clone()
        activations[:, 0, columns] = others[:, columns].to(activations)
        return activations

    return change


def explained_by(labels: Sequence[str], activations: Float[np.ndarray, "prompt d_sae"]) -> Float[np.ndarray, " d_sae"]:
    """The share of each feature's variance that lies between labels (η², Fisher's correlation ratio); 1 where they say all.

    Zero for a feature that never fires. Labels seen once say nothing and are left out.
    """
    kept = [i for i, label in enumerate(labels) if list(labels).count(label) > 1]
    values, groups = activations[kept], np.unique([labels[i] for i in kept], return_inverse=True)[1]
    total = values.var(0)
    within = np.zeros_like(total)
    for group in range(groups.max() + 1):
        members = values[groups == group]
        within += len(members) / len(values) * members.var(0)
    return np.divide(total - within, total, out=np.zeros_like(total), where=total > 0)
