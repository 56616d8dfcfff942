"""Models in double precision, so that a plain twin agrees to the last digits, and pairs of prompts for them."""

from typing import Any, NamedTuple

import pytest
import torch

from circuit_claims.edges.changes import Value
from circuit_claims.engine.run import Run
from circuit_claims.subjects.subject import Settings, Subject, prepare
from tests.edges.plain import PlainModel
from tests.support.tiny_models import save_tiny_card, save_tiny_gpt2

ANSWERS = torch.tensor([[7, 11], [11, 7], [30, 42], [5, 199], [64, 65]])


class Pairs(NamedTuple):
    """A model, by hand and as an engine, with pairs of prompts; the metric is a difference of two logits."""

    model: Any
    clean: Run
    corrupted: Run
    by_hand: PlainModel | None = None

    @property
    def runs(self) -> tuple[Run, Run]:
        """The two runs, as scores take them."""
        return self.clean, self.corrupted

    @property
    def plain(self) -> PlainModel:
        """The model by hand, of GPT-2's shape alone."""
        assert self.by_hand is not None
        return self.by_hand

    def value(self, some: slice) -> Value:
        """The metric of some of the prompts."""

        def of(ends: torch.Tensor) -> torch.Tensor:
            logits = self.model.answer_logits(ends, ANSWERS[: len(self.clean.tokens)][some].clone())
            return logits[..., 0] - logits[..., 1]

        return of

    def plain_value(self, row: int, logits: torch.Tensor) -> torch.Tensor:
        """The metric of one prompt from its logits at END."""
        first, second = ANSWERS[row]
        return logits[first] - logits[second]


def pairs_of(subject: Subject, n: int = 2, length: int = 6) -> Pairs:
    """A subject's engine with random prompts."""
    generator = torch.Generator().manual_seed(3)
    clean = torch.randint(5, 200, (n, length), generator=generator)
    corrupted = clean.clone()
    corrupted[:, 3:5] = torch.randint(5, 200, (n, 2), generator=generator)
    by_hand = PlainModel(subject.bridge) if hasattr(subject.bridge, "pos_embed") else None
    return Pairs(subject.transformer, subject.run(clean), subject.run(corrupted), by_hand)


@pytest.fixture(scope="session")
def two_layers(tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    """A random GPT-2 of two layers of two heads."""
    folder = save_tiny_gpt2(tmp_path_factory.mktemp("edges") / "tiny", n_layer=2, n_head=2, n_embd=16)
    card = save_tiny_card(folder.parent / "card.toml", n_layer=2, n_head=2)
    return pairs_of(Subject(prepare(Settings(name=str(folder), card=str(card), mode="raw", dtype="float64"))))
