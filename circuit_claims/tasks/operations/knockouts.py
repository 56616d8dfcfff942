"""Parts of the model knocked out together, and what becomes of the metric.

A part is a head at a role's position (a *node*), a head at all positions, or an MLP. Source: Wang et al. 2022, section 2
("knockouts"). What stands in a part's place (see `circuit_claims.tasks.operations.ablation`) and how many prompts a mean is
taken over move the result a great deal, so every quantity's name says which it was.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuit_claims.engine.edits import Edit
from circuit_claims.heads import Head
from circuit_claims.measure.measurement import Measurement, combined
from circuit_claims.prompts.batch import Batch
from circuit_claims.tasks.measuring import aligned, head_list
from circuit_claims.tasks.operations.ablation import ABLATIONS, Ablation, head_outputs
from circuit_claims.tasks.operations.intervention import Intervention, share_of_metric
from circuit_claims.tasks.operations.reference_means import REFERENCE_SIZE, Component, reference_means
from circuit_claims.tasks.task import Task

#: A head at a role's position; None for the head at all positions.
Node = tuple[Head, str | None]


@dataclass(frozen=True)
class KnockedOut(Intervention):
    """A task with parts of the model knocked out.

    removed: the nodes that are knocked out. kept: where it is given, all heads at all positions but these nodes are knocked
    out, and then `removed` on top: C \\ K is kept = C and removed = K. mlps: layers whose MLP is knocked out at all positions.
    by: what stands in their place; reference_size: how many reference prompts of each form a mean is taken over.

    Raises ValueError for an unknown ablation, and for a reference of no prompts.
    """

    removed: frozenset[Node] = frozenset()
    kept: frozenset[Node] | None = None
    mlps: tuple[int, ...] = ()
    by: Ablation = "mean"
    reference_size: int = REFERENCE_SIZE
    called: str = ""

    def __post_init__(self) -> None:
        if self.by not in ABLATIONS:
            raise ValueError(f"unknown ablation {self.by!r}: use one of {', '.join(ABLATIONS)}")
        if self.reference_size < 1:
            raise ValueError("a mean ablation needs at least one reference prompt: give reference_size=16, say")

    def value(self) -> Measurement:
        """The metric with the parts knocked out, of a model that does the task before."""
        metric = self.task.metric
        measured = self.task.samples(f"{metric.name} {self.name}", metric.unit, self._ablated, key=self._key)
        return measured.presupposing(self.task.competence())

    @property
    def how(self) -> str:
        """What is done, in words."""
        return self.name

    @property
    def loss_word(self) -> str:
        """What a change is called in rows."""
        return f"loss of {self.task.metric.name}"

    def excess_over(self, apart: Sequence["KnockedOut"]) -> Measurement:
        """How much more is lost together than the losses of the parts add up to, as a share: positive for backups."""
        losses = [self.change(), *(part.change() for part in apart)]
        quantity = f"loss together minus losses apart, {self.name}{self.task.under}"
        excess = combined(losses, lambda together, *alone: together - sum(alone), quantity, self.task.metric.unit)
        return excess.share_of(self.task.baseline(), quantity, share_of_metric(self.task))

    @property
    def name(self) -> str:
        """What was done, in words."""
        how = self.by if self.by != "mean" or self.reference_size == REFERENCE_SIZE else f"mean over {self.reference_size}"
        if self.called:
            return f"{self.called} ({how} ablation)"
        parts = [] if self.kept is None else [f"all heads but {len(self.kept)} nodes"]
        for role in dict.fromkeys(role for _, role in sorted(self.removed, key=_node_order)):
            heads = [head for head, at in sorted(self.removed, key=_node_order) if at == role]
            parts.append(head_list(heads) + (f" at {role}" if role else ""))
        if self.mlps:
            parts.append("MLP " + ", ".join(map(str, self.mlps)))
        return f"after {how} ablation of {', '.join(parts) or 'nothing'}"

    @property
    def _key(self) -> tuple:
        return ("knocked out", self.removed, self.kept, self.mlps, self.by, self.reference_size)

    def _ablated(self, batch: Batch) -> Float[np.ndarray, " prompt"]:
        return knocked_out_values(self.task, batch, [self])[0]

    def edits(self, batch: Batch) -> list[Edit]:
        """The edits that knock these parts out on a batch."""
        z = None if self.kept is None and not self.removed else self._replacement(batch, "z")
        edits = []
        if z is not None and self.kept is not None:
            keep = self._mask(batch, self.kept) & ~self._mask(batch, self.removed)
            edits += [Edit(layer, "z", z[layer], keep=keep[layer]) for layer in range(len(keep))]
        elif z is not None:
            rows = torch.arange(len(batch.tokens), device=batch.tokens.device)[:, None]
            for (layer, head), role in sorted(self.removed, key=_node_order):
                positions = None if role is None else batch.at(role)
                value = z[layer][:, :, head]
                if role is not None and positions is not None:  # where the role stands in what the value is of
                    value = value[rows, positions if self.by != "resample" else self._other(batch).at(role)]
                edits.append(Edit(layer, "z", value, head, positions))
        if self.mlps:
            out = self._replacement(batch, "mlp_out")
            edits += [Edit(layer, "mlp_out", out[layer]) for layer in self.mlps]
        return edits

    def _mask(self, batch: Batch, nodes: Iterable[Node]) -> Bool[Tensor, "layer prompt pos head"]:
        model = self.task.subject.transformer
        mask = torch.zeros(model.n_layers, *batch.tokens.shape, model.n_heads, dtype=torch.bool, device=batch.tokens.device)
        rows = torch.arange(len(batch.tokens), device=batch.tokens.device)
        for (layer, head), role in nodes:
            if role is None:
                mask[layer, :, :, head] = True
            else:
                mask[layer, rows, batch.at(role)[:, 0], head] = True
        return mask

    def _replacement(self, batch: Batch, component: Component) -> Float[Tensor, "layer prompt pos *width"]:
        task, model = self.task, self.task.subject.transformer
        if self.by == "mean":
            return reference_means(task, batch, component, self.reference_size)
        if self.by == "zero":
            width = (model.n_heads, model.d_head) if component == "z" else (model.d_model,)
            return model.W_E.new_zeros(model.n_layers, *batch.tokens.shape, *width)
        other = self._other(batch)
        if component == "mlp_out" or self.kept is not None or any(role is None for _, role in self.removed):
            aligned(batch, other, "resample ablation at all positions")
        run = task.subject.run(other.tokens)
        if component == "z":
            outputs = head_outputs(model, run, range(model.n_layers))
            return torch.stack([outputs[layer] for layer in range(model.n_layers)])
        mids = [run.resid[layer] + model.attention(layer, run.resid[layer]).out for layer in range(model.n_layers)]
        return run.resid[1:] - torch.stack(mids)

    def _other(self, batch: Batch) -> Batch:
        """The corrupted prompts of a batch, which resample ablation takes outputs from."""
        corruption = self.task.population.corruptions.noising
        (other,) = self.task.batches([prompt.changed(corruption) for prompt in batch.prompts])
        return other


def knocked_out_values(task: Task, batch: Batch, settings: Sequence[KnockedOut]) -> Float[np.ndarray, "setting prompt"]:
    """The metric on one batch under each of several settings, in one pass of the engine."""
    run = task.subject.run(batch.tokens)
    resid = task.subject.transformer.intervene(run, [setting.edits(batch) for setting in settings])
    return task.value_from(resid, batch)


def _node_order(node: Node) -> tuple[Head, str]:
    return node[0], node[1] or ""
