"""An SAE on held-out text: its numbers as measurements, one sample a row of text.

Rows of text are the clusters: tokens of one row resemble each other. A mean over tokens is the ratio of two sums over rows, so
that rows of different numbers of counted tokens weigh as they should.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuit_claims.measure.blocks import blocks
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Samples
from circuit_claims.measure.store import SessionStore
from circuit_claims.sae.loaded import ACTIVATIONS, LoadedSae
from circuit_claims.sae.row_sums import RowSums, counted_tokens, joined, row_sums, special_tokens
from circuit_claims.sae.text import Rows

#: Rows of generated text that claims begin at: earlier ones were looked at while the SAE was trained and chosen.
VERDICT_ROWS = 1 << 20
#: And that values for cards are measured on.
DISCOVERY_ROWS = 1 << 21
#: Rows on which it is counted how often a feature fires.
FIRING_ROWS = 480
#: Firing on more tokens than this share makes a feature dense (SAEBench's freq_over_10_percent).
DENSE = 0.1


@dataclass(frozen=True)
class SaeText:
    """Held-out text on one subject, and how an SAE does on it.

    text: the rows; first: the number of the row to begin with; chunk: rows that are measured at a time; limit: how many rows
    there are, where there is an end of them.
    """

    sae: LoadedSae
    text: Rows
    first: int = 0
    chunk: int = 120
    limit: int | None = None
    store: SessionStore = field(default_factory=SessionStore, repr=False)

    def __repr__(self) -> str:
        """Short: hypothesis prints a claim's arguments with a counterexample."""
        return f"{self.text.name} on {self.sae.subject.name}"

    def on(self, sae: LoadedSae) -> "SaeText":
        """The same text with another SAE, such as a control."""
        return replace(self, sae=sae, store=SessionStore())

    def tokens(self, n: int) -> Int[Tensor, "row pos"]:
        """The first n rows, on the subject's device."""
        return self.text.rows(self.first, n).to(self.sae.subject.device)

    @property
    def prepend_bos(self) -> bool:
        """Whether rows begin with BOS by rule; generated ones do as it happens."""
        return bool(getattr(self.text, "prepend_bos", False))

    @property
    def special(self) -> tuple[int, ...]:
        """Token ids that count in no number."""
        return special_tokens(self.sae.subject.tokenizer)

    # Sparsity

    def l0(self) -> Measurement:
        """Features that are not zero, a token."""
        return self._ratio("L0", "features a token", lambda sums: sums.l0, lambda sums: sums.tokens)

    def firing_rates(self, n: int = 0) -> Float[np.ndarray, " d_sae"]:
        """The share of the tokens of n rows (of FIRING_ROWS, unless a number is given) on which each feature is not zero."""
        sums, fired = self.sums(n or self.firing_rows)
        return fired / sums.tokens.sum()

    @property
    def firing_rows(self) -> int:
        """Rows on which it is counted how often a feature fires: FIRING_ROWS, or all there are."""
        return min(FIRING_ROWS, self.limit or FIRING_ROWS)

    def dead(self) -> Measurement:
        """The share of features that fire on no token of FIRING_ROWS rows; one sample a feature."""
        return self._of_features(f"dead features (in {self.firing_rows} rows of text)", lambda rates: rates == 0)

    def dense(self) -> Measurement:
        """The share of features that fire on more than a tenth of the tokens of FIRING_ROWS rows; one sample a feature."""
        return self._of_features("dense features", lambda rates: rates > DENSE)

    def active_features(self, n: int) -> tuple[Int[np.ndarray, "row pos"], Bool[np.ndarray, "row pos"]]:
        """How many features are not zero at every token of the first n rows, and which of the tokens count."""
        rows = self.text.rows(self.first, n)
        at_once = max(1, ACTIVATIONS // (rows.shape[1] * self.sae.n_features))
        found = [(self.sae.features(some) != 0).sum(-1).cpu().numpy() for some in rows.split(at_once)]
        return np.concatenate(found), counted_tokens(rows, self.special).numpy()

    # Reconstruction

    def explained_variance(self) -> Measurement:
        """1 − E||x − x̂||² / E||x − E x||²."""
        return self._ratio("explained variance", "share", lambda sums: sums.variance - sums.error, lambda sums: sums.variance)

    def mse(self) -> Measurement:
        """||x − x̂||², summed over components, a token."""
        return self._ratio("squared error", "squared norm", lambda sums: sums.error, lambda sums: sums.tokens)

    def cosine(self) -> Measurement:
        """The cosine of a token's stream and its reconstruction."""
        return self._ratio("cosine", "cosine", lambda sums: sums.cosine, lambda sums: sums.tokens)

    def loss_recovered(self) -> Measurement:
        """(H0 − H*) / (H0 − H): the cross-entropy that splicing keeps of what zero ablation loses."""
        return self._ratio(
            "loss recovered", "share", lambda sums: sums.loss_zero - sums.loss_sae, lambda sums: sums.loss_zero - sums.loss
        )

    def loss_added(self) -> Measurement:
        """Cross-entropy with the reconstruction spliced in, minus without."""
        return self._ratio("loss added", "nats a token", lambda sums: sums.loss_sae - sums.loss, lambda sums: sums.predictions)

    def kl(self) -> Measurement:
        """KL(model || model with the reconstruction spliced in)."""
        return self._ratio("KL divergence", "nats a token", lambda sums: sums.kl, lambda sums: sums.tokens)

    # How

    def sums(self, n: int) -> tuple[RowSums, Int[np.ndarray, " d_sae"]]:
        """The sums of the first n rows, and how many of their tokens each feature fired on."""
        parts = []
        for first, last in blocks(n, self.chunk):
            count = last - first
            parts.append(self.store.get(("sums", first, count), partial(self._measured, first, count)))
        return joined([sums for sums, _ in parts]), np.sum([fired for _, fired in parts], axis=0)

    def _measured(self, first: int, count: int) -> tuple[RowSums, Int[np.ndarray, " d_sae"]]:
        return row_sums(self.sae, self.text.rows(self.first + first, count), self.special)

    def _ratio(
        self,
        quantity: str,
        unit: str,
        part: Callable[[RowSums], Float[np.ndarray, " row"]],
        whole: Callable[[RowSums], Float[np.ndarray, " row"]],
    ) -> Measurement:
        def take(n: int) -> Samples:
            sums, _ = self.sums(n)
            return self._samples(part(sums), whole(sums), quantity, unit, range(n))

        return Measurement(take, self.prepend_bos, self.limit)

    def _of_features(self, quantity: str, which: Callable[[Float[np.ndarray, " d_sae"]], np.ndarray]) -> Measurement:
        def take(n: int) -> Samples:
            # However few are asked for, all features have been counted: the first ones are no sample of them.
            found = which(self.firing_rates()).astype(float)
            return self._samples(found, None, quantity, "share of features", range(len(found)))

        return Measurement(take, self.prepend_bos, limit=self.sae.n_features)

    def _samples(
        self, values: np.ndarray, weights: np.ndarray | None, quantity: str, unit: str, clusters: Sequence[Any]
    ) -> Samples:
        return Samples(
            values=values,
            weights=weights,
            quantity=quantity,
            unit=unit,
            clusters=list(clusters),
            population=self.text.name,
            facts=self.sae.row_facts,
        )
