"""What claims ask of an autoencoder as a whole: its numbers on held-out text, and how far above a control's they are."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from circuit_claims.cards.card import Card
from circuit_claims.cards.schema import Published
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Samples
from circuit_claims.measure.store import SessionStore
from circuit_claims.sae.baselines import of_shuffled_model, principal_components, random_dictionary
from circuit_claims.sae.card_rows import published
from circuit_claims.sae.dashboards import panel
from circuit_claims.sae.loaded import LoadedSae
from circuit_claims.sae.metrics_on_text import SaeText
from circuit_claims.untested import Untested

#: Rows of text whose vectors the controls are given.
FITTED_ROWS = 120
CONTROLS = ("a random dictionary", "principal components", "the SAE of a shuffled model")


@dataclass(frozen=True, repr=False)
class SaeNumbers:
    """An autoencoder on held-out text, with what its card says of it.

    seed: of the random dictionary, and of the shuffled model.
    """

    text: SaeText
    card: Card
    seed: int
    store: SessionStore = field(default_factory=SessionStore, repr=False)

    def __repr__(self) -> str:
        """Short, as for tasks."""
        return f"numbers of {self.text.sae.facts['sae']} on {self.text!r}"

    @property
    def sae(self) -> LoadedSae:
        """The autoencoder."""
        return self.text.sae

    def published(self, quantity: str) -> Published:
        """What the card says. Raises Untested where it says nothing."""
        return published(self.card, self.sae, quantity)

    def of(self, quantity: str) -> Measurement:
        """One of its numbers on held-out text, by the name that the card uses, with its panel for the report.

        Raises KeyError for an unknown one.
        """
        measures: dict[str, Callable[[], Measurement]] = {
            "L0": self._l0,
            "dead": self.text.dead,
            "dense": self.text.dense,
            "explained variance": self.text.explained_variance,
            "squared error": self.text.mse,
            "cosine": self.text.cosine,
            "loss recovered": self.text.loss_recovered,
            "KL divergence": self.text.kl,
        }
        return measures[quantity]().drawn_as(lambda: panel(self, quantity))

    def l0(self) -> Measurement:
        """Active features a token, with their panel for the report.

        Raises Untested for a TopK autoencoder, which has k of them whatever the text: what it makes of them is the claim.
        """
        return self.of("L0")

    def _l0(self) -> Measurement:
        if self.sae.architecture == "topk":
            raise Untested(
                "a TopK SAE has as many active features as it is built for, whatever it has learned: "
                "what it is worth, its explained variance and recovered loss say"
            )
        return self.text.l0()

    def better_than(self, control: str, quantity: str) -> Measurement:
        """By how much "explained variance" or "loss recovered" is above a control's on the same text.

        Both are shares of the same whole, so that the difference is a ratio of sums over rows, too.
        """
        other = self.control(control)

        def take(n: int) -> Samples:
            ours, theirs = self.text.sums(n)[0], other.sums(n)[0]
            if quantity == "explained variance":
                part, whole = theirs.error - ours.error, ours.variance
            elif quantity == "loss recovered":
                part, whole = theirs.loss_sae - ours.loss_sae, ours.loss_zero - ours.loss
            else:
                raise KeyError(f"{quantity!r} is no share: compare explained variance or loss recovered")
            return Samples(
                values=np.asarray(part),
                weights=np.asarray(whole),
                quantity=f"{quantity} above that of {control}",
                unit="share",
                clusters=list(range(n)),
                population=self.text.text.name,
                facts=self.sae.row_facts,
            )

        return Measurement(take, self.text.prepend_bos)

    def control(self, name: str) -> SaeText:
        """The same text with a control in the autoencoder's place.

        Raises KeyError for an unknown one.
        """
        if name not in CONTROLS:
            raise KeyError(f"unknown control {name!r}: use one of {', '.join(CONTROLS)}")
        return self.store.get(("control", name), lambda: self._made(name))

    def _made(self, name: str) -> SaeText:
        if name == "the SAE of a shuffled model":
            return self.text.on(of_shuffled_model(self.sae, self.seed))
        k = max(1, round(self.text.l0().take(FITTED_ROWS).estimate))
        tokens = self.text.tokens(FITTED_ROWS)
        counted = torch.from_numpy(~np.isin(tokens.cpu().numpy(), np.array(self.text.special)))
        stream = self.sae.stream(tokens)[counted]
        # The autoencoder's own kind of stream: centred, where it takes the mean off itself.
        stream = stream - stream.mean(-1, keepdim=True) if self.sae.takes_mean_off else stream
        if name == "principal components":
            return self.text.on(principal_components(self.sae, stream, k))
        return self.text.on(random_dictionary(self.sae, stream, k, self.seed))
