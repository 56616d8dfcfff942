"""Whether a found circuit is found again: on other prompts, the other half of the population, other templates.

Edges are scored anew for each seed and each half of the population, and of each such sample for two groups of its templates (or
other clusters) apart. The circuits that these variants give are compared by Jaccard's index, the share of the edges of either
that both have, over all pairs of variants; two random sets of these sizes share some edges, too, and more the larger they
are, so that the index is put on a scale on which chance is 0 and equality 1:

    agreement = (mean Jaccard − chance) / (1 − chance)

Its interval is Student's over variants, from the jackknife: pairs of variants are not independent, variants nearly are.
Méloux et al. 2025 measure the same by bootstrap samples of prompts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import combinations
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy.stats import hypergeom, t

from circuit_claims.edges.errors import EdgeError
from circuit_claims.edges.graph import EdgeMask
from circuit_claims.edges.pairs import check_whole, corruption_of
from circuit_claims.edges.scores import DEFAULT_PROMPTS, EdgeScores, Method, edge_scores
from circuit_claims.edges.search import Order, Search, found_edges
from circuit_claims.measure.intervals import CONFIDENCE
from circuit_claims.prompts.source import Half
from circuit_claims.tasks.task import Task

Outcome = Literal["stable", "not stable", "inconclusive"]
#: The agreement beyond chance from which on a circuit counts as found again: of two sets of one size, two thirds of the edges.
LEAST = 0.5


@dataclass(frozen=True)
class Stability:
    """How much circuits of one kind agree.

    names: of the variants; masks: their circuits; jaccard: of each pair of variants; chance: what random sets of the same sizes
    have on average. agreement, low, high: the mean beyond chance, and its interval. least: the agreement that was asked for.
    """

    names: Sequence[str]
    masks: Sequence[EdgeMask] = field(repr=False)
    jaccard: Float[np.ndarray, "variant variant"] = field(repr=False)
    chance: float
    agreement: float
    low: float
    high: float
    least: float = LEAST

    @property
    def mean_jaccard(self) -> float:
        """Over all pairs of variants."""
        return float(self.jaccard[np.triu_indices(len(self.names), 1)].mean())

    @property
    def outcome(self) -> Outcome:
        """Stable where the whole interval is at or above what was asked for, not stable where it is below."""
        if self.low >= self.least:
            return "stable"
        return "not stable" if self.high < self.least else "inconclusive"

    @property
    def always(self) -> EdgeMask:
        """The edges that every variant found."""
        return np.all(self.masks, axis=0)

    def __str__(self) -> str:
        interval = f"{self.agreement:.2f} [{self.low:.2f}, {self.high:.2f}]"
        return (
            f"{self.outcome}: {len(self.names)} circuits share {self.mean_jaccard:.0%} of their edges pair by pair (Jaccard; "
            f"random sets of the same sizes {self.chance:.1%}), {interval} beyond chance where {self.least:g} was asked for; "
            f"{int(self.always.sum())} edges are in all of them"
        )


def jaccard(a: EdgeMask, b: EdgeMask) -> float:
    """The share of the edges of either set that both have; 1 of two empty sets."""
    either = int((a | b).sum())
    return int((a & b).sum()) / either if either else 1.0


@lru_cache(maxsize=4096)
def chance_jaccard(n_edges: int, a: int, b: int) -> float:
    """The mean of Jaccard's index of two random sets of these sizes, among all edges."""
    if not a and not b:
        return 1.0
    common = np.arange(max(0, a + b - n_edges), min(a, b) + 1)
    return float((hypergeom.pmf(common, n_edges, a, b) * common / (a + b - common)).sum())


