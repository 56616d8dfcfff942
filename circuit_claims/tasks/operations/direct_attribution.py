"""Direct logit attribution: the logit difference, split into what each part of the model writes at END.

The final residual stream is a sum: the embedding of the last token, what each head writes, each attention layer's bias, what
each MLP writes. With the final layer norm's scale held at that of the prompt's own run, the logit difference is linear in that
sum, so that every part has its share, and the shares add up to it, but for a constant that no part of the model writes (the
norm's bias and the unembedding's). Source: Elhage et al. 2021; TransformerLens, exploratory analysis demo.

A head's share is of what it reads: what its value bias and the layer norm's bias before it make it write on every prompt alike
counts with the layer's bias, as in processed weights. So the numbers are the same in both modes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims.engine.edits import Edit
from circuit_claims.heads import Head, layer_labels
from circuit_claims.measure.measurement import Measurement, combined, side_by_side
from circuit_claims.measure.samples import Grid, Samples
from circuit_claims.prompts.batch import Batch
from circuit_claims.tasks.measuring import head_list
from circuit_claims.tasks.metric import LOGIT_DIFFERENCE, as_array
from circuit_claims.tasks.operations.ablation import Ablation
from circuit_claims.tasks.operations.direct_statistics import accumulated, between_rows, curve, points, ratio, scatter
from circuit_claims.tasks.operations.knockouts import KnockedOut
from circuit_claims.tasks.operations.sweeps import head_sweep
from circuit_claims.tasks.task import Task
from circuit_claims.untested import Untested

LOGITS = "logits"
#: Along what is attributed: W_U[IO] − W_U[S], or W_U[IO] less the mean over the vocabulary; "answer" is the same as "IO".
Target = Literal["logit difference", "IO", "answer"]
#: By how much the constant may differ between two streams where logits are linear in what the final norm gives, as a share of
#: what is written (in logits, where that is below one): more than half precision rounds off, less than a cap or a scale does.
LINEAR = 0.02
#: And what the rounding of each logit adds to it, in units of its dtype's last digit: the four logits that are compared, and
#: as much again for the final norm before them.
ROUNDINGS = 8


@dataclass(frozen=True)
class Written:
    """What is written at END in one run. embedding, final: `[prompt, d_model]`; attention, mlp: of each layer; z likewise."""

    embedding: Float[Tensor, "prompt d_model"]
    attention: list[Float[Tensor, "prompt d_model"]]
    mlp: list[Float[Tensor, "prompt d_model"]]
    z: list[Float[Tensor, "prompt head d_head"]]
    final: Float[Tensor, "prompt d_model"]


@dataclass(frozen=True, repr=False)
class DirectAttribution(Task):
    """Direct attribution of the logits, and how it compares with what interventions do."""

    def direct_attribution(
        self, *, to: Target = "logit difference", scaled: bool = True, without: Sequence[Head] = ()
    ) -> "Attribution":
        """Direct logit attribution at END.

        to: the logit difference, or the logit of the answer, or IO (from the mean over the vocabulary). scaled: with the final
        layer norm's scale at that of the run; False leaves it out, so that the unit is none of logits. without: heads whose
        outputs at END are zeroed first; everything after them, and the scale, is then that of the run without them.

        Raises ValueError for an unknown target, and where the task is judged by another metric.
        """
        if self.metric.of_logits is not LOGIT_DIFFERENCE.of_logits:
            raise ValueError(f"direct attribution adds up to logit differences, not to the {self.metric.name}: patch instead")
        if to not in get_args(Target):
            raise ValueError(f"unknown target {to!r}: use {' or '.join(get_args(Target))}")
        return Attribution(self, to, scaled, tuple(without))

    def patching_correlation(self, attribution: "Attribution", *, corruption: str | None = None) -> Measurement:
        """Pearson's r over all heads between direct attribution and what patching each alone at END restores."""
        corruption = self.corruption(corruption, "denoising")
        patching, direct = head_sweep(self, "output", "END", corruption), attribution.heads()
        named, labels = {str(Head(*mark)) for mark in self.marks}, list(map(str, self.all_heads))
        quantity = (
            f"correlation over heads of patching at END ({corruption}) and {attribution.called('every head')}{self.under}"
        )

        def take(n: int) -> Grid:
            restored, written = patching.take(n), direct.take(n)
            rows = np.stack([each.values.reshape(len(each.values), -1) for each in (restored, written)], axis=1)
            ends = restored.estimate.ravel(), written.estimate.ravel()
            axes = "recovered share by patching it alone", written.quantity
            shown = [label if label in named else "" for label in labels]
            r = float(between_rows(np.stack(ends)))
            return Grid(
                rows,
                quantity,
                "",
                restored.clusters,
                row_axis="",
                row_labels=["patching", "direct"],
                column_axis="head",
                column_labels=labels,
                denominator=self.baseline().take(n),
                drawn=scatter(quantity, (axes[0], ends[0]), (axes[1], ends[1]), shown, r),
            )

        measured = Measurement(take, self.prepend_bos, patching.limit, self.baseline())
        return measured.of(between_rows, quantity, "correlation")

    def lost_share(self, heads: Sequence[Head], *, by: Ablation = "zero") -> Measurement:
        """What knocking heads out at END costs, as a share of what they write straight along the logit difference.

        1 where nothing downstream reacts; below it, others make up for them. Each is averaged over prompts first.
        """
        ablated = self.direct_attribution(without=heads)
        if by != "zero":
            ablated = KnockedOut(self, frozenset((head, "END") for head in heads), by=by)
        quantity = f"loss by {by} ablation of {head_list(heads)} at END, as a share of what they write"
        lost = self.baseline().minus(ablated.value(), f"loss by {by} ablation of {head_list(heads)}", LOGITS)
        direct = self.direct_attribution().of_heads(heads)
        grid = side_by_side([lost, direct], ["loss", "written"], quantity, LOGITS, presupposes=self.baseline())
        return grid.of(ratio, quantity + self.under, "share")

    # What is written

    def written(self, batch: Batch, without: Sequence[Head] = ()) -> Written:
        """Every part of the final stream at END, with heads' outputs there zeroed or not.

        Raises Untested where the architecture does not show them.
        """
        model, end, run = self.subject.transformer, batch.at("END"), self.subject.run(batch.tokens)
        bias = {layer: self.value_bias(layer) for layer, _ in without}
        edits = [Edit(layer, "z", bias[layer][head].expand(len(end), 1, -1), head, end) for layer, head in without]
        found = model.written_at(run, end, edits)
        attention, mlp, z = ([part[:, 0] for part in parts] for parts in (found.attn_out, found.mlp_out, found.z))
        return Written(found.embedding[:, 0], attention, mlp, z, found.final[:, 0])

    def value_bias(self, layer: int) -> Float[Tensor, "head d_head"]:
        """What the layer's heads average whatever the prompt is, their outputs on a stream of zeros; none in processed weights.

        Raw weights have two sources of it, the values' own bias and that of the layer norm before them.
        """
        model = self.subject.transformer
        nothing = model.W_E.new_zeros(1, 1, model.d_model)
        return self.store.get(("value bias", layer), lambda: model.attention(layer, nothing).z[0, 0])


