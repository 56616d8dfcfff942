"""How well scores tell edges that are known to be in a circuit from all others."""

from collections import Counter

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from circuit_claims.edges.errors import EdgeError
from circuit_claims.edges.graph import EdgeGraph, EdgeMask
from circuit_claims.edges.scores import EdgeScores
from circuit_claims.edges.search import Order
from circuit_claims.measure.samples import Grid, GridStatistic


def auroc_of(scores: Float[np.ndarray, "*n edge"], known: EdgeMask) -> Float[np.ndarray, "*n"]:
    """The area under the ROC curve: the chance that a known edge has a higher score than another, ties counting half."""
    n_known = int(known.sum())
    ranks = rankdata(scores, axis=-1)
    above = ranks[..., known].sum(-1) - n_known * (n_known + 1) / 2
    return above / (n_known * (len(known) - n_known))


def auroc(scores: EdgeScores, known: EdgeMask, *, order: Order = "size") -> GridStatistic:
    """The AUROC of scores averaged over prompts, against known edges, with intervals over templates.

    order: of the absolute scores (size), or of the scores (value).

    Raises EdgeError where all edges are known, or none, or the edges are another model's.
    """
    if not scores.graph.checked(known).any() or known.all():
        raise EdgeError("the known edges are all edges or none: name those of the circuit, and leave the others out")
    grid = Grid(
        values=scores.values[:, None, :],
        quantity=f"scores of edges by {scores.method}",
        unit=scores.unit,
        clusters=scores.clusters,
        row_axis="",
        row_labels=[""],
        column_axis="edge",
    )

    def statistic(means: Float[np.ndarray, "*resample 1 edge"]) -> Float[np.ndarray, "*resample"]:
        flat = means[..., 0, :]
        return auroc_of(np.abs(flat) if order == "size" else flat, known)

    return grid.of(statistic, f"AUROC of edges by {scores.method} against the known ones", "AUROC")


def shares_found(graph: EdgeGraph, found: EdgeMask, known: EdgeMask) -> dict[str, tuple[int, int]]:
    """By the kind of edge ("head -> q"), and for "all", how many of the known edges were found, and how many there are."""
    kinds = Counter(edge.kind for edge in graph.edges(known))
    hits = Counter(edge.kind for edge in graph.edges(known & found))
    shares = {kind: (hits[kind], n) for kind, n in sorted(kinds.items())}
    return {"all": (sum(hits.values()), sum(kinds.values())), **shares}
