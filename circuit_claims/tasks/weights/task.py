"""Weights alone: what a model's attention says without any prompt, as samples and grids for `expect`.

Nothing here is sampled: a number that follows from weights alone has an interval of no width. Only what is compared with chance
has one: the share of random rotations, or of random orders of the positions, that do as well.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from circuit_claims.cards.card import Card
from circuit_claims.cards.schema import Published, PublishedTable
from circuit_claims.heads import Head, Reader
from circuit_claims.measure.grid_statistics import best_rank, worst_rank
from circuit_claims.measure.samples import Grid, GridStatistic, Samples
from circuit_claims.tasks.weights import composition
from circuit_claims.tasks.weights.attention_weights import AttentionWeights
from circuit_claims.untested import REAL_WEIGHTS, Untested

#: Random rotations, or orders of the positions, that make up a null distribution.
DRAWS = 1000
#: Those of one sender, tried on every later head at once, which costs more.
SENDER_ROTATIONS = 200
#: Positions whose attention is looked at, from the first on; and those that a random order is tried on, a thousand times.
POSITIONS, SHUFFLED_POSITIONS = 256, 128


@dataclass(frozen=True, repr=False)
class Weights:
    """One model's attention weights, its card, and what rows say of them.

    facts: the subject, the checksum and so on of these weights, which need not be the run's subject's.
    seed: of the null distributions. store: what has been computed.
    """

    attention: AttentionWeights
    card: Card
    facts: Mapping[str, Any]
    seed: int
    store: dict[Any, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Short, as for tasks."""
        return f"the weights of {self.facts.get('subject')}"

    # What is published

    def table(self, key: str) -> PublishedTable:
        """The card's table; what is missing there can be put to the released weights.

        Raises Untested where the card has none, and says how.
        """
        try:
            return self.card.table(key)
        except Untested as error:
            raise Untested(f"{error}, {REAL_WEIGHTS}") from None

    def value(self, key: str) -> Published:
        """The card's value, as for tables."""
        try:
            return self.card[key]
        except Untested as error:
            raise Untested(f"{error}, {REAL_WEIGHTS}") from None

    # Copying scores

    def copying_sweep(self) -> Grid:
        """Each head's copying score: the sum of the eigenvalues of its OV matrix over the sum of their sizes."""
        scores = self._once("copying", lambda: composition.copying_scores(self.attention))
        return self._heads(scores[None], "OV copying score", "score")

    def copying_difference(self, published: PublishedTable) -> GridStatistic:
        """The largest difference between a head's copying score and the published one, over all heads.

        published: a row a layer and a column a head. Raises Untested where it has not one number for each of these heads.
        """
        expected = np.array(published.values)
        if expected.shape != (self.attention.n_layers, self.attention.n_heads):
            raise Untested(f"the card's table {published.key!r} has not one number for every head: complete it to test this")

        def largest(means: Float[np.ndarray, "*resample layer head"]) -> Float[np.ndarray, "*resample"]:
            return np.abs(means - expected).max((-2, -1))

        quantity = "largest difference from a published OV copying score"
        return GridStatistic(self.copying_sweep(), largest, quantity, "score")

    def published_extremes(self, published: PublishedTable, k: int) -> dict[str, list[Head]]:
        """The k heads with the "highest" and the "lowest" numbers of a table with a row a layer and a column a head."""
        numbers = np.array(published.values)
        # Published numbers have few decimals, so some are equal: a stable sort keeps these in the same order on every machine.
        places = numbers.argsort(axis=None, kind="stable")
        order = [Head(int(place) // numbers.shape[1], int(place) % numbers.shape[1]) for place in places]
        return {"highest": order[-k:], "lowest": order[:k]}

    def best_copying_rank(self, heads: Sequence[Head], what: str) -> GridStatistic:
        """The best rank among the copying scores of `heads`, which `what` names."""
        return GridStatistic(self.copying_sweep(), best_rank(heads), f"best rank of {what} by OV copying score", "rank")

    # Composition

    def composition(self, into: Head, by: Reader) -> Grid:
        """How strongly the queries, keys or values of one head read what each head of the layers before it writes.

        Raises Untested for a head of the first layer, before which there is none.
        """
        if into.layer == 0:
            raise Untested(f"{into} is in the first layer, and no head comes before it: name a later head on the card")
        values = self._once(("composition", into, by), lambda: composition.composition(self.attention, into, by))
        return self._heads(values[None], f"{by.upper()}-composition into {into}", "composition")

    def composition_rank(self, senders: Sequence[Head], into: Head, by: Reader, what: str) -> GridStatistic:
        """The best rank of `senders`, which `what` names, among all heads of earlier layers, by what `into` reads of them."""
        earlier = self._earlier(senders, into)
        quantity = f"best rank of {what} by {by.upper()}-composition into {into}"
        return GridStatistic(self.composition(into, by), best_rank(earlier), quantity, "rank")

    def chance_composition(self, senders: Sequence[Head], into: Head, by: Reader) -> Samples:
        """Of random rotations of every earlier head's output, those in which any is read as strongly as the best of `senders`.

        One number a rotation, 1 where it is so: their share is the p-value of the composition against directions at random,
        for the best of all earlier heads and not for one of them.
        """
        observed = max(self.composition(into, by).estimate[head] for head in self._earlier(senders, into))
        written = self._once("spectra", lambda: composition.spectra(self.attention))
        overlaps = self._once("overlaps", self._overlaps)
        rotated = composition.rotated_composition(self.attention, into, by, written, overlaps, self.seed)
        reached = rotated.max((-2, -1)) >= observed
        quantity = f"share of random rotations with as much {by.upper()}-composition into {into}"
        return self._draws(reached, quantity)

    def received(self, sender: Head, by: Reader) -> Grid:
        """How strongly the queries, keys or values of each head of the layers after it read what one head writes."""
        values = self._once(("received", sender, by), lambda: composition.received(self.attention, sender, by))
        return self._heads(values[None], f"{by.upper()}-composition with {sender}", "composition", first=sender.layer + 1)

    def worst_receiver_rank(self, sender: Head, receivers: Sequence[Head], by: Reader, what: str) -> GridStatistic:
        """The worst rank of `receivers`, which `what` names, among all heads of later layers, by what they read of `sender`.

        Raises Untested where one of them does not come after it.
        """
        places = self._later(sender, receivers)
        quantity = f"worst rank of {what} by {by.upper()}-composition with {sender}"
        return GridStatistic(self.received(sender, by), worst_rank(places), quantity, "rank")

    def chance_receivers(self, sender: Head, receivers: Sequence[Head], by: Reader) -> Samples:
        """Of random rotations of the sender's output, those in which `receivers` rank as high among all heads of later layers.

        One number a rotation, 1 where their worst rank is as good as it is: their share is its p-value against a sender that
        writes to directions at random.
        """
        statistic = worst_rank(self._later(sender, receivers))
        rotated = self._once(
            ("rotated", sender, by),
            lambda: composition.rotated_received(self.attention, sender, by, SENDER_ROTATIONS, self.seed),
        )
        reached = statistic(rotated) <= statistic(self.received(sender, by).estimate)
        return self._draws(reached, f"share of random rotations of {sender} in which these rank as high")

    def _later(self, sender: Head, receivers: Sequence[Head]) -> list[tuple[int, int]]:
        """Where receivers stand in a grid that begins with the layer after the sender's."""
        if early := [head for head in receivers if head.layer <= sender.layer]:
            raise Untested(f"{', '.join(map(str, early))} does not come after {sender}, and reads nothing of it")
        return [(head.layer - sender.layer - 1, head.head) for head in receivers]

    def _overlaps(self) -> Any:
        *_, width, rank = self.attention.W_V.shape
        # What is written is centred, and what reads takes out the mean: both live in the dimensions besides it.
        return composition.random_overlaps(width - 1, rank, DRAWS, self.seed)

    def _earlier(self, senders: Sequence[Head], into: Head) -> list[Head]:
        earlier = [head for head in senders if head.layer < into.layer]
        if not earlier:
            raise Untested(f"none of {', '.join(map(str, senders))} comes before {into}: nothing of theirs can be read there")
        return earlier

    # Attention by position

    def attention_back(self, back: int = 1) -> Grid:
        """The attention of each head to the position `back` before, by position embeddings alone; the samples are positions."""

        def of_all() -> Float[np.ndarray, "position layer head"]:
            layers = [
                composition.attention_back(composition.positional_scores(self.attention, layer, POSITIONS), back).numpy()
                for layer in range(self.attention.n_layers)
            ]
            return np.stack(layers).transpose(2, 0, 1)

        values = self._once(("back", back), of_all)
        where = "the position before" if back == 1 else f"the position {back} before"
        return self._heads(values, f"attention to {where}, from position embeddings alone", "probability")

    def chance_attention_back(self, head: Head, back: int = 1) -> Samples:
        """Of random orders of the position embeddings, those in which `head` attends as much to the position `back` before.

        One number an order, 1 where it is so, over the first positions: their share is the p-value of the attention against
        embeddings that say nothing of who stands next to whom.
        """
        scores = composition.positional_scores(self.attention, head.layer, SHUFFLED_POSITIONS)[head.head]
        observed = float(composition.attention_back(scores, back).mean())
        random = np.random.default_rng(self.seed)
        reached = []
        for _ in range(DRAWS):
            order = random.permutation(len(scores))
            reached.append(float(composition.attention_back(scores[order][:, order], back).mean()) >= observed)
        return self._draws(np.array(reached), f"share of random orders of positions with as much attention of {head}")

    # Rows

    def _once(self, key: Any, compute: Callable[[], Any]) -> Any:
        if key not in self.store:
            self.store[key] = compute()
        return self.store[key]

    def _heads(self, values: Float[np.ndarray, "n layer head"], quantity: str, unit: str, first: int = 0) -> Grid:
        """A grid over the heads of some layers, from the layer `first` on, in which the card's heads are outlined."""
        marks = self.card.named_heads
        return Grid.of_heads(values, quantity, unit, marks=marks, first_layer=first, exact=True, facts=self.facts)

    def _draws(self, reached: np.ndarray, quantity: str) -> Samples:
        return Samples(reached.astype(float), quantity, "rate", range(len(reached)), facts=self.facts)