def agreement_of(
    masks: Sequence[EdgeMask], names: Sequence[str], *, least: float = LEAST, confidence: float = CONFIDENCE
) -> Stability:
    """How much some circuits agree beyond chance.

    Raises EdgeError for fewer than three circuits: of two there is one pair, and no interval.
    """
    if len(masks) < 3:
        raise EdgeError(f"{len(masks)} circuits are too few to say how much they agree: take more seeds, halves or templates")
    n, n_edges = len(masks), len(masks[0])
    observed, expected = np.ones((n, n)), np.ones((n, n))
    for i, j in combinations(range(n), 2):
        observed[i, j] = observed[j, i] = jaccard(masks[i], masks[j])
        expected[i, j] = expected[j, i] = chance_jaccard(n_edges, int(masks[i].sum()), int(masks[j].sum()))

    def agreement(kept: np.ndarray) -> float:
        pairs = np.ix_(kept, kept)
        upper = np.triu_indices(len(kept), 1)
        mean, chance = observed[pairs][upper].mean(), expected[pairs][upper].mean()
        # Where chance gives all edges to both, agreeing says nothing.
        return float((mean - chance) / (1 - chance)) if chance < 1 else 0.0

    estimate = agreement(np.arange(n))
    left_out = np.array([agreement(np.delete(np.arange(n), i)) for i in range(n)])
    error = float(np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()))
    reach = float(t.ppf((1 + confidence) / 2, n - 1)) * error
    chance = float(expected[np.triu_indices(n, 1)].mean())
    low, high = max(estimate - reach, -1.0), min(estimate + reach, 1.0)
    return Stability(names, list(masks), observed, chance, estimate, low, high, least)


def stability(
    task: Task,
    method: Method,
    size: int,
    *,
    n: int = DEFAULT_PROMPTS,
    seeds: Sequence[int] = (0, 1),
    halves: Sequence[Half] = ("discovery", "verdict"),
    search: Search = "top",
    order: Order = "size",
    prune: bool = False,
    corruption: str | None = None,
    least: float = LEAST,
    confidence: float = CONFIDENCE,
    search_edges: Callable[[EdgeScores], EdgeMask] | None = None,
    **options: Any,
) -> Stability:
    """Find circuits of `size` edges by one method on seeds × halves × two groups of templates, and compare them.

    n: prompts of each seed and half, which are then divided by their templates. search_edges: another way from scores to a
    circuit, in place of `search`, `order` and `prune`. options: as for `edge_scores`. A population without halves is taken
    whole.

    Raises EdgeError for a model that does not do the task, more edges than there are, templates that cannot be divided, and as
    `edge_scores` does.
    """
    corruption = corruption_of(task, corruption)
    check_whole(task, n, corruption)
    masks, names = [], []
    for seed in seeds:
        for half in halves if hasattr(task.population, "half") else [None]:
            population: Any = task.population  # a dataclass with halves
            here = replace(task, seed=seed, population=population if half is None else replace(population, half=half))
            scores = edge_scores(here, method, n=n, corruption=corruption, seed=seed, **options)
            for number, group in enumerate(_groups(scores.clusters if len(scores.clusters) > 1 else range(2)), 1):
                some = scores.among(group)
                if method == "random":  # a draw of its own for each variant
                    some = edge_scores(here, method, seed=1000 * seed + 10 * number + len(masks))
                found = search_edges(some) if search_edges else _found(some, size, search, order, prune)
                masks.append(found)
                names.append(f"seed {seed}{f', {half} half' if half else ''}, templates {number} of 2")
    return agreement_of(masks, names, least=least, confidence=confidence)


def _found(scores: EdgeScores, size: int, search: Search, order: Order, prune: bool) -> EdgeMask:
    return found_edges(scores.graph, scores.mean, size, search=search, order=order, prune=prune)


def _groups(clusters: Sequence[Any]) -> tuple[list[int], list[int]]:
    """Prompts by their numbers, in two groups that have no cluster in common: every other cluster by name is in the first."""
    named = sorted(set(clusters), key=str)
    if len(named) < 2:
        raise EdgeError("all prompts are of one template, which cannot be divided: take more prompts, or of more templates")
    first = set(named[::2])
    groups = [row for row, cluster in enumerate(clusters) if cluster in first], []
    groups[1].extend(row for row, cluster in enumerate(clusters) if cluster not in first)
    return groups
