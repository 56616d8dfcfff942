"""A found circuit of edges with what is known of it: its edges with intervals, its faithfulness, where it comes from."""

import csv
import io
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from circuit_claims.circuit_command.drawing import drawn
from circuit_claims.edges.circuit import EdgeCircuit
from circuit_claims.edges.edge import Edge
from circuit_claims.edges.pairs import check_whole
from circuit_claims.edges.scores import EdgeScores, Method, edge_scores
from circuit_claims.edges.search import Order, Search, found_edges
from circuit_claims.edges.written import Ablation
from circuit_claims.tasks.task import Task

#: Columns of the list of edges.
COLUMNS: tuple[str, ...] = ("sender", "receiver", "kind", "score", "low", "high")


@dataclass(frozen=True)
class FoundCircuit:
    """A circuit and its scores, on a task. asked: for how many edges; n: on how many prompts."""

    task: Task
    scores: EdgeScores
    circuit: EdgeCircuit
    asked: int
    n: int
    search: Search
    order: Order

    @property
    def edges(self) -> list[Edge]:
        """The edges, the largest scores in size first."""
        mean = self.scores.mean
        return [self.scores.graph[int(i)] for i in self._ranked(mean)]

    def _ranked(self, mean: np.ndarray) -> np.ndarray:
        kept = np.flatnonzero(self.circuit.mask)
        return kept[np.argsort(-np.abs(mean[kept]), kind="stable")]

    def rows(self) -> list[dict[str, Any]]:
        """One row an edge: its ends, its kind, its score with the interval over templates."""
        mean, rows = self.scores.mean, []
        for i in self._ranked(mean):
            edge = self.scores.graph[int(i)]
            low, high = self.scores.of(edge).mean_interval() if self.scores.n > 1 else (None, None)
            ends = {"sender": str(edge.sender), "receiver": str(edge.receiver), "kind": edge.kind}
            rows.append({**ends, "score": float(mean[i]), "low": low, "high": high})
        return rows

    @property
    def sentence(self) -> str:
        """The main result."""
        found = self.circuit.faithfulness().take(self.n)
        low, high = found.mean_interval()
        kept, there = int(self.circuit.mask.sum()), len(self.scores.graph)
        pruned = self.asked - kept
        less = f", {pruned:,} of {self.asked:,} being pruned since nothing reaches them," if pruned else ""
        return (
            f"{kept:,} of {there:,} edges of {self.task.subject.name} ({kept / there:.1%}) by {self.scores.method}{less} have "
            f"a faithfulness of {found.estimate:.3g} [{low:.3g}, {high:.3g}] on {self.n} prompts"
        )

    def csv(self) -> str:
        """The edges as a table."""
        file = io.StringIO()
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows())
        return file.getvalue()

    def to_json(self, command: str | None = None) -> dict[str, Any]:
        """Circuit and provenance; command: the command line, where there was one."""
        found = self.circuit.faithfulness().take(self.n)
        low, high = found.mean_interval()
        return {
            "circuit": self.sentence,
            "task": type(self.task).__name__,
            "population": self.task.about,
            "corruption": self.circuit.corruption,
            "method": self.scores.method,
            "search": self.search,
            "order": self.order,
            "stand_in": self.circuit.by,
            "n_prompts": self.n,
            "n_edges": int(self.circuit.mask.sum()),
            "all_edges": len(self.scores.graph),
            "faithfulness": {"estimate": found.estimate, "low": low, "high": high},
            "unit": self.scores.unit,
            "edges": self.rows(),
            "provenance": {
                "command": command or "a call of the library",
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "seed": self.task.seed,
                "prepend_bos": self.task.prepend_bos,
                **self.task.subject.facts(),
            },
        }

    def svg(self) -> str:
        """The circuit drawn by layers."""
        mean = self.scores.mean
        families = {family.name: family.heads for family in self.task.subject.card.families.values()}
        return drawn(self.edges, [float(mean[i]) for i in self._ranked(mean)], families, self.sentence, self.scores.unit)


def find_circuit(
    task: Task,
    n_edges: int,
    *,
    method: Method = "EAP-IG inputs",
    search: Search = "greedy",
    order: Order = "size",
    by: Ablation = "resample",
    n: int = 24,
) -> FoundCircuit:
    """A circuit of so many edges, found and measured on the task's first n prompts.

    Raises EdgeError for a model that does not do the task, more edges than there are, and as `edge_scores` does.
    """
    check_whole(task, n)
    scores = edge_scores(task, method, n=n)
    mask = found_edges(scores.graph, scores.mean, n_edges, search=search, order=order)
    return FoundCircuit(task, scores, EdgeCircuit.of(task, mask, by=by), n_edges, n, search, order)
