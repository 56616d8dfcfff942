"""A head's circuits from token to token, read off a whole model's weights: which tokens a head suppresses.

The definitions stand in `circuit_claims.tasks.copy_suppression.token_circuits`. Over the whole vocabulary nothing is sampled,
so what is said of one head has an interval of no width; in a comparison of all heads, tokens are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from circuit_claims.engine.unsupported import Unsupported
from circuit_claims.engine.weights import Weights
from circuit_claims.heads import Head
from circuit_claims.measure.grid_statistics import at_head
from circuit_claims.measure.samples import Grid, GridStatistic, Samples
from circuit_claims.measure.store import SessionStore
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.copy_suppression.token_circuits import (
    Circuit,
    TokenMatrix,
    all_heads,
    effective_embedding,
    full_copying_scores,
    token_matrix,
    unembedding,
)
from circuit_claims.untested import Untested

#: What counts as being among the first.
FIRST = 10
#: Tokens on which all heads are compared.
SAMPLED = 256
#: Ranks at which the report's curve is drawn.
DRAWN = (0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000)


def weights_of(subject: Subject, what: str) -> Weights:
    """The subject's weights, laid out as GPT-2's; `what` is read off them, for the message.

    Raises Untested where the subject is of another architecture.
    """
    try:
        return subject.transformer.weights()
    except Unsupported:
        raise Untested(
            f"{what} read off weights as GPT-2 lays them out, "
            f"and {subject.name} is of another architecture: take a subject of GPT-2's"
        ) from None


@dataclass(frozen=True, repr=False)
class TokenCircuits:
    """One subject's heads from token to token; seed: of the tokens that stand in for others, and of those sampled."""

    subject: Subject
    seed: int
    store: SessionStore = field(default_factory=SessionStore, repr=False)

    def __repr__(self) -> str:
        """Short: hypothesis prints a claim's arguments with a counterexample."""
        return f"token circuits of {self.subject.name}"

    @property
    def model(self) -> Weights:
        """The weights.

        Raises Untested where they are not laid out as GPT-2's.
        """
        return weights_of(self.subject, "circuits from token to token are")

    def own_token(self, head: Head, circuit: Circuit) -> "OwnToken":
        """Where each token of the vocabulary stands in its own row of a head's OV or QK circuit.

        Raises ValueError for an unknown circuit, and Untested where the architecture is not GPT-2's.
        """
        return OwnToken(self, head, circuit)

    def suppression_sweep(self) -> Grid:
        """For every head, on some tokens, whether the token is among the ten that its OV circuit suppresses most: a grid.

        Raises Untested where the architecture is not GPT-2's.
        """
        values = self.store.get(("suppression sweep", self.seed), self._swept)
        return Grid.of_heads(
            values=values,
            quantity=f"own token among the {FIRST} most suppressed",
            unit="rate",
            marks=self.subject.card.named_heads,
            exact=len(values) == self.vocabulary,
            facts=self.facts,
        )

    def full_copying_sweep(self) -> Grid:
        """Each head's copying score from tokens to tokens, through embedding and unembedding: a grid layer × head.

        Raises Untested where the architecture is not GPT-2's.
        """
        model = self.model
        scores = self.store.get("full copying", lambda: full_copying_scores(model))
        return Grid.of_heads(
            values=scores[None],
            quantity="copying score of the full OV circuit",
            unit="score",
            clusters=[0],
            marks=self.subject.card.named_heads,
            exact=True,
            facts=self.facts,
        )

    def full_copying(self, head: Head) -> GridStatistic:
        """One head's copying score from tokens to tokens."""
        return self.full_copying_sweep().of(at_head(head), f"full copying score of {head}", "score")

    @property
    def vocabulary(self) -> int:
        """The number of tokens that the model has embeddings of."""
        return len(self.model.W_E)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What rows say: there is no prompt, and weights are taken processed whatever mode the model is in."""
        return {"mode": "processed", "prepend_bos": None}

    def matrix(self, head: Head, circuit: Circuit) -> TokenMatrix:
        """One head's circuit."""
        embedding, unembedded = self.store.get("embeddings", self._embeddings)
        return token_matrix(self.model, head, circuit, embedding, unembedded)

    @torch.inference_mode()
    def _embeddings(self) -> tuple[Tensor, Tensor]:
        return effective_embedding(self.model), unembedding(self.model)

    @torch.inference_mode()
    def _swept(self) -> np.ndarray:
        model, random = self.model, np.random.default_rng([self.seed, 7])
        tokens = torch.from_numpy(random.choice(self.vocabulary, min(SAMPLED, self.vocabulary), replace=False)).to(
            model.W_E.device
        )
        hits = [(self.matrix(head, "OV").ranks(tokens)[:, 0] < FIRST) for head in all_heads(model)]
        return torch.stack(hits, dim=1).double().cpu().numpy().reshape(len(tokens), model.n_layers, model.n_heads)


