"""Numbers read off scores of edges, as claims measure them: with more prompts where a verdict asks for more.

    correlation_of_scores(ioi, "EAP-IG inputs", "exact")      # Pearson over all edges
    auroc_of_scores(ioi, "EAP", known)                        # against edges that are known
    share_of_known(ioi, "EAP-IG inputs", known, 200)          # of these, how many are among the 200 best

All presuppose a model that does the task, and a corruption that costs something: of another model, claims are refuted.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from circuit_claims.edges.errors import EdgeError
from circuit_claims.edges.graph import EdgeGraph, EdgeMask
from circuit_claims.edges.known import auroc_of
from circuit_claims.edges.pairs import corruption_of
from circuit_claims.edges.scores import Method, edge_scores
from circuit_claims.edges.search import Order
from circuit_claims.measure.agreement import pearson
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Grid, GridStatistic
from circuit_claims.tasks.measuring import clusters_of
from circuit_claims.tasks.task import Task

#: How many edges a scatter shows, the largest in size.
SHOWN = 200

Scores = Float[np.ndarray, "*resample method edge"]


def scores_by_methods(
    task: Task, methods: Sequence[Method], *, corruption: str | None = None, **options: Any
) -> Measurement[Grid]:
    """Scores of all edges by some methods: a grid of a row a method and a column an edge. options: as for `edge_scores`.

    Raises EdgeError for a task without corrupted prompts; when it is taken, as `edge_scores` does.
    """
    corruption = corruption_of(task, corruption)

    def take(n: int) -> Grid:
        clusters = clusters_of(task.prompts(n))
        found = [edge_scores(task, method, n=n, corruption=corruption, **options) for method in methods]
        # Baselines know no prompts: theirs are the same on each.
        values = np.stack([np.broadcast_to(one.values, (len(clusters), one.values.shape[1])) for one in found], axis=1)
        return Grid(
            values=values.astype(np.float64),
            quantity=f"scores of edges by {' and '.join(methods)} ({corruption}){task.under}",
            unit=task.metric.unit,
            clusters=clusters,
            row_axis="method",
            row_labels=list(methods),
            column_axis="edge",
            exact=0 < len(task.fixed) <= n,
        )

    return Measurement(take, task.prepend_bos, task.limit).presupposing(task.baseline(corruption))


def correlation_of_scores(task: Task, method: Method, other: Method = "exact", **options: Any) -> Measurement[GridStatistic]:
    """Pearson's coefficient, over all edges, of two methods' scores, each averaged over prompts; drawn as a scatter."""
    graph = EdgeGraph.of(task.subject.transformer)

    def drawn(grid: Grid) -> Grid:
        y, x = grid.estimate
        largest = np.argsort(-np.maximum(np.abs(x) / np.abs(x).max(), np.abs(y) / np.abs(y).max()), kind="stable")[:SHOWN]
        points = [{"label": str(graph[int(i)]), "x": float(x[i]), "y": float(y[i])} for i in largest]
        axes = {"x_axis": f"{other}, {grid.unit}", "y_axis": f"{method}, {grid.unit}"}
        figure = {"kind": "scatter", "title": grid.quantity, **axes, "points": points, "r": float(correlation(grid.estimate))}
        return grid.drawn_as(figure)

    def correlation(means: Scores) -> Float[np.ndarray, "*resample"]:
        return pearson(means[..., :1, :], means[..., 1:, :])

    quantity = f"correlation over edges of {method} with {other}{task.under}"
    return scores_by_methods(task, [method, other], **options).mapped(drawn).of(correlation, quantity, "correlation")


def auroc_of_scores(
    task: Task, method: Method, known: EdgeMask, *, order: Order = "size", **options: Any
) -> Measurement[GridStatistic]:
    """The AUROC of a method's scores against known edges, by the absolute score (size) or the score itself (value).

    Raises EdgeError where all edges are known, or none, or the edges are another model's.
    """
    _check_known(task, known)
    quantity = f"AUROC of edges by {method} against the known ones{task.under}"
    scores = scores_by_methods(task, [method], **options)
    return scores.of(lambda means: auroc_of(_ordered(means, order), known), quantity, "AUROC")


def share_of_known(
    task: Task, method: Method, known: EdgeMask, n_edges: int, *, order: Order = "size", **options: Any
) -> Measurement[GridStatistic]:
    """The share of the known edges that are among the n best by a method's scores.

    Raises EdgeError as `auroc_of_scores` does, and for more edges than there are.
    """
    graph = _check_known(task, known)
    if not 1 <= n_edges <= len(graph):
        raise EdgeError(f"the {n_edges:,} best edges are asked for, and a model of {graph} has {len(graph):,}: ask for fewer")

    def share(means: Scores) -> Float[np.ndarray, "*resample"]:
        best = np.argpartition(-_ordered(means, order), n_edges - 1, axis=-1)[..., :n_edges]
        return known[best].sum(-1) / known.sum()

    quantity = f"share of the known edges among the {n_edges:,} best by {method}{task.under}"
    return scores_by_methods(task, [method], **options).of(share, quantity, "share")


def _ordered(means: Scores, order: Order) -> Float[np.ndarray, "*resample edge"]:
    flat = means[..., 0, :]
    return np.abs(flat) if order == "size" else flat


def _check_known(task: Task, known: EdgeMask) -> EdgeGraph:
    graph = EdgeGraph.of(task.subject.transformer)
    if not graph.checked(known).any() or known.all():
        raise EdgeError("the known edges are all edges or none: name those of the circuit, and leave the others out")
    return graph
