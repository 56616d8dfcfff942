"""How faithful circuits of growing size are, and MIB's two areas under that curve (Mueller et al. 2025, section 3).

Faithfulness of a circuit is (circuit − corrupted) / (clean − corrupted) of the metric, each averaged over prompts first.
Circuits of ten sizes are found by one method's scores. CPR, the circuit performance ratio, is the area under their
faithfulness, and higher is better; CMD, the circuit-model distance, is the area between it and 1, and lower is better. Both
are trapezoids over the ten shares of edges, .001 to 1, as in MIB's own code, so that the faithfulness of the whole model
everywhere gives .999.

For one family of circuits CMD ≥ |.999 − CPR|, with equality where faithfulness does not cross 1: the area of a difference's
size is no less than the size of its area. Published pairs that break this are not of one family.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from circuit_claims.edges.circuit import values_of_sets
from circuit_claims.edges.errors import EdgeError
from circuit_claims.edges.graph import EdgeGraph
from circuit_claims.edges.pairs import check_whole, corruption_of
from circuit_claims.edges.scores import EdgeScores
from circuit_claims.edges.search import Order, Search, found_edges
from circuit_claims.edges.written import Ablation
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Grid, GridStatistic
from circuit_claims.tasks.measuring import clusters_of
from circuit_claims.tasks.task import Task

#: The sizes, as shares of all edges.
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

#: The circuits' metric, then the clean and the corrupted model's: means over prompts.
Means = Float[np.ndarray, "*resample 1 circuit_and_two"]


def area(heights: Float[np.ndarray, "*n share"]) -> Float[np.ndarray, "*n"]:
    """The area under heights at the ten shares, by trapezoids."""
    return (np.diff(SHARES) * (heights[..., 1:] + heights[..., :-1]) / 2).sum(-1)


#: The area of a model that is faithful at every size.
WHOLE_AREA = float(area(np.ones(len(SHARES))))


def faithfulness_of(means: Means) -> Float[np.ndarray, "*resample circuit"]:
    """Of each circuit, from the means of the metric."""
    flat = means[..., 0, :]
    clean, corrupted = flat[..., -2:-1], flat[..., -1:]
    with np.errstate(divide="ignore", invalid="ignore"):  # of a resample in which there is no whole
        return (flat[..., :-2] - corrupted) / (clean - corrupted)


def cpr_of(faithfulness: Float[np.ndarray, "*n share"]) -> Float[np.ndarray, "*n"]:
    """The circuit performance ratio: the area under faithfulness at the ten shares."""
    return area(faithfulness)


def cmd_of(faithfulness: Float[np.ndarray, "*n share"]) -> Float[np.ndarray, "*n"]:
    """The circuit-model distance: the area between faithfulness at the ten shares and 1."""
    return area(np.abs(1 - faithfulness))


def sparsity_of(faithfulness: Float[np.ndarray, "*n share"], least: float) -> Float[np.ndarray, "*n"]:
    """The share of edges that the smallest of the ten circuits does without that is at least so faithful; 0 where none is."""
    enough = faithfulness >= least
    first = np.where(enough.any(-1), enough.argmax(-1), len(SHARES) - 1)
    return 1 - np.array(SHARES)[first]


@dataclass(frozen=True)
class EdgeCurve:
    """Circuits of the ten sizes by one method's scores, on a task.

    order: by value for circuits that do the task best (CPR), by size for those that do as the model does (CMD). search,
    prune: as for `circuit_claims.edges.search.found_edges`. by: what stands in for senders over edges that are left out.

    Raises EdgeError where the scores are of another model, and for a task without corrupted prompts.
    """

    task: Task
    scores: EdgeScores = field(repr=False)
    order: Order = "size"
    search: Search = "greedy"
    prune: bool = True
    by: Ablation = "resample"
    corruption: str | None = None

    def __post_init__(self) -> None:
        corruption_of(self.task, self.corruption)
        graph = EdgeGraph.of(self.task.subject.transformer)
        if graph != self.scores.graph:
            raise EdgeError(
                f"these are scores of a model of {self.scores.graph}, and {self.task.subject.name} has {graph}: "
                "score the edges of this model"
            )

    @cached_property
    def sizes(self) -> Int[np.ndarray, " share"]:
        """How many edges each circuit is found with; pruning leaves fewer."""
        return np.array([int(share * len(self.scores.graph)) for share in SHARES])

    @cached_property
    def masks(self) -> Bool[np.ndarray, "share edge"]:
        """The circuits."""
        options = {"search": self.search, "order": self.order, "prune": self.prune}
        mean = self.scores.mean
        return np.stack([found_edges(self.scores.graph, mean, int(size), **options) for size in self.sizes])

    def metric(self) -> Measurement[Grid]:
        """The metric of the ten circuits, of the clean and of the corrupted model, prompt by prompt: a grid of one row.

        It presupposes a model that does the task, and a corruption that costs something.
        """
        task, graph = self.task, self.scores.graph
        corruption = corruption_of(task, self.corruption)
        masks = np.concatenate([self.masks, [graph.all_edges(), graph.no_edges()]])

        def take(n: int) -> Grid:
            values = values_of_sets(task, masks, n, by=self.by, corruption=corruption)
            return Grid(
                values=values[:, None, :],
                quantity=f"{task.metric.name} of circuits by {self.scores.method}{task.under}",
                unit=task.metric.unit,
                clusters=clusters_of(task.prompts(n)),
                row_axis="",
                row_labels=[""],
                column_axis="share of edges",
                column_labels=[*(f"{share:g}" for share in SHARES), "clean", "nothing kept"],
                exact=0 < len(task.fixed) <= n,
            )

        return Measurement(take, task.prepend_bos, task.limit).presupposing(task.baseline(corruption))

    def cpr(self) -> Measurement[GridStatistic]:
        """The area under faithfulness."""
        return self.metric().of(lambda means: cpr_of(faithfulness_of(means)), self._called("CPR"), "area")

    def cmd(self) -> Measurement[GridStatistic]:
        """The area between faithfulness and 1."""
        return self.metric().of(lambda means: cmd_of(faithfulness_of(means)), self._called("CMD"), "area")

    def faithfulness_at(self, share: float) -> Measurement[GridStatistic]:
        """The faithfulness of one of the ten circuits.

        Raises EdgeError for a share that is none of the ten.
        """
        if share not in SHARES:
            ten = ", ".join(f"{one:g}" for one in SHARES)
            raise EdgeError(f"circuits are found at ten shares of all edges, and {share:g} is none of them: use one of {ten}")
        place = SHARES.index(share)
        quantity = self._called(f"faithfulness with {share:.1%} of all edges")
        return self.metric().of(lambda means: faithfulness_of(means)[..., place], quantity, "share")

    def sparsity_at(self, faithfulness: float) -> Measurement[GridStatistic]:
        """The share of all edges that the smallest circuit leaves out that is at least so faithful; 0 where none is."""
        quantity = self._called(f"sparsity at a faithfulness of {faithfulness:g}")
        return self.metric().of(lambda means: sparsity_of(faithfulness_of(means), faithfulness), quantity, "share")

    def measured(self, n: int) -> Grid:
        """`metric()` on n prompts, refused where there is no whole: for whoever takes shares without a verdict.

        Raises EdgeError where the model does not do the task, or the corruption costs it nothing.
        """
        check_whole(self.task, n, self.corruption)
        return self.metric().take(n)

    def _called(self, what: str) -> str:
        return f"{what}, circuits by {self.scores.method} ({self.search}, by {self.order}){self.task.under}"