@dataclass(frozen=True)
class Attribution:
    """Direct attribution along one direction, in one run."""

    task: DirectAttribution
    to: Target
    scaled: bool
    without: tuple[Head, ...]

    def heads(self) -> Measurement:
        """Of every head: a grid layer × head."""

        def measure(batch: Batch) -> Float[np.ndarray, "prompt layer head"]:
            model, written = self.task.subject.transformer, self.task.written(batch, self.without)
            along = self._along(batch, written)
            layers = []
            for layer, z in enumerate(written.z):
                read = z - self.task.value_bias(layer)
                out = [model.head_out(layer, read[:, head], head) for head in range(model.n_heads)]
                layers.append(along(torch.stack(out, dim=1)))
            return np.stack(layers, axis=1)

        grid = self.task.grid(self.called("every head"), self._unit, measure, **self.task.heads_axis)
        return grid.presupposing(self.task.baseline())

    def layers(self) -> Measurement:
        """Of every attention layer, its bias included, and of every MLP: a grid layer × (attention, MLP)."""

        def shaped(grid: Grid) -> Grid:
            rows = layer_labels((grid.values.shape[1] - 1) // 2)
            values = grid.values[:, 1:, 0].reshape(grid.n, len(rows), 2)
            columns, quantity = ["attention", "MLP"], self.called("every layer") + self.task.under
            return replace(grid, values=values, quantity=quantity, row_axis="layer", row_labels=rows, column_labels=columns)

        return _each(self.parts(), shaped)

    def accumulated(self) -> Measurement:
        """Of the residual stream itself, before each layer, between attention and MLP, and after the last: one column.

        This is the logit lens of the logit difference, with the last stream's scale everywhere.
        """
        quantity = self.called("the accumulated residual stream") + self.task.under

        def shaped(grid: Grid) -> Grid:
            values = accumulated(grid.values[:, :, 0])
            labels = points((values.shape[1] - 1) // 2)
            drawn = curve(quantity, labels, "point of the residual stream at END", self._unit, values.mean(0))
            return replace(grid, values=values[:, :, None], quantity=quantity, row_axis="point", row_labels=labels, drawn=drawn)

        return _each(self.parts(), shaped)

    def parts(self) -> Measurement:
        """Of the embedding, and of each layer's attention and MLP, one under the other: they add up to the final stream's."""
        layers = range(self.task.subject.transformer.n_layers)

        def measure(batch: Batch) -> Float[np.ndarray, "prompt part 1"]:
            written = self.task.written(batch, self.without)
            of_layers = [part for layer in layers for part in (written.attention[layer], written.mlp[layer])]
            return self._along(batch, written)(torch.stack([written.embedding, *of_layers], dim=1))[:, :, None]

        options: dict[str, Any] = {"rows": self._parts, "row_axis": "part", "columns": ["attribution"], "column_axis": ""}
        return self.task.grid(self.called("every part"), self._unit, measure, **options).presupposing(self.task.baseline())

    def of_part(self, part: str) -> Measurement:
        """Of one of `parts`, such as "L9 attention" or "L9 MLP".

        Raises ValueError where the model has no such part.
        """
        place = _place(part, self._parts)
        return self.parts().of(lambda means: means[..., place, 0], self.called(part) + self.task.under, self._unit)

    def at_point(self, point: str) -> Measurement:
        """Of the residual stream at one of the points of `accumulated`, such as "9_mid".

        Raises ValueError where the model has no such point.
        """
        place = _place(point, points(self.task.subject.transformer.n_layers))

        def marked(grid: Grid) -> Grid:
            return replace(grid, drawn={**(grid.drawn or {}), "marks": [{"x": place, "label": point}]})

        quantity = self.called(f"the residual stream at {point}") + self.task.under
        return _each(self.accumulated(), marked).of(lambda means: means[..., place, 0], quantity, self._unit)

    def constant(self) -> Measurement:
        """The logit difference less all that is written: what the final norm's bias and the unembedding's are worth."""
        return self._samples("what no part of the model writes", self._constant)

    def of_heads(self, heads: Sequence[Head]) -> Measurement:
        """Of some heads together, prompt by prompt."""
        grid, task = self.heads(), self.task

        def take(n: int) -> Samples:
            found = grid.take(n)
            return Samples(
                values=np.sum([found.values[:, layer, head] for layer, head in heads], axis=0),
                quantity=self.called(head_list(heads)) + task.under,
                unit=self._unit,
                clusters=found.clusters,
                prompts=task.prompts(n),
                population=task.about,
                exact=found.exact,
                denominator=found.denominator,
            )

        return replace(grid, take=take)

    def growth_over(self, other: "Attribution") -> Measurement:
        """How much more every head writes here than in another attribution: a grid layer × head."""
        mine, theirs = self.heads(), other.heads()
        quantity = f"growth of direct attribution {self._run}".strip()

        def take(n: int) -> Grid:
            here, there = mine.take(n), theirs.take(n)
            return replace(here, values=here.values - there.values, quantity=quantity + self.task.under)

        return replace(mine, take=take)

    def value(self) -> Measurement:
        """logit(IO) − logit(S) of the run, in logits, of a model that shows one."""

        def measure(batch: Batch) -> Float[np.ndarray, " prompt"]:
            return self.task.value_from(self.task.written(batch, self.without).final, batch)

        return self._samples(f"logit difference {self._run}".strip(), measure).presupposing(self.task.baseline())

    def expected_without(self, heads: Sequence[Head]) -> Measurement:
        """What would be left of the logit difference without heads, if nothing reacted: it, less what they write."""
        quantity = f"logit difference less what {head_list(heads)} write"
        left = combined([self.value(), self.of_heads(heads)], lambda whole, part: whole - part, quantity, LOGITS)
        return left.presupposing(self.task.baseline())

    def scale_ratio(self) -> Measurement:
        """The final layer norm's scale in the untouched run over that in this one, prompt by prompt."""

        def measure(batch: Batch) -> Float[np.ndarray, " prompt"]:
            model, here = self.task.subject.transformer, self.task.written(batch, self.without).final
            before = self.task.written(batch).final
            # The same vector under either scale: the ratio of what comes out is theirs, turned round.
            ends = [model.frozen_norm(before, like).norm(dim=-1) for like in (here, before)]
            return as_array(ends[0] / ends[1])

        quantity = f"final layer norm's scale over the one {self._run}".strip()
        return self._samples(quantity, measure, unit="ratio").presupposing(self.task.baseline())

    # Steps

    @property
    def _parts(self) -> list[str]:
        layers = range(self.task.subject.transformer.n_layers)
        return ["embedding", *(f"L{layer} {part}" for layer in layers for part in ("attention", "MLP"))]

    def _along(self, batch: Batch, written: Written) -> Callable[[Tensor], Float[np.ndarray, "prompt part"]]:
        """What projects parts of the stream, `[prompt, *part, d_model]`, onto the direction, under the run's final norm."""
        model = self.task.subject.transformer
        direction = self._direction(batch)

        def project(part: Float[Tensor, "prompt part d_model"]) -> Float[np.ndarray, "prompt part"]:
            like = written.final[:, None].expand(part.shape) if self.scaled else None
            return as_array(torch.einsum("pkd,pd->pk", model.frozen_norm(part, like), direction))

        if not model.linear_logits:
            self._needs_linear_logits(batch)
        return project

    def _direction(self, batch: Batch) -> Float[Tensor, "prompt d_model"]:
        model = self.task.subject.transformer
        if self.to == "logit difference":
            return _between_names(model, batch)
        # Processed weights have the mean taken out; what a logit is worth is its distance from the others either way.
        mean = self.task.store.get(("mean unembedding",), lambda: model.W_U.mean(1))
        if batch.weights is None:
            return model.W_U.T[batch.answers[:, 0]] - mean
        return _weighted(model, batch, batch.weights.clamp(min=0)) - mean

    def _constant(self, batch: Batch) -> Float[np.ndarray, " prompt"]:
        """Of the logit difference, and with the norm's scale, whatever this attribution is to."""
        return self._unwritten(self.task.written(batch, self.without).final, batch)

    def _needs_linear_logits(self, batch: Batch) -> None:
        """Raise Untested where another stream's constant is another: then logits are no sum of what is written."""
        final = self.task.subject.run(batch.tokens).resid[-1][:, -1]
        constants = [self._unwritten(stream, batch) for stream in (final, -final)]
        written = max(1.0, float(np.abs(self.task.value_from(final, batch) - constants[0]).max()))
        # A difference of two logits is as uncertain as these are, which are rounded to the dtype's digits.
        logits = self.task.subject.transformer.answer_logits(final, batch.answers)
        rounding = ROUNDINGS * torch.finfo(logits.dtype).eps * float(logits.abs().max())
        if np.abs(constants[0] - constants[1]).max() > LINEAR * written + rounding:
            raise Untested(
                f"the logits of {self.task.subject.name} are not linear in what its final norm gives (they are scaled or "
                "capped): they are no sum of what its parts write"
            )

    def _unwritten(self, final: Float[Tensor, "prompt d_model"], batch: Batch) -> Float[np.ndarray, " prompt"]:
        model = self.task.subject.transformer
        along = (model.frozen_norm(final, final) * _between_names(model, batch)).sum(-1)
        return self.task.value_from(final, batch) - as_array(along)

    def _samples(self, quantity: str, measure: Callable[[Batch], np.ndarray], *, unit: str = LOGITS) -> Measurement:
        return self.task.samples(quantity, unit, measure, key=("attribution", self.to, self.scaled, self.without))

    def called(self, what: str) -> str:
        """What is measured of some part, in words."""
        run = f" {self._run}" if self._run else ""
        return f"direct attribution of {what} to {self._toward}{run}{'' if self.scaled else ', without the final scale'}"

    @property
    def _toward(self) -> str:
        return {"logit difference": "the logit difference", "IO": "the logit of IO", "answer": "the logit of the answer"}[
            self.to
        ]

    @property
    def _run(self) -> str:
        return f"without {head_list(self.without)} at END" if self.without else ""

    @property
    def _unit(self) -> str:
        return LOGITS if self.scaled else "logits times the final scale"


def _between_names(model: Any, batch: Batch) -> Float[Tensor, "prompt d_model"]:
    if batch.weights is not None:
        return _weighted(model, batch, batch.weights)
    columns = model.W_U.T[batch.answers]
    return columns[:, 0] - columns[:, 1]


def _weighted(model: Any, batch: Batch, weights: Float[Tensor, "prompt token"]) -> Float[Tensor, "prompt d_model"]:
    columns = model.W_U.T[batch.tokens_compared]
    return torch.einsum("ptd,pt->pd", columns, weights.to(columns.dtype))


def _place(name: str, there: Sequence[str]) -> int:
    if name not in there:
        raise ValueError(f"there is no {name!r} in this model: name one of {', '.join(there)}")
    return list(there).index(name)


def _each(grid: Measurement, change: Callable[[Grid], Grid]) -> Measurement:
    """A grid's measurement, changed in shape wherever it is taken."""
    return replace(grid, take=lambda n: change(grid.take(n)))
