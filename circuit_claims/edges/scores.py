"""Scores of all edges of a model on a task's pairs, by one of several methods.

    scores = edge_scores(ioi, "EAP-IG inputs", n=60)
    scores.mean                                   # one number an edge, in the graph's order
    scores.of("L2H1 -> L3H0.q").mean_interval()   # with an interval over templates
    scores.to_frame(20)

All scores but the baselines are effects on the task's metric, in its unit, prompt by prompt: what noising the edge costs, the
clean metric minus the one with the edge noised, or an estimate of that. Positive edges help, negative ones hinder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from jaxtyping import Float
from torch import Tensor

from circuit_claims.edges import baselines
from circuit_claims.edges.attribution import STEPS, eap, eap_ig_activations, eap_ig_inputs
from circuit_claims.edges.edge import Edge
from circuit_claims.edges.errors import EdgeError
from circuit_claims.edges.exact import exact_effects
from circuit_claims.edges.graph import EdgeGraph
from circuit_claims.edges.pairs import corruption_of, runs_of, value_of
from circuit_claims.edges.saturation import atp_qk_fix
from circuit_claims.engine.unsupported import NoGradients
from circuit_claims.measure.samples import Samples
from circuit_claims.prompts.batch import Batch
from circuit_claims.tasks.measuring import clusters_of
from circuit_claims.tasks.task import Task

if TYPE_CHECKING:
    from pandas import DataFrame

Method = Literal["exact", "EAP", "EAP-IG inputs", "EAP-IG activations", "AtP QK fix", "random", "layer distance"]
METHODS: tuple[Method, ...] = get_args(Method)
#: What needs no gradients, and so remains on an engine that has none.
WITHOUT_GRADIENTS: tuple[Method, ...] = ("exact", "random", "layer distance")
#: What knows no prompts.
BASELINES: tuple[Method, ...] = ("random", "layer distance")
#: On how many prompts edges are scored unless told.
DEFAULT_PROMPTS = 24


@dataclass(frozen=True)
class EdgeScores:
    """Scores of all edges of a graph.

    values: `[prompt, edge]`, in the graph's order; of baselines, which know no prompts, one row. clusters: of each prompt, as
    for intervals. corruption: by which edges are noised ("" for baselines).
    """

    graph: EdgeGraph
    method: str
    values: Float[np.ndarray, "prompt edge"] = field(repr=False)
    unit: str
    clusters: Sequence[Any] = field(repr=False)
    corruption: str = ""

    def __post_init__(self) -> None:
        self.graph.checked(self.values)
        if not np.isfinite(self.values).all():
            raise FloatingPointError(f"scores of edges by {self.method} are NaN or infinite on some prompts")

    @property
    def n(self) -> int:
        """The number of prompts, 1 for what knows none."""
        return len(self.values)

    @property
    def mean(self) -> Float[np.ndarray, " edge"]:
        """The mean over prompts."""
        return self.values.mean(0, dtype=np.float64)

    def of(self, edge: Edge | str) -> Samples:
        """One edge's score prompt by prompt, with intervals over templates.

        Raises EdgeError where the model has no such edge.
        """
        index = self.graph.index(Edge.parse(edge) if isinstance(edge, str) else edge)
        return Samples(self.values[:, index].astype(float), f"{self.method} of {self.graph[index]}", self.unit, self.clusters)

    def among(self, prompts: Sequence[int]) -> "EdgeScores":
        """The same of some of the prompts, by their numbers; what knows none stays as it is."""
        if self.method in BASELINES:
            return self
        rows = list(prompts)
        clusters = [self.clusters[row] for row in rows]
        return EdgeScores(self.graph, self.method, self.values[rows], self.unit, clusters, self.corruption)

    def to_frame(self, n: int | None = None) -> "DataFrame":
        """A pandas frame of one row an edge, the largest scores in size first: sender, receiver, kind, score.

        n: how many of them; all unless given.
        """
        import pandas

        mean = self.mean
        order = np.argsort(-np.abs(mean), kind="stable")[:n]
        edges = [self.graph[int(i)] for i in order]
        columns = {
            "sender": [str(edge.sender) for edge in edges],
            "receiver": [str(edge.receiver) for edge in edges],
            "kind": [edge.kind for edge in edges],
            "score": mean[order],
        }
        frame = pandas.DataFrame(columns)
        frame.attrs.update(method=self.method, unit=self.unit, corruption=self.corruption)
        return frame


def edge_scores(
    task: Task,
    method: Method = "EAP-IG inputs",
    *,
    n: int = DEFAULT_PROMPTS,
    corruption: str | None = None,
    steps: int = STEPS,
    seed: int | None = None,
    memory: int | None = None,
) -> EdgeScores:
    """Score all edges of the task's subject on its first n prompts.

    corruption: by which edges are noised; the task's own for noising unless given. steps: of integrated gradients. seed: of
    random scores; the task's unless given. memory: bytes that may be taken (the engine's own cap unless given): a prompt takes
    about `2 × senders × positions × d_model` numbers by any method, and prompts are split to stay below.

    Raises EdgeError for an unknown method, a task without corrupted prompts, and a metric without a gradient; NoGradients where
    the engine has none, and Unsupported where heads' outputs do not add up, with what remains.
    """
    if method not in METHODS:
        raise EdgeError(f"unknown method {method!r} of scoring edges: use one of {', '.join(METHODS)}")
    if steps < 1:
        raise EdgeError(f"integrated gradients take at least one step, and not {steps}: take {STEPS}, as the papers do")
    model = task.subject.transformer
    graph = EdgeGraph.of(model)
    if method in BASELINES:
        found = baselines.layer_distance(graph)
        if method == "random":
            found = baselines.random_scores(graph, task.seed if seed is None else seed)
        return EdgeScores(graph, method, found[None], "score", [0])
    corruption = corruption_of(task, corruption)

    def measure(clean: Batch, corrupted: Batch) -> np.ndarray:
        runs, value = runs_of(task, clean, corrupted), value_of(task, clean)
        found: Tensor
        if method == "exact":
            found = exact_effects(model, *runs, value, memory=memory)
        elif method == "EAP":
            found = eap(model, *runs, value, memory=memory)
        elif method == "AtP QK fix":
            found = atp_qk_fix(model, *runs, value, memory=memory)
        else:
            integrated = eap_ig_inputs if method == "EAP-IG inputs" else eap_ig_activations
            found = integrated(model, *runs, value, steps=steps, memory=memory)
        return found.cpu().float().numpy() if found.dtype != found.double().dtype else found.cpu().numpy()

    key = ("edge scores", method, *([steps] if "IG" in method else []))
    try:
        values = task.of_each_pair(key, corruption, measure, n)
    except NoGradients as error:
        raise NoGradients(
            f"{error}: of {task.subject.name}, edges are scored without them, by {', '.join(WITHOUT_GRADIENTS)}"
        ) from error
    return EdgeScores(graph, method, values, task.metric.unit, clusters_of(task.prompts(n)), corruption)
