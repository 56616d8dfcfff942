"""Features of a sparse autoencoder on text: do they fire where their meaning says, and do they do what it says.

    sae_features.f1("a name comes next", feature=17, threshold=0.5)
    sae_features.ablation("a capital comes next", feature=17)
    sae_features.steering("a capital comes next", feature=17)

What a feature does is measured at one token of each row, in the whole model: the stream is changed there alone, what the
autoencoder does not reconstruct stays, and the logits are read at the same token. Changes of the same size along the directions
of other features are the control, and what they do is taken off.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims.cards.card import Card
from circuit_claims.cards.schema import Published
from circuit_claims.engine.run import Run
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Samples
from circuit_claims.measure.store import SessionStore
from circuit_claims.sae.card_rows import for_sae, part_of
from circuit_claims.sae.concepts import MEANINGS, Lexicon, Marks, Meaning, lexicon
from circuit_claims.sae.dashboards import dashboard
from circuit_claims.sae.loaded import ACTIVATIONS, LoadedSae
from circuit_claims.sae.metrics_on_text import SaeText
from circuit_claims.untested import Untested

#: Other features whose directions are the control, and of how many rows those that never fire are no candidates.
OTHERS, ALIVE_ROWS = 16, 240
#: Rows that are looked through for one token to change, in units of the tokens asked for.
PATIENCE = 20
#: Firing in fewer rows than this share of those asked for, a feature does not mean what it is said to.
SELDOM = 0.05


class FiresTooSeldom(AssertionError):
    """What a feature does presupposes that it fires where its meaning says; the message says how seldom it does."""


@dataclass(frozen=True, repr=False)
class SaeFeatures:
    """Features on held-out text.

    text: the text, with the autoencoder. card: which feature means what.
    seed: of the tokens that are changed, and of the control's directions.
    """

    text: SaeText
    card: Card
    seed: int
    store: SessionStore = field(default_factory=SessionStore, repr=False)

    def __repr__(self) -> str:
        """Short, as for tasks."""
        return f"features on {self.text!r}"

    @property
    def sae(self) -> LoadedSae:
        """The autoencoder."""
        return self.text.sae

    def named(self, row: str) -> "NamedFeature":
        """The feature that the card names in a row of its tables of features, `mini-sae: a name comes next`.

        Raises Untested where the row is of another autoencoder.
        """
        return NamedFeature(self, row, part_of(row, self.sae))

    # Does it fire where it should?

    def f1(self, meaning: str, feature: int, threshold: float = 0.0) -> Measurement:
        """F1 of "the feature is above the threshold" as a detector of the meaning, over the counted tokens.

        F1 = 2 · hits / (2 · hits + misses + false alarms): a ratio of sums over rows. Raises KeyError for an unknown meaning.
        """
        marks = self._meaning(meaning).where

        def take(n: int) -> Samples:
            parts = []
            for first in range(0, n, self.text.chunk):
                count = min(self.text.chunk, n - first)
                place = ("hits", meaning, feature, threshold, first, count)
                parts.append(self.store.get(place, partial(self._hits, first, count, marks, feature, threshold)))
            hits, wrong = np.concatenate(parts).T
            quantity = f"F1 of feature {feature} as a detector of {meaning!r}"
            return self._samples(2 * hits, quantity, "F1", feature, meaning, weights=2 * hits + wrong)

        return Measurement(take, self.text.prepend_bos)

    def _hits(
        self, first: int, count: int, where: Callable[[Lexicon, np.ndarray], Marks], feature: int, threshold: float
    ) -> Float[np.ndarray, "row 2"]:
        """Hits, and misses with false alarms, of each row."""
        rows = self._rows(first, count)
        meant = where(self.lexicon, rows.numpy()) & self._counted(rows)
        fires = (self._activation(first, count, feature) > threshold) & self._counted(rows)
        return np.stack([(meant & fires).sum(1), (meant ^ fires).sum(1)], axis=1).astype(float)

    # Does it do what it should?

    def ablation(self, meaning: str, feature: int, threshold: float = 0.0) -> Measurement:
        """How much the logits that the meaning predicts fall without the feature, beyond what other features' removal does.

        At tokens where the meaning holds and the feature fires: the mean logit of the predicted tokens, less that of the whole
        vocabulary, before minus after the feature's own contribution is taken off the stream; minus the same for a
        contribution of the same norm along the directions of other features (the mean over them).
        """
        return self._effect("ablation", meaning, feature, threshold)

    def steering(self, meaning: str, feature: int, threshold: float = 0.0) -> Measurement:
        """How much the logits that the meaning predicts rise with the feature, beyond what other features' directions do.

        At tokens where the meaning does not hold and the feature is silent: after minus before a step along the feature's
        decoder direction, as large as the feature's mean activation where it fires; minus the same along other features'.
        """
        return self._effect("steering", meaning, feature, threshold)

    def _effect(self, kind: str, name: str, feature: int, threshold: float) -> Measurement:
        meaning = self._meaning(name)
        if meaning.predicts is None:
            raise Untested(f"that something is {name!r} says nothing of the next token: there is no logit to look at")

        def take(n: int) -> Samples:
            effects = self._effects(kind, name, feature, threshold, n)
            verb = "without" if kind == "ablation" else "with a step along"
            turn = "fall" if kind == "ablation" else "rise"
            quantity = f"{turn} of the predicted logits {verb} feature {feature} ({name}), beyond that of other features"
            return self._samples(effects, quantity, "logits", feature, name)

        return Measurement(take, self.text.prepend_bos)

    def _effects(self, kind: str, name: str, feature: int, threshold: float, n: int) -> Float[np.ndarray, " n"]:
        found: list[np.ndarray] = []
        count, looked = 0, 0
        while count < n and looked < PATIENCE * n:
            lot = (kind, name, feature, threshold, looked, self.text.chunk)
            effects = self.store.get(("effects", *lot), partial(self._effects_in, *lot))
            looked += self.text.chunk
            found.append(effects)
            count += len(effects)
        if kind == "ablation" and count < n * SELDOM:
            raise FiresTooSeldom(f"feature {feature} fires where it should in only {count} of {looked} rows of text")
        if count < n:
            what = "fires where it should" if kind == "ablation" else "is silent where it should be"
            raise Untested(f"feature {feature} {what} in only {count} of {looked} rows of text: give more text with --sae-text")
        return np.concatenate(found)[:n]

    @torch.inference_mode()
    def _effects_in(
        self, kind: str, name: str, feature: int, threshold: float, first: int, count: int
    ) -> Float[np.ndarray, " token"]:
        """The effects in a chunk of rows: one token of each row in which there is one to change."""
        rows, meaning, sae = self._rows(first, count), self._meaning(name), self.sae
        activations = self._activation(first, count, feature)
        meant = meaning.where(self.lexicon, rows.numpy())
        candidates = meant & (activations > threshold) if kind == "ablation" else ~meant & (activations <= 0)
        candidates &= self._counted(rows)
        random = np.random.default_rng([self.seed, first, feature])
        places = [(row, random.choice(np.flatnonzero(line))) for row, line in enumerate(candidates) if line.any()]
        if not places:
            return np.zeros(0)
        at, pos = (torch.tensor([int(place[i]) for place in places]) for i in (0, 1))
        run = sae.subject.transformer.run(rows[at].to(sae.subject.device))
        vectors = run.resid[sae.layer][torch.arange(len(at)), pos]
        sign = -1.0 if kind == "ablation" else 1.0
        if kind == "ablation":
            step = self._contribution(vectors, feature)
        else:
            step = (self._strength(feature, threshold) * sae.directions[feature]).expand(len(at), -1)
        if meaning.predicts is None:
            raise ValueError(f"the meaning {name!r} predicts no tokens: there is no effect on them to measure")
        predicted = torch.tensor(sorted(meaning.predicts(self.lexicon)), device=sae.subject.device)
        steps = [sign * direction for direction in (step, *self._same_size(step, feature))]
        moved = self._moved(run, pos, vectors, steps, predicted)
        return sign * (moved[0] - moved[1:].mean(0))

    def _moved(
        self,
        run: Run,
        pos: Int[Tensor, " row"],
        vectors: Float[Tensor, "row d_model"],
        steps: Sequence[Float[Tensor, "row d_model"]],
        predicted: Int[Tensor, " predicted"],
    ) -> Float[np.ndarray, "step row"]:
        """How far each step moves the predicted logits at one token of each row.

        Nothing after that token matters: rows that are changed at the same place are cut there, and are one batch.
        """
        moved = np.zeros((len(steps), len(pos)))
        for place in pos.unique().tolist():
            some = torch.nonzero(pos == place)[:, 0]
            part = Run(run.tokens[some, : place + 1], run.resid[:, some, : place + 1])
            positions = torch.full((len(some), 1), place, device=part.tokens.device)
            values = [(vectors + step)[some, None] for step in (torch.zeros_like(vectors), *steps)]
            logits = self._predicted_logit(self.sae.set_at(part, positions, values), predicted)
            moved[:, some.numpy()] = logits[1:] - logits[0]
        return moved

    def _contribution(self, vectors: Float[Tensor, "token d_model"], feature: int) -> Float[Tensor, "token d_model"]:
        """What a feature adds to some vectors of the stream, as the autoencoder reconstructs them."""
        features = self.sae.encode(vectors)
        without = features.clone()
        without[:, feature] = 0.0
        return self.sae.decode(features, vectors) - self.sae.decode(without, vectors)

    def _same_size(self, step: Float[Tensor, "token d_model"], feature: int) -> list[Float[Tensor, "token d_model"]]:
        """Steps as large along the directions of other features that fire now and then, the same ones for every token."""
        alive = np.flatnonzero(self.text.firing_rates(ALIVE_ROWS) > 0)
        others = np.random.default_rng([self.seed, 16]).permutation(alive[alive != feature])[:OTHERS]
        if not len(others):
            raise Untested("no other feature of this SAE fires on the text: there is nothing to hold this one against")
        directions = self.sae.directions[others.tolist()]
        norms = step.norm(dim=-1, keepdim=True)
        return [norms * direction / direction.norm() for direction in directions]

    def _strength(self, feature: int, threshold: float) -> float:
        """The feature's mean activation where it is above the threshold, on the first rows of the text."""
        activations = self._activation(0, self.text.chunk, feature)
        firing = activations[activations > threshold]
        if not len(firing):
            raise Untested(f"feature {feature} fires nowhere in {self.text.chunk} rows of text: give a text in which it does")
        return float(firing.mean())

    def _predicted_logit(
        self, resid: Float[Tensor, "*batch d_model"], predicted: Int[Tensor, " predicted"]
    ) -> Float[np.ndarray, "*batch"]:
        """The mean logit of the predicted tokens less the mean over the vocabulary."""
        logits = self.sae.subject.transformer.logits(resid).double()
        return (logits[..., predicted].mean(-1) - logits.mean(-1)).cpu().numpy()

    # The text

    @property
    def lexicon(self) -> Lexicon:
        """The words of the subject's tokenizer."""
        return self.store.get(("lexicon",), lambda: lexicon(self.sae.subject.tokenizer, self.text.special))

    def first_rows(
        self, feature: int, meaning: str
    ) -> tuple[Int[np.ndarray, "row pos"], Float[np.ndarray, "row pos"], Marks, Marks]:
        """The first rows of the text: token ids, the feature's activations, which tokens count, and which of them are meant.

        As many as are measured at a time, so that after an F1 nothing is computed anew. Raises KeyError for an unknown meaning.
        """
        where = self._meaning(meaning).where
        count = min(self.text.chunk, self.text.limit or self.text.chunk)
        rows = self._rows(0, count)
        counted = self._counted(rows)
        return rows.numpy(), self._activation(0, count, feature), counted, where(self.lexicon, rows.numpy()) & counted

    def _rows(self, first: int, count: int) -> Int[Tensor, "row pos"]:
        return self.store.get(("rows", first, count), lambda: self.text.text.rows(self.text.first + first, count))

    def _counted(self, rows: Int[Tensor, "row pos"]) -> Marks:
        return ~np.isin(rows.numpy(), np.array(self.text.special))

    def _activation(self, first: int, count: int, feature: int) -> Float[np.ndarray, "row pos"]:
        """One feature's activations in a chunk of rows: all of them would fill the memory."""
        return self.store.get(
            ("activation", first, count, feature), lambda: self.activations(first, count, lambda part: part[..., feature])
        )

    def activations(
        self, first: int, count: int, of: Callable[[Float[Tensor, "row pos d_sae"]], Tensor]
    ) -> Float[np.ndarray, "row pos ..."]:
        """What `of` makes of the feature activations of some rows, as many rows at a time as fit."""
        rows = self._rows(first, count)
        at_once = max(1, ACTIVATIONS // (rows.shape[1] * self.sae.n_features))
        return np.concatenate([of(self.sae.features(part)).float().cpu().numpy() for part in rows.split(at_once)])

    def _meaning(self, name: str) -> Meaning:
        if name not in MEANINGS:
            raise KeyError(f"unknown meaning {name!r}: use one of {', '.join(MEANINGS)}")
        return MEANINGS[name]

    def _samples(
        self, values: np.ndarray, quantity: str, unit: str, feature: int, meaning: str, weights: np.ndarray | None = None
    ) -> Samples:
        facts = self.sae.row_facts
        return Samples(
            values=values,
            weights=weights,
            quantity=quantity,
            unit=unit,
            clusters=list(range(len(values))),
            population=self.text.text.name,
            facts=facts | {"sae": facts["sae"] | {"feature": feature, "meaning": meaning}},
        )


@dataclass(frozen=True)
class NamedFeature:
    """A feature that the card says a meaning of, in one row of its tables `sae features` and `sae effects`."""

    features: SaeFeatures
    row: str
    meaning: str

    def f1(self) -> Measurement:
        """See `SaeFeatures.f1`; the report shows the feature's dashboard."""
        feature, threshold = self._where("sae features")
        measured = self.features.f1(self.meaning, feature, threshold)
        return measured.drawn_as(lambda: dashboard(self.features, feature, self.meaning, threshold))

    def ablation(self) -> Measurement:
        """See `SaeFeatures.ablation`."""
        return self.features.ablation(self.meaning, *self._where("sae effects"))

    def steering(self) -> Measurement:
        """See `SaeFeatures.steering`."""
        return self.features.steering(self.meaning, *self._where("sae effects"))

    def published(self, column: str) -> Published:
        """What the card says of it: "F1", "ablation" or "steering"."""
        table = "sae features" if column == "F1" else "sae effects"
        return for_sae(self.features.card.table(table)[self.row, column], self.features.sae)

    def _where(self, table: str) -> tuple[int, float]:
        there = self.features.card.table(table)
        return int(there[self.row, "feature"].value), there[self.row, "threshold"].value
