"""Circuits as objects: sets of nodes that are kept while all other heads are knocked out, and what the claims on them need.

Source: Wang et al. 2022, section 4. F is the mean of the metric, M the model, C the circuit: faithfulness compares F(C) with
F(M); completeness F(C \\ K) with F(M \\ K) for subsets K of C; minimality F(C \\ (K ∪ {v})) with F(C \\ K) for every node v.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from circuit_claims.heads import Head
from circuit_claims.measure import ties
from circuit_claims.measure.measurement import Measurement, combined, side_by_side
from circuit_claims.measure.samples import GridStatistic
from circuit_claims.tasks.operations.ablation import ABLATIONS, Ablation
from circuit_claims.tasks.operations.intervention import Intervention, share_of_metric
from circuit_claims.tasks.operations.knockouts import KnockedOut, Node, knocked_out_values
from circuit_claims.tasks.operations.reference_means import REFERENCE_SIZE
from circuit_claims.tasks.task import Task
from circuit_claims.untested import Untested


@dataclass(frozen=True, repr=False)
class Circuits(Task):
    """Knock-outs of heads, MLPs and nodes, and circuits.

    The population says which prompts are of one form, for means and resampling: see `reference_means`.
    """

    #: Reference prompts of each form that a mean is taken over, unless an operation says otherwise.
    reference_size: ClassVar[int] = REFERENCE_SIZE

    def ablate(self, heads: Sequence[Head], *, by: Ablation = "mean", at: str | None = None) -> KnockedOut:
        """Knock heads out, together: by the mean over corrupted prompts of the same form, by zero, or by the corrupted prompt.

        at: the role at whose position; None for all positions.
        """
        return KnockedOut(self, frozenset((head, at) for head in heads), by=by, reference_size=self.reference_size)

    def ablate_mlps(self, layers: Sequence[int], *, by: Ablation = "mean") -> KnockedOut:
        """Knock MLPs out at all positions, together."""
        return KnockedOut(self, mlps=tuple(layers), by=by, reference_size=self.reference_size)

    def without(
        self, nodes: Iterable[Node], *, by: Ablation = "mean", reference_size: int | None = None, called: str = ""
    ) -> KnockedOut:
        """M \\ K: the model with these nodes, each a head at a role's position, knocked out."""
        size = reference_size or self.reference_size
        return KnockedOut(self, removed=frozenset(nodes), by=by, reference_size=size, called=called)

    def circuit(
        self,
        nodes: Iterable[Node],
        *,
        mlps: Iterable[int] | None = None,
        by: Ablation = "mean",
        everywhere: bool = False,
        reference_size: int | None = None,
        called: str = "the circuit",
    ) -> "Circuit":
        """The circuit of these nodes; everywhere: its heads are kept at all positions, not at their own alone.

        mlps: the layers whose MLPs are kept, the others being knocked out; None keeps all of them, as the IOI paper does.
        """
        kept = frozenset((head, None) for head, _ in nodes) if everywhere else frozenset(nodes)
        called += ", heads at all positions" if everywhere else ""
        size = reference_size or self.reference_size
        return Circuit(self, kept, by, size, called, None if mlps is None else frozenset(mlps))

    def random_nodes_like(self, nodes: Iterable[Node]) -> frozenset[Node]:
        """As many other heads at the same positions, drawn by the task's seed.

        Raises Untested where the model has too few other heads.
        """
        nodes = sorted(nodes, key=str)
        random = np.random.default_rng([self.seed, 4])
        taken, drawn = {head for head, _ in nodes}, set()
        for _, role in nodes:
            free = [head for head in self.all_heads if head not in taken and (head, role) not in drawn]
            if not free:
                raise Untested(
                    f"nearly all heads of {self.subject.name} are in the circuit: there are no others to compare with"
                )
            drawn.add((free[random.integers(len(free))], role))
        return frozenset(drawn)

    def ablation_spread(self, nodes: Iterable[Node]) -> Measurement:
        """The largest minus the smallest faithfulness of a circuit over the kinds of ablation."""
        circuits = [self.circuit(nodes, by=by).value() for by in ABLATIONS]
        grid = side_by_side(circuits, ABLATIONS, "faithfulness by kind of ablation", "share", whole=self.baseline())
        return grid.of(
            lambda means: np.ptp(means[..., 0, :], axis=-1), "spread of faithfulness over kinds of ablation", "share"
        )


