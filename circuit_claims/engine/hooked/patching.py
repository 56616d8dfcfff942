"""Interventions on decoders of any architecture, through hooks.

Interventions that begin in the same layer travel as one batch, from that layer on: nothing before it is computed. All positions
are, since the model's own code knows whole sequences only.

Where query heads share keys and values in groups, an edit of k or v that names a head changes what this one head attends to or
reads, and leaves the others of its group alone, as TransformerLens's `ungroup_grouped_query_attention` understands it; an edit
without a head sets the groups' keys or values themselves, one entry a group. For such a head the layer's attention is computed
once more with its group's keys and values changed, and that head's output is taken from there.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims import forward_passes
from circuit_claims.engine.edits import Edit, set_activation, slice_edit
from circuit_claims.engine.hooked.passes import Hook, Place
from circuit_claims.engine.hooked.steps import HookedSteps
from circuit_claims.engine.run import Run, slice_run
from circuit_claims.engine.unsupported import Unsupported
from circuit_claims.time_spent import spent_on

#: An edit and the row of the batch, counted in interventions, that it is made in.
Placed = tuple[int, Edit]


@spent_on("interventions")
@torch.inference_mode()
def intervene(
    model: HookedSteps, base: Run, interventions: Sequence[Sequence[Edit]], *, memory: int | None = None
) -> Float[Tensor, "intervention prompt d_model"]:
    """The final residual stream at the last position under each of several interventions on one run.

    memory: bytes that the activations of a batch may take (the model's own cap unless given); interventions, and then prompts,
        are split to stay below.

    Raises Unsupported, with the reason, for edits that have no meaning in this architecture, or that its bridge cannot make.
    """
    memory = model.max_memory if memory is None else memory
    for edit in (edit for edits in interventions for edit in edits):
        model.needs(edit.site, edited=True)
    n_prompts, length = base.tokens.shape
    forward_passes.count(n_prompts * len(interventions))
    result = base.resid[-1][:, -1].expand(len(interventions), n_prompts, model.d_model).clone()
    by_layer: dict[int, list[int]] = defaultdict(list)
    for index, edits in enumerate(interventions):
        if edits:
            by_layer[min(edit.layer for edit in edits)].append(index)
    fitting = max(1, memory // bytes_of_a_prompt(model, length, base.resid.element_size()))
    together, step = max(1, fitting // n_prompts), max(1, min(n_prompts, fitting))
    for layer, indices in by_layer.items():
        for first in range(0, len(indices), together):
            part = indices[first : first + together]
            for start in range(0, n_prompts, step):
                chunk = slice(start, start + step)
                edits = [[slice_edit(edit, chunk) for edit in interventions[index]] for index in part]
                result[part, chunk] = _from_layer(model, slice_run(base, chunk), edits, layer)[:, :, -1]
    return result


@spent_on("interventions")
@torch.inference_mode()
def final_stream(model: HookedSteps, base: Run, edits: Sequence[Edit]) -> Float[Tensor, "prompt pos d_model"]:
    """The final residual stream at all positions under one intervention.

    Raises Unsupported as `intervene` does.
    """
    if not edits:
        return base.resid[-1]
    for edit in edits:
        model.needs(edit.site, edited=True)
    forward_passes.count(len(base.tokens))
    step = max(1, model.max_memory // bytes_of_a_prompt(model, base.tokens.shape[1], base.resid.element_size()))
    parts, layer = [], min(edit.layer for edit in edits)
    for start in range(0, len(base.tokens), step):
        chunk = slice(start, start + step)
        parts.append(_from_layer(model, slice_run(base, chunk), [[slice_edit(edit, chunk) for edit in edits]], layer)[0])
    return torch.cat(parts)


@torch.inference_mode()
def pattern_with_keys(model: HookedSteps, base: Run, edit: Edit) -> Float[Tensor, "prompt query key"]:
    """One head's attention probabilities under an edit of its queries or keys.

    Raises Unsupported where query heads share keys in groups, or the pattern cannot be read.
    """
    model.needs(edit.site, edited=True)
    model.needs("pattern")
    if model.group > 1:
        raise Unsupported(
            "query heads share keys in groups here: the attention of one with keys of its own is in no activation"
        )
    batch = Batch(model, 1, len(base.tokens))
    batch.add(0, edit)
    place = (edit.layer, "pattern")
    options = {"start": edit.layer, "stop": edit.layer + 1, "stream": base.resid[edit.layer]}
    return model.passes.read(base.tokens, [place], batch.hooks(), **options)[place][:, edit.one_head]


@torch.inference_mode()
def attend(
    model: HookedSteps,
    layer: int,
    q: Float[Tensor, "prompt pos head d_head"],
    k: Float[Tensor, "prompt pos head d_head"],
    v: Float[Tensor, "prompt pos head d_head"],
) -> Float[Tensor, "prompt pos head d_head"]:
    """z of a layer whose queries, keys and values are set, as projected; every head has a key and a value of its own.

    Raises Unsupported as `intervene` does.
    """
    model.needs("q", "k", "v", edited=True)
    model.needs("z")
    batch = Batch(model, 1, len(q))
    if model.group == 1:
        edits = [Edit(layer, "q", q), Edit(layer, "k", k), Edit(layer, "v", v)]
    else:
        edits = [Edit(layer, "q", q)]
        edits += [Edit(layer, "k", k[:, :, head], head) for head in range(model.n_heads)]
        edits += [Edit(layer, "v", v[:, :, head], head) for head in range(model.n_heads)]
    for edit in edits:
        batch.add(0, edit)
    stream = q.new_zeros(*q.shape[:2], model.d_model)
    options = {"start": layer, "stop": layer + 1, "stream": stream}
    place = (layer, "z")
    hooks, around = batch.hooks(), batch.around()
    return model.passes.read(model.some_tokens(stream), [place], hooks, around=around, **options)[place]


def bytes_of_a_prompt(model: HookedSteps, length: int, element_size: int) -> int:
    """About what one prompt's activations of one layer take at their widest, a few of which live at once."""
    return 3 * length * (2 * model.d_mlp + 6 * model.d_model + 3 * model.n_heads * length) * element_size


def _from_layer(
    model: HookedSteps, base: Run, interventions: Sequence[Sequence[Edit]], layer: int
) -> Float[Tensor, "intervention prompt pos d_model"]:
    rows, n_prompts = len(interventions), len(base.tokens)
    batch = Batch(model, rows, n_prompts)
    for row, edits in enumerate(interventions):
        for edit in edits:
            batch.add(row, edit)
    place = (model.n_layers - 1, "resid_post")
    ended = model.passes.read(
        base.tokens.repeat(rows, 1),
        [place],
        batch.hooks(),
        start=layer,
        stream=base.resid[layer].repeat(rows, 1, 1),
        around=batch.around(),
    )
    return ended[place].view(rows, *base.tokens.shape, model.d_model)


@dataclass
class Batch:
    """Edits of several interventions, as hooks of one pass over `rows` times the same prompts."""

    model: HookedSteps
    rows: int
    n_prompts: int
    edits: dict[Place, list[Placed]] = field(default_factory=lambda: defaultdict(list))
    #: By layer, edits of the keys and values of single heads of a group.
    of_one_head: dict[int, list[Placed]] = field(default_factory=lambda: defaultdict(list))
    #: The stream before a layer, where an edit between attention and MLP needs it.
    pre: dict[int, Tensor] = field(default_factory=dict)
    _replays: "dict[int, _Replay]" = field(default_factory=dict)

    def add(self, row: int, edit: Edit) -> None:
        """Make this edit in this row.

        Raises ValueError for an edit of all keys or values that has not one entry a group.
        """
        if edit.site in ("k", "v") and self.model.group > 1:
            if edit.head is not None:
                self.of_one_head[edit.layer].append((row, edit))
                return
            if edit.value.shape[-2] != self.model.n_kv_heads:
                raise ValueError(
                    f"{self.model.n_heads} heads share {self.model.n_kv_heads} keys and values: "
                    "set as many, or name the head that is meant"
                )
        self.edits[edit.layer, edit.site].append((row, edit))

    def hooks(self) -> dict[Place, Hook]:
        """The hooks of all edits but those of single heads of a group."""
        hooks: dict[Place, Hook] = {}
        for (layer, site), placed in self.edits.items():
            if site not in ("attn_out", "resid_mid"):
                hooks[layer, site] = self._setting(placed, heads_first=site == "pattern")
        for layer in {layer for layer, site in self.edits if site in ("attn_out", "resid_mid")}:
            hooks[layer, "attn_out"] = self._after_attention(layer)
            if (layer, "resid_mid") in self.edits:
                hooks[layer, "resid_pre"] = self._remembering(layer, hooks.get((layer, "resid_pre")))
        for layer in self.of_one_head:
            # These hooks must be there for `around` to act in them.
            for site in ("k", "v", "z"):
                hooks.setdefault((layer, site), lambda activation: None)
        replays = self._replays = {layer: _Replay(self, layer) for layer in self.of_one_head}
        for layer, replay in replays.items():
            for site in ("k", "v"):
                hooks[layer, site] = replay.sharing(site, hooks[layer, site])
            hooks[layer, "z"] = replay.taking(hooks[layer, "z"])
        return hooks

    def around(self) -> dict[int, Callable[[Callable[..., Any]], Callable[..., Any]]]:
        """How the attention of layers with edits of single heads of a group is computed; call `hooks` before."""
        return {layer: replay.around for layer, replay in self._replays.items()}

    def per_row(self, activation: Float[Tensor, "row_prompt ..."]) -> Float[Tensor, "row prompt ..."]:
        """The batch seen intervention by intervention."""
        return activation.view(self.rows, self.n_prompts, *activation.shape[1:])

    def _setting(self, placed: Sequence[Placed], *, heads_first: bool = False) -> Hook:
        def hook(activation: Tensor) -> Tensor:
            activation = activation.contiguous().clone()
            rows = self.per_row(activation)
            for row, edit in placed:
                # Patterns are seen with positions before heads, as every other activation is.
                set_activation(rows[row].transpose(1, 2) if heads_first else rows[row], edit)
            return activation

        return hook

    def _remembering(self, layer: int, then: Hook | None) -> Hook:
        def hook(activation: Tensor) -> Tensor | None:
            changed = then(activation) if then else None
            self.pre[layer] = activation if changed is None else changed
            return changed

        return hook

    def _after_attention(self, layer: int) -> Hook:
        """Edits of the attention's output, and then of the stream that it makes: the output is set to what gives that stream.

        The bridge's own hook between attention and MLP changes the MLP's input alone.
        """

        def hook(out: Tensor) -> Tensor:
            out = out.contiguous().clone()
            rows = self.per_row(out)
            for row, edit in self.edits.get((layer, "attn_out"), ()):
                set_activation(rows[row], edit)
            for row, edit in self.edits.get((layer, "resid_mid"), ()):
                pre = self.per_row(self.pre[layer])[row]
                rows[row] = set_activation(pre + rows[row], edit) - pre
            return out

        return hook


class _Replay:
    """The attention of one layer, computed once more for each head of a group whose key or value is edited alone.

    Edits of heads that share a key and value in the same row stand in different turns; all others share one.
    """

    def __init__(self, batch: Batch, layer: int) -> None:
        self.batch = batch
        self.now: list[Placed] | None = None  # the edits of this turn, while it lasts
        self.taken: list[tuple[int, int, Tensor]] = []  # row, head, and its output
        self.turns: list[dict[tuple[int, int], list[Placed]]] = []  # in each, by row and group, the edits of one head
        heads: dict[tuple[int, int], list[Placed]] = defaultdict(list)
        for row, edit in batch.of_one_head[layer]:
            heads[row, edit.one_head].append((row, edit))
        for (row, head), placed in heads.items():
            here = (row, batch.model.entry(head, "k"))
            turn = next((turn for turn in self.turns if here not in turn), None)
            if turn is None:
                self.turns.append(turn := {})
            turn[here] = placed

    def around(self, attention: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            self.taken = []
            for turn in self.turns:
                self.now = [placed for edits in turn.values() for placed in edits]
                try:
                    attention(*args, **kwargs)
                finally:
                    self.now = None
            return attention(*args, **kwargs)

        return forward

    def sharing(self, site: str, then: Hook) -> Hook:
        """Set the group's keys or values, in their turn."""

        def hook(activation: Tensor) -> Tensor | None:
            changed = then(activation)
            if self.now is None:
                return changed
            activation = (activation if changed is None else changed).contiguous().clone()
            rows = self.batch.per_row(activation)
            for row, edit in self.now:
                if edit.site == site:
                    set_activation(rows[row], replace(edit, head=self.batch.model.entry(edit.one_head, site)))
            return activation

        return hook

    def taking(self, then: Hook) -> Hook:
        """Take the heads' outputs in their turn, and put them in at the end, before edits of outputs."""

        def hook(z: Tensor) -> Tensor | None:
            if self.now is not None:
                rows = self.batch.per_row(z)
                self.taken += [(row, edit.one_head, rows[row][:, :, edit.one_head].clone()) for row, edit in self.now]
                return None
            z = z.contiguous().clone()
            rows = self.batch.per_row(z)
            for row, head, output in self.taken:
                rows[row][:, :, head] = output
            changed = then(z)
            return z if changed is None else changed

        return hook
