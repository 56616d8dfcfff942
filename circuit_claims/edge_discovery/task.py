"""Circuits of edges found on one half of a task's prompts and judged on the other: what the claims on discovery measure.

    discovery.lead("EAP-IG inputs", "random", share=0.1)
    discovery.share_among_the_best(known, "EAP-IG inputs", 0.05)
    discovery.agreement("EAP", "q")

Circuits are found by scores on `FOUND_ON` prompts of the discovery half, and judged on up to `JUDGED_ON` prompts of the verdict
half; scores themselves are judged on up to `SCORED_ON` of these. A model of GPT-2's size has 32,491 edges, so that more prompts
would cost minutes a claim, and of exact effects even these do.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, Int

from circuit_claims.edges.circuit import EdgeCircuit
from circuit_claims.edges.curve import SHARES, EdgeCurve, cmd_of, cpr_of, faithfulness_of
from circuit_claims.edges.exact import exact_effects
from circuit_claims.edges.graph import EdgeGraph, EdgeMask
from circuit_claims.edges.known import auroc_of
from circuit_claims.edges.pairs import corruption_of, runs_of, value_of
from circuit_claims.edges.scores import EdgeScores, Method, edge_scores
from circuit_claims.edges.search import Order, Search, found_edges
from circuit_claims.edges.written import Ablation
from circuit_claims.measure.agreement import pearson
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Grid, GridStatistic, Samples, Taken
from circuit_claims.prompts.batch import Batch
from circuit_claims.tasks.measuring import clusters_of
from circuit_claims.tasks.task import Task

#: Prompts of the discovery half by which circuits are found.
FOUND_ON = 24
#: Prompts of the verdict half on which circuits are judged at most, and scores of all edges.
JUDGED_ON, SCORED_ON = 60, 30
#: A model of more edges than these is large: circuits are judged on SCORED_ON prompts, exact effects and the scores that take
#: passes for every layer are taken on FEW, and of edges into heads and MLPs, those into few of these are patched.
MANY_EDGES = 5_000
FEW = 8
RECEIVERS_PATCHED = 2
#: Edges in a figure of scores: all of them would make a report of many megabytes.
SHOWN = 24

Statistic = Callable[[Float[np.ndarray, "*resample row column"]], Float[np.ndarray, "*resample"]]
T = TypeVar("T", bound=Taken)


@dataclass(frozen=True, repr=False)
class EdgeDiscovery:
    """Edges of one task's subject.

    task: on the verdict half; found_on: the same task on the discovery half.
    """

    task: Task
    found_on: Task
    kept: dict[Any, Any] = field(default_factory=dict, compare=False)

    @property
    def graph(self) -> EdgeGraph:
        """All edges of the model."""
        return EdgeGraph.of(self.task.subject.transformer)

    @property
    def corruption(self) -> str:
        """By which edges are noised."""
        return corruption_of(self.task)

    @property
    def judged_on(self) -> int:
        """Prompts on which circuits are judged at most."""
        return SCORED_ON if self.large else JUDGED_ON

    @property
    def large(self) -> bool:
        """Whether the model has so many edges that not everything is affordable."""
        return len(self.graph) > MANY_EDGES

    # Circuits

    def scores(self, method: Method) -> EdgeScores:
        """Scores on the discovery half, by which circuits are found."""
        if method not in self.kept:
            self.kept[method] = edge_scores(self.found_on, method, n=self._prompts(method, FOUND_ON))
        return self.kept[method]

    def circuit(
        self,
        method: Method,
        n: int,
        *,
        search: Search = "greedy",
        order: Order = "size",
        by: Ablation = "resample",
    ) -> EdgeCircuit:
        """The circuit of n edges by a method's scores, of all edges where there are not so many."""
        n = min(n, len(self.graph))
        mask = found_edges(self.graph, self.scores(method).mean, n, search=search, order=order)
        return EdgeCircuit.of(self.task, mask, by=by, called=f"{n:,} edges by {method} ({search})")

    def everything(self) -> EdgeCircuit:
        """The circuit of all edges."""
        return EdgeCircuit.of(self.task, self.graph.all_edges(), called="all edges")

    def nothing(self) -> EdgeCircuit:
        """The circuit without any edge."""
        return EdgeCircuit.of(self.task, self.graph.no_edges(), called="no edge")

    def known(self, edges: EdgeMask) -> EdgeCircuit:
        """The circuit of edges that are known."""
        return EdgeCircuit.of(self.task, edges, called=f"the {int(edges.sum())} known edges")

    def value_of(self, circuit: EdgeCircuit) -> Measurement[Samples]:
        """The metric of a circuit, on up to `judged_on` prompts."""
        return at_most(circuit.value(), self.judged_on)

    def difference(self, one: EdgeCircuit, other: EdgeCircuit) -> Measurement[Samples]:
        """By how much the metric of one circuit is above that of another."""
        quantity = f"{self.task.metric.name} {one.how} less that {other.how}{self.task.under}"
        lead = one.value().minus(other.value(), quantity, self.task.metric.unit)
        return at_most(lead.presupposing(self.task.competence()), self.judged_on)

    def faithfulness_of(self, circuit: EdgeCircuit) -> Measurement[Samples]:
        """(circuit − corrupted) / (clean − corrupted) of the metric, on up to `judged_on` prompts."""
        return at_most(circuit.faithfulness(), self.judged_on)

    def curve(self, method: Method, order: Order = "size") -> EdgeCurve:
        """Circuits of MIB's ten sizes by a method's scores, grown from the logits."""
        return EdgeCurve(self.task, self.scores(method), order)

    def faithfulness(self, method: Method, share: float) -> Measurement[GridStatistic]:
        """Of the circuit of this share of all edges, one of MIB's ten."""
        return at_most(self.curve(method).faithfulness_at(share), self.judged_on)

    def cmd(self, method: Method) -> Measurement[GridStatistic]:
        """MIB's circuit-model distance."""
        return at_most(self.curve(method).cmd(), self.judged_on)

    def cpr(self, method: Method, order: Order = "value") -> Measurement[GridStatistic]:
        """MIB's circuit performance ratio, of circuits of the edges that help most."""
        return at_most(self.curve(method, order).cpr(), self.judged_on)

    def area_of_both(self, method: Method) -> Measurement[GridStatistic]:
        """CPR and CMD of the same circuits, added up: 1 where faithfulness never exceeds 1."""
        curve = self.curve(method)

        def sum_of(means: np.ndarray) -> np.ndarray:
            return cpr_of(faithfulness_of(means)) + cmd_of(faithfulness_of(means))

        return at_most(curve.metric().of(sum_of, f"CPR + CMD, circuits by {method}{self.task.under}", "area"), self.judged_on)

    def closer(self, method: Method, than: Method) -> Measurement[GridStatistic]:
        """By how much the CMD of one method's circuits is lower than that of another's."""
        statistic = _between_two(lambda one, other: cmd_of(other) - cmd_of(one))
        return self._both(method, than).of(statistic, self._named(f"CMD of circuits by {than} less that by {method}"), "area")

    def lead(self, method: Method, over: Method, share: float) -> Measurement[GridStatistic]:
        """By how much one method's circuit of this share of all edges, one of MIB's ten, is more faithful than another's."""
        place = SHARES.index(share)
        statistic = _between_two(lambda one, other: one[..., place] - other[..., place])
        what = f"lead in faithfulness of {share:.0%} of all edges by {method} over as many by {over}"
        return self._both(method, over).of(statistic, self._named(what), "share")

    def _both(self, method: Method, other: Method) -> Measurement[Grid]:
        """The metric of two methods' circuits, a row each."""
        one, two = (self.curve(each).metric() for each in (method, other))

        def take(n: int) -> Grid:
            a, b = one.take(n), two.take(n)
            values = np.concatenate([a.values, b.values], axis=1)
            return replace(a, values=values, row_axis="method", row_labels=[method, other])

        return at_most(replace(one, take=take), self.judged_on)

    # Scores

    def share_among_the_best(self, known: EdgeMask, method: Method, best: float) -> Measurement[GridStatistic]:
        """The share of known edges that are among the best share of all by the size of a method's scores."""
        n = round(best * len(self.graph))

        def statistic(means: np.ndarray) -> np.ndarray:
            sizes = np.abs(means[..., 0, :])
            least = np.partition(sizes, -n, axis=-1)[..., -n, None]
            return ((sizes >= least) & (sizes > 0))[..., known].mean(-1)

        named = f"share of {int(known.sum())} known edges that are among the best {best:.0%} by {method}"
        return self._scored(method).of(statistic, self._named(named), "share of edges")

    def auroc(self, known: EdgeMask, method: Method) -> Measurement[GridStatistic]:
        """The chance that a known edge has a larger score than another (see `circuit_claims.edges.known`)."""
        named = self._named(f"AUROC of edges by {method} against the {int(known.sum())} known ones")
        return self._scored(method).of(lambda means: auroc_of(np.abs(means[..., 0, :]), known), named, "AUROC")

    def auroc_lead(self, known: EdgeMask, method: Method, over: Method) -> Measurement[GridStatistic]:
        """By how much one method's AUROC is above another's."""

        def statistic(means: np.ndarray) -> np.ndarray:
            one, other = (auroc_of(np.abs(means[..., row, :]), known) for row in (0, 1))
            return one - other

        named = self._named(f"AUROC of edges by {method} less that by {over}")
        return self._scored(method, over).of(statistic, named, "AUROC")

    def exact_auroc(self, known: EdgeMask, kind: str) -> Measurement[GridStatistic]:
        """The AUROC of exact effects, among the edges into one kind of receiver."""
        among = self.patched(kind)
        named = self._named(
            f"AUROC of edges into {_KINDS[kind]} by exact patching against {int(known[among].sum())} known ones"
        )
        grid = self._beside_exact([kind])
        return grid.of(lambda means: auroc_of(np.abs(means[..., 0, :]), known[among]), named, "AUROC")

    def agreement(self, method: Method, kind: str) -> Measurement[GridStatistic]:
        """Pearson's coefficient of a method's scores with exact effects, over edges into one kind of receiver.

        kind: q, k, v, MLP or logits; of a large model, not all edges into heads and MLPs are patched (`patched`).
        """
        named = f"correlation of {method} with exact patching over {self._which(kind)} into {_KINDS[kind]}"
        grid = self._beside_exact([kind], method)
        return grid.of(lambda means: _correlation(means, 1), self._named(named), "correlation")

    def agreement_lead(self, method: Method, over: Method) -> Measurement[GridStatistic]:
        """By how much one method's scores correlate more with exact effects than another's, over edges of all kinds."""
        named = f"correlation with exact patching over {self._which(*_KINDS)} of {method} less that of {over}"
        grid = self._beside_exact(list(_KINDS), method, over)
        return grid.of(lambda means: _correlation(means, 1) - _correlation(means, 2), self._named(named), "correlation")

    def patched(self, kind: str) -> EdgeMask:
        """The edges into one kind of receiver that are patched exactly.

        All of them, but for heads and MLPs of a large model: there, those into the `RECEIVERS_PATCHED` whose edges have the
        largest scores by EAP-IG (inputs) on the discovery half.
        """
        graph = self.graph
        receivers = [i for i, receiver in enumerate(graph.receivers) if receiver.kind == kind]
        if self.large and len(receivers) > RECEIVERS_PATCHED:
            sizes = np.add.reduceat(np.abs(self.scores("EAP-IG inputs").mean), graph.offsets[:-1])
            receivers = sorted(receivers, key=lambda receiver: -sizes[receiver])[:RECEIVERS_PATCHED]
        return np.isin(graph.receiver_of_edge, receivers)

    def _which(self, *kinds: str) -> str:
        return f"{sum(int(self.patched(kind).sum()) for kind in kinds):,} edges"

    def _scored(self, *methods: Method) -> Measurement[Grid]:
        """The scores of all edges, a row a method."""

        def take(n: int) -> Grid:
            found = [edge_scores(self.task, method, n=n) for method in methods]
            values = np.stack([np.broadcast_to(one.values, (n, len(self.graph))) for one in found], axis=1)
            return self._grid(values, methods, np.arange(len(self.graph)))

        return self._of_scores(take, methods)

    def _beside_exact(self, kinds: Sequence[str], *methods: Method) -> Measurement[Grid]:
        """Exact effects and scores of the edges of some kinds that are patched, a row each."""
        masks = [self.patched(kind) for kind in kinds]

        def take(n: int) -> Grid:
            exact = np.concatenate([self._exact(mask, n) for mask in masks], axis=1)
            scores = [edge_scores(self.task, method, n=n).values for method in methods]
            found = [np.concatenate([values[:, mask] for mask in masks], axis=1) for values in scores]
            numbers = np.concatenate([np.flatnonzero(mask) for mask in masks])
            return self._grid(np.stack([exact, *found], axis=1), ("exact", *methods), numbers)

        return self._of_scores(take, ("exact", *methods))

    def _exact(self, among: EdgeMask, n: int) -> Float[np.ndarray, "prompt edge"]:
        """The exact effects of some edges."""
        model = self.task.subject.transformer

        def measure(clean: Batch, corrupted: Batch) -> np.ndarray:
            runs = runs_of(self.task, clean, corrupted)
            return exact_effects(model, *runs, value_of(self.task, clean), among=among)[:, among].cpu().double().numpy()

        key = ("exact effects of some edges", hashlib.sha256(np.packbits(among).tobytes()).hexdigest())
        return self.task.of_each_pair(key, self.corruption, measure, n)

    def _of_scores(self, take: Callable[[int], Grid], methods: Sequence[str]) -> Measurement[Grid]:
        task = self.task
        measured = Measurement(take, task.prepend_bos, task.limit).presupposing(task.baseline(self.corruption))
        return at_most(measured, min(self._prompts(method, SCORED_ON) for method in methods))

    def _grid(
        self, values: Float[np.ndarray, "prompt row edge"], rows: Sequence[str], numbers: Int[np.ndarray, " edge"]
    ) -> Grid:
        """Scores of some edges, by their numbers; drawn are those that the first row scores highest."""
        task, n = self.task, len(values)
        quantity, unit = f"scores of edges{task.under}", task.metric.unit
        means = values.mean(0)
        best = np.argsort(-np.abs(means[0]), kind="stable")[:SHOWN]
        drawn = {
            "kind": "heatmap",
            "title": f"{quantity}: the {len(best)} largest by {rows[0]}",
            "rows": [str(self.graph[int(numbers[i])]) for i in best],
            "columns": list(rows),
            "row_axis": "edge",
            "column_axis": "method",
            "unit": unit,
            "values": means[:, best].T.tolist(),
            "marks": [],
        }
        return Grid(
            values=values,
            quantity=quantity,
            unit=unit,
            clusters=clusters_of(task.prompts(n)),
            row_axis="method",
            row_labels=rows,
            column_axis="edge",
            exact=0 < len(task.fixed) <= n,
            drawn=drawn,
        )

    def _prompts(self, method: str, usual: int) -> int:
        """On how many prompts a method's scores are taken."""
        return FEW if self.large and method in ("EAP-IG activations", "exact") else usual

    def _named(self, what: str) -> str:
        return f"{what} ({self.corruption}){self.task.under}"


#: The kinds of receivers, as rows name them.
_KINDS = {"q": "queries", "k": "keys", "v": "values", "MLP": "MLPs", "logits": "the logits"}


def at_most(measurement: Measurement[T], n: int) -> Measurement[T]:
    """The same on at most n prompts."""
    limit = n if measurement.limit is None else min(n, measurement.limit)
    return replace(measurement, limit=limit)


def _between_two(difference: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Statistic:
    """A number that follows from the faithfulness of the circuits in two rows."""
    return lambda means: difference(*(faithfulness_of(means[..., row : row + 1, :]) for row in (0, 1)))


def _correlation(means: Float[np.ndarray, "*resample row edge"], row: int) -> Float[np.ndarray, "*resample"]:
    """Pearson's coefficient of a row with the first one."""
    return pearson(means[..., :1, :], means[..., row : row + 1, :])