@dataclass(frozen=True)
class Circuit(Intervention):
    """Nodes that are kept; by what the others are replaced, and over how many reference prompts a mean is taken.

    mlps: the layers whose MLPs are kept; None for all. Its change is F(M) − F(C); `faithfulness` is the literature's word for
    what remains.
    """

    task: Circuits
    nodes: frozenset[Node]
    by: Ablation
    reference_size: int
    called: str
    mlps: frozenset[int] | None = None

    def setting(self, removed: Iterable[Node] = ()) -> KnockedOut:
        """C \\ K as a knock-out."""
        removed = frozenset(removed)
        called = self.called if not removed else f"{self.called} without {_listed(removed)}"
        size = self.reference_size
        layers = range(self.task.subject.transformer.n_layers)
        mlps = () if self.mlps is None else tuple(layer for layer in layers if layer not in self.mlps)
        return KnockedOut(self.task, removed, self.nodes, mlps, self.by, size, f"of {called}")

    @property
    def name(self) -> str:
        """What was done, in words."""
        return self.setting().name

    @property
    def how(self) -> str:
        """What was done, in words."""
        return self.name

    def without(self, removed: Iterable[Node]) -> KnockedOut:
        """C \\ K."""
        return self.setting(removed)

    def _model_without(self, task: Circuits, removed: Iterable[Node]) -> KnockedOut:
        """M \\ K, knocked out as the circuit's other nodes are."""
        return task.without(removed, by=self.by, reference_size=self.reference_size)

    def value(self) -> Measurement:
        """F(C): the metric of the circuit alone."""
        return self.setting().value()

    def faithfulness(self) -> Measurement:
        """F(C) / F(M), each averaged over prompts first; its distribution over prompts is drawn beside it."""
        quantity = f"faithfulness {self.name}: F(C) / F(M){self.task.under}"
        return self.value().share_of(self.task.baseline(), quantity).with_distribution()

    def mean_of_ratios(self) -> Measurement:
        """The mean over prompts of each prompt's own ratio of circuit to model."""
        quantity = f"mean of the prompts' own ratios {self.name}{self.task.under}"
        ratios = self.value().share_by_prompt_of(self.task.baseline(), quantity)
        return ratios.presupposing(self.task.competence()).with_distribution()

    def ratio_bias(self) -> Measurement:
        """By how much the mean of the prompts' own ratios exceeds the ratio of the means (Miller et al. 2024)."""
        columns = [self.value(), self.task.baseline(), self.mean_of_ratios()]
        grid = side_by_side(
            columns,
            ["circuit", "model", "mean of ratios"],
            "means behind the two faithfulnesses",
            "",
            presupposes=self.task.competence(),
        )
        return grid.of(
            lambda means: means[..., 0, 2] - means[..., 0, 0] / means[..., 0, 1], "mean of ratios minus ratio of means", "share"
        )

    def gap(self) -> Measurement:
        """F(M) − F(C)."""
        return self.incompleteness(())

    def incompleteness(self, removed: Iterable[Node], called: str = "") -> Measurement:
        """F(M \\ K) − F(C \\ K), with K taken out of both; for an empty K, the gap of faithfulness."""
        removed = frozenset(removed)
        name = called or (_listed(removed) if removed else "")
        of = f"F(M \\ K) − F(C \\ K) {self.name}, K = {name}" if removed else f"F(M) − F(C) {self.name}"
        model = self._model_without(self.task, removed).value() if removed else self.task.baseline()
        gap = model.minus(self.without(removed).value(), of + self.task.under, self.task.metric.unit)
        return gap.presupposing(self.task.competence())

    def lead_over(self, other: "Circuit | KnockedOut") -> Measurement:
        """F(C) of this circuit minus that of another, or of a circuit without some of its nodes, as a share of F(M)."""
        quantity = f"F(C) {self.name} minus {other.name}"
        lead = self.value().minus(other.value(), quantity, self.task.metric.unit)
        return lead.share_of(self.task.baseline(), quantity + self.task.under, share_of_metric(self.task))

    def incompleteness_size(self, removed: Iterable[Node], called: str = "") -> Measurement:
        """|F(M \\ K) − F(C \\ K)|: the size of the mean difference, whatever its sign."""
        gap, named = self.incompleteness(removed, called), called or _listed(removed)
        title, whole = f"incompleteness without {named}", self.task.competence()
        grid = side_by_side([gap], ["F(M \\ K) − F(C \\ K)"], title, self.task.metric.unit, presupposes=whole)
        return grid.of(lambda means: np.abs(means[..., 0, 0]), f"size of the {title}", self.task.metric.unit)

    def contribution(self, node: Node, companions: Iterable[Node], *, sign: int = 1) -> Measurement:
        """What a node adds once its companions K are gone: F(C \\ K) − F(C \\ (K ∪ {v})), as a share of F(M).

        sign: −1 turns it round, for nodes that are said to take away.
        """
        companions = frozenset(companions) - {node}
        what = "gain" if sign > 0 else "loss"
        quantity = (
            f"{what} by {node[0]} at {node[1]} in {self.called} without {_listed(companions) if companions else 'nothing'}"
        )
        terms = [self.without(companions).value(), self.without(companions | {node}).value()]
        change = combined(terms, lambda with_it, without_it: sign * (with_it - without_it), quantity, self.task.metric.unit)
        return change.share_of(self.task.baseline(), quantity + self.task.under, share_of_metric(self.task))

    def greedy_incompleteness(self) -> Measurement:
        """|F(M \\ K) − F(C \\ K)| for the set K that the greedy search finds on other prompts."""

        def take(n: int) -> GridStatistic:
            subset = self.greedy_subset()
            return self.incompleteness_size(subset, called=f"the greedy set {_listed(subset)}").take(n)

        return replace(self.gap(), take=take)

    def greedy_lead_over_random(self, count: int = 8) -> Measurement:
        """By how much the greedy set's incompleteness exceeds the mean of random sets'."""

        def take(n: int) -> GridStatistic:
            subsets = [self.greedy_subset(), *self.random_subsets(count, self.task.seed)]
            gaps = [self.incompleteness(subset, called=f"set {i}") for i, subset in enumerate(subsets)]
            labels = ["greedy", *(f"random {i}" for i in range(1, count + 1))]
            grid = side_by_side(
                gaps,
                labels,
                "F(M \\ K) − F(C \\ K) for a greedy and for random sets K",
                self.task.metric.unit,
                presupposes=self.task.competence(),
            )

            def lead(means: np.ndarray) -> np.ndarray:
                sizes = np.abs(means[..., 0, :])
                return sizes[..., 0] - sizes[..., 1:].mean(-1)

            return grid.of(lead, "incompleteness of the greedy set over the mean random one", self.task.metric.unit).take(n)

        return replace(self.gap(), take=take)

    def greedy_subset(self, *, steps: int = 8, candidates: int = 6, prompts: int = 30) -> frozenset[Node]:
        """A subset K of the circuit on which completeness fails worst, found greedily on the discovery half of the prompts.

        Source: Wang et al. 2022, section 4.2 and algorithm 3: from the empty set, `steps` times, of `candidates` random nodes
        that one joins K which raises |F(M \\ K) − F(C \\ K)| most; the best set on the way is kept. Of candidates that
        differ by rounding alone, such as two nodes that write nothing, the first in the order of nodes joins.
        """
        population: Any = self.task.population  # a dataclass with halves
        task = replace(self.task, population=replace(population, half="discovery"))
        place = (
            "greedy",
            self.nodes,
            self.by,
            self.reference_size,
            self.mlps,
            task.population,
            task.metric,
            task.change,
            task.prepend_bos,
            steps,
            candidates,
            prompts,
        )
        return task.store.get(place, lambda: self._search(task, steps, candidates, prompts))

    def _search(self, task: Circuits, steps: int, candidates: int, prompts: int) -> frozenset[Node]:
        random = np.random.default_rng([task.seed, 3])
        chosen: frozenset[Node] = frozenset()
        best, best_gap = chosen, 0.0
        batches = task.batches(task.prompts(prompts))
        here = replace(self, task=task)
        for _ in range(steps):
            left = sorted(self.nodes - chosen, key=str)
            if not left:
                break
            drawn = sorted(random.choice(len(left), min(candidates, len(left)), replace=False))
            tried = [chosen | {left[i]} for i in drawn]
            settings = [s for K in tried for s in (self._model_without(task, K), here.without(K))]
            values = np.concatenate([knocked_out_values(task, batch, settings) for batch in batches], axis=1).mean(1)
            gaps = np.abs(values[0::2] - values[1::2])
            # Gaps are differences of metrics, and as uncertain as these are.
            tolerance = ties.rounding(values)
            first = int(ties.first_highest(gaps, tolerance))
            chosen = tried[first]
            if gaps[first] > best_gap + float(tolerance[0]):
                best, best_gap = chosen, float(gaps[first])
        return best

    def random_subsets(self, count: int, seed: int) -> list[frozenset[Node]]:
        """Random subsets K, each node in with probability one half (Wang et al. 2022, section 4.2)."""
        random = np.random.default_rng(seed)
        nodes = sorted(self.nodes, key=str)
        return [
            frozenset(n for n, inside in zip(nodes, random.random(len(nodes)) < 0.5, strict=True) if inside)
            for _ in range(count)
        ]


def _listed(nodes: Iterable[Node]) -> str:
    return ", ".join(str(head) for head, _ in sorted(nodes, key=str))
