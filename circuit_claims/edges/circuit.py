"""Circuits of edges on a task: what the metric is where all other edges are left out, in the words of the suite.

circuit = EdgeCircuit.of(ioi, ["embed -> L0H1.v", "L0H1 -> logits"], by="resample")
circuit.value()           # the metric of the circuit
circuit.faithfulness()    # (circuit − corrupted) / (clean − corrupted)
circuit.change(), circuit.remaining()
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float

from circuit_claims.edges.edge import Edge
from circuit_claims.edges.errors import EdgeError
from circuit_claims.edges.evaluate import evaluate
from circuit_claims.edges.graph import EdgeGraph, EdgeMask
from circuit_claims.edges.pairs import corruption_of, runs_of, stand_in_of, value_of
from circuit_claims.edges.written import Ablation
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Samples
from circuit_claims.prompts.batch import Batch
from circuit_claims.tasks.measuring import clusters_of
from circuit_claims.tasks.operations.intervention import Intervention
from circuit_claims.tasks.operations.reference_means import REFERENCE_SIZE
from circuit_claims.tasks.task import Task


def values_of_sets(
    task: Task,
    masks: Bool[np.ndarray, "set edge"],
    n: int,
    *,
    by: Ablation = "resample",
    corruption: str | None = None,
    reference_size: int = REFERENCE_SIZE,
    memory: int | None = None,
) -> Float[np.ndarray, "prompt set"]:
    """The metric of the first n prompts with each of several sets of edges, and all others left out.

    by: what stands in for senders whose edges are left out (`circuit_claims.edges.pairs.stand_in_of`), means over
    `reference_size` prompts. Kept for the session. memory: as for `circuit_claims.edges.evaluate.evaluate`.

    Raises EdgeError for sets of another model's edges, an unknown stand-in, and a task without corrupted prompts.
    """
    corruption = corruption_of(task, corruption)
    model = task.subject.transformer
    EdgeGraph.of(model).checked(masks)
    if by not in ("resample", "mean"):
        raise EdgeError(f"unknown stand-in {by!r} for edges that are left out: use resample or mean")

    def measure(clean: Batch, corrupted: Batch) -> np.ndarray:
        run, _ = runs_of(task, clean, corrupted)
        ends = evaluate(model, run, stand_in_of(task, clean, corrupted, by, reference_size), masks, memory=memory)
        return torch.as_tensor(value_of(task, clean)(slice(None))(ends)).double().cpu().numpy().T

    digest = hashlib.sha256(np.packbits(masks).tobytes()).hexdigest()
    key = ("sets of edges", digest, masks.shape, by, reference_size if by == "mean" else 0)
    return task.of_each_pair(key, corruption, measure, n)


@dataclass(frozen=True)
class EdgeCircuit(Intervention):
    """A set of edges on a task, with all others left out.

    mask: the edges that are kept, in the order of the model's graph. by: what stands in for senders over the others;
    corruption: of the prompts that it is taken from; called: the circuit's name in rows.
    """

    mask: EdgeMask = field(repr=False)
    by: Ablation = "resample"
    corruption: str = ""
    reference_size: int = REFERENCE_SIZE
    called: str = ""

    @classmethod
    def of(
        cls,
        task: Task,
        edges: EdgeMask | Iterable[Edge | str],
        *,
        by: Ablation = "resample",
        corruption: str | None = None,
        reference_size: int = REFERENCE_SIZE,
        called: str = "",
    ) -> "EdgeCircuit":
        """The circuit of these edges, a mask or a list.

        Raises EdgeError for edges that the task's subject has not, and a task without corrupted prompts.
        """
        corruption = corruption_of(task, corruption)
        graph = EdgeGraph.of(task.subject.transformer)
        mask = graph.checked(edges) if isinstance(edges, np.ndarray) else graph.mask(edges)
        return cls(task, mask, by, corruption, reference_size, called)

    @property
    def graph(self) -> EdgeGraph:
        """The graph of the model that it is a circuit of."""
        return EdgeGraph.of(self.task.subject.transformer)

    @property
    def edges(self) -> list[Edge]:
        """Its edges, in order."""
        return self.graph.edges(self.mask)

    def value(self) -> Measurement[Samples]:
        """The metric of the circuit, of a model that does the task."""
        task = self.task

        def take(n: int) -> Samples:
            options = {"by": self.by, "corruption": self.corruption, "reference_size": self.reference_size}
            values = values_of_sets(task, self.mask[None], n, **options)[:, 0]
            prompts = task.prompts(n)
            return Samples(
                values=values,
                quantity=self.quantity(task.metric.name),
                unit=task.metric.unit,
                clusters=clusters_of(prompts),
                prompts=prompts,
                population=task.about,
                exact=0 < len(task.fixed) <= n,
            )

        return Measurement(take, task.prepend_bos, task.limit).presupposing(task.competence())

    def faithfulness(self) -> Measurement[Samples]:
        """(circuit − corrupted) / (clean − corrupted) of the metric, each averaged over prompts first (Hanna et al. 2024; MIB).

        1 for a circuit that does as well as the model, 0 for one that does as badly as the model on corrupted prompts.
        """
        task = self.task
        whole = task.baseline(self.corruption)
        lost = task.baseline().minus(self.value(), self.quantity("loss"), task.metric.unit)
        kept = whole.minus(lost, self.quantity(f"{task.metric.name} kept"), task.metric.unit).presupposing(task.competence())
        return kept.share_of(whole, self.quantity("faithfulness"), "share").with_distribution()

    @property
    def how(self) -> str:
        """What is done, in words."""
        many = int(self.mask.sum())
        what = self.called or ("one edge" if many == 1 else f"{many:,} edges")
        return f"of {what} alone ({self.by} ablation of all others, {self.corruption})"