@dataclass(frozen=True)
class OwnToken:
    """The rank of each token in its own row of one head's circuit, 0 for the first, beside that of another token."""

    task: TokenCircuits
    head: Head
    circuit: Circuit

    def among_first(self, k: int = FIRST) -> Samples:
        """Whether the own token is among the first k: a rate over the vocabulary."""
        return self._samples(self.ranks[:, 0] < k, f"own token {_first(k)} in the {self}", "rate")

    def beyond(self, share: float) -> Samples:
        """Whether more tokens than this share of the vocabulary come before the own one: a rate over the vocabulary."""
        late = self.ranks[:, 0] > share * len(self.ranks)
        return self._samples(late, f"own token beyond the first {share:.0%} in the {self}", "rate")

    def lead_over_another_token(self, k: int = FIRST) -> Samples:
        """The share of tokens among the first k in their own row, less that of other tokens drawn in their place."""
        hits = (self.ranks < k).astype(float)
        quantity = f"own less another token {_first(k)} in the {self}"
        return self._samples(hits[:, 0] - hits[:, 1], quantity, "share of tokens")

    def mean_rank(self) -> Samples:
        """The rank of the own token, averaged over the vocabulary."""
        return self._samples(self.ranks[:, 0], f"rank of the own token in the {self}", "rank")

    def median_rank(self) -> GridStatistic:
        """The rank of the own token in the middle of the vocabulary; the lower of the two in the middle."""
        median = float(np.quantile(self.ranks[:, 0], 0.5, method="lower"))
        grid = Grid(
            values=np.full((1, 1, 1), median),
            quantity=f"median rank of the own token in the {self}",
            unit="rank",
            clusters=range(1),
            exact=True,
            facts=self.task.facts,
            drawn=self._drawn(),
        )
        return grid.of(lambda means: means[..., 0, 0], grid.quantity, grid.unit)

    @property
    def ranks(self) -> Int[np.ndarray, "token 2"]:
        """For every token of the vocabulary: the own token's rank, and another's."""
        return self.task.store.get(("ranks", self.head, self.circuit, self.task.seed), self._ranked)

    def __str__(self) -> str:
        return f"{self.circuit} circuit of {self.head}"

    @torch.inference_mode()
    def _ranked(self) -> Int[np.ndarray, "token 2"]:
        task, device = self.task, self.task.model.W_E.device
        tokens = torch.arange(task.vocabulary)
        random = np.random.default_rng([task.seed, 8])
        # Another token for each, none its own: every one is moved on by the same step of a random order.
        order = torch.from_numpy(random.permutation(task.vocabulary))
        other = torch.empty_like(tokens)
        other[order] = order.roll(1)
        columns = torch.stack([tokens, other], dim=1).to(device)
        return task.matrix(self.head, self.circuit).ranks(tokens.to(device), columns).cpu().numpy()

    def _samples(self, values: np.ndarray, quantity: str, unit: str) -> Samples:
        return Samples(
            values=values.astype(float),
            quantity=quantity,
            unit=unit,
            clusters=range(len(values)),
            population=f"all {len(values)} tokens of the vocabulary",
            exact=True,
            facts=self.task.facts,
            drawn=self._drawn(),
        )

    def _drawn(self) -> dict[str, Any]:
        """How many tokens stand how far down in their own row, and how many of the others drawn in their place."""
        at = [rank for rank in DRAWN if rank < len(self.ranks)]

        def curve(label: str, ranks: Int[np.ndarray, " token"]) -> dict[str, Any]:
            return {"label": label, "values": [float((ranks <= rank).mean()) for rank in at], "low": None, "high": None}

        return {
            "kind": "curves",
            "title": f"{self}: share of tokens at this rank or before",
            "x": [str(rank) for rank in at],
            "x_axis": "rank in the token's own row",
            "y_axis": "share of tokens",
            "curves": [curve("the token itself", self.ranks[:, 0]), curve("another token", self.ranks[:, 1])],
            "marks": [],
        }


def _first(k: int) -> str:
    return "first of all" if k == 1 else f"among the first {k}"
