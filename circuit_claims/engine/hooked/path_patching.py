"""Path patching on decoders of any architecture: the four passes of Wang et al. 2022, appendix B, through hooks.

(A) the original prompt, and (B) the new one: head outputs are noted. (C) The original prompt with every head set to what it
gave in A, but for the senders, which are set to what they gave in B; MLPs and norms are recomputed, or MLPs are set to what
they gave in A; the receivers' inputs are noted. (D) The original prompt with the receivers' inputs set to these. C begins at
the first sender's layer, and is one batch for all senders that begin there; D is `intervene` of
`circuit_claims.engine.hooked.patching`.

A key or value of a head that shares it with others is changed for that head alone, as it is there.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims import forward_passes
from circuit_claims.engine.edits import Edit, slice_edit
from circuit_claims.engine.hooked.passes import Hook, Place
from circuit_claims.engine.hooked.patching import Batch, bytes_of_a_prompt, intervene
from circuit_claims.engine.hooked.steps import HookedSteps
from circuit_claims.engine.paths import Mlps, Receivers, Trace, Written, check_path
from circuit_claims.engine.run import Run, slice_run
from circuit_claims.heads import Head
from circuit_claims.time_spent import spent_on


@dataclass(frozen=True)
class Noted:
    """A pass at all positions: by layer and site, what was there; and the final stream."""

    at: dict[Place, Float[Tensor, "prompt pos *width"]]
    final: Float[Tensor, "prompt pos d_model"]


@torch.inference_mode()
def trace(model: HookedSteps, run: Run, positions: Int[Tensor, "prompt k"], knocked_out: Sequence[Edit] = ()) -> Trace:
    """Look into a run at some positions, made under edits of z or under none.

    Raises Unsupported where attention and MLP stand side by side, so that there is no stream between them.
    """
    model.needs("resid_mid", "z")
    noted = _note(model, run, knocked_out, ("resid_pre", "attn_out", "z"))
    rows, layers = torch.arange(len(positions), device=positions.device)[:, None], range(model.n_layers)
    pre = [noted.at[layer, "resid_pre"][rows, positions] for layer in layers]
    mid = [pre[layer] + noted.at[layer, "attn_out"][rows, positions] for layer in layers]
    z = [noted.at[layer, "z"][rows, positions] for layer in layers]
    return Trace(positions, torch.stack([*pre, noted.final[rows, positions]]), torch.stack(mid), torch.stack(z))


@torch.inference_mode()
def written_at(model: HookedSteps, run: Run, positions: Int[Tensor, "prompt k"], knocked_out: Sequence[Edit] = ()) -> Written:
    """What every part writes into the stream at some positions.

    Without knock-outs attention and MLP may stand side by side: nothing is between them then, but both write.

    Raises Unsupported where heads' or attention outputs cannot be read; under knock-outs, as `trace` does.
    """
    if knocked_out:
        found = trace(model, run, positions, knocked_out)
        pre, z, attention = found.pre, list(found.z), list(found.mid - found.pre[:-1])
    else:
        model.needs("z", "attn_out")
        rows = torch.arange(len(positions), device=positions.device)[:, None]
        inside = [model.attention(layer, run.resid[layer]) for layer in range(model.n_layers)]
        pre, z = run.resid[:, rows, positions], [each.z[rows, positions] for each in inside]
        attention = [each.out[rows, positions] for each in inside]
    mlps = [pre[layer + 1] - pre[layer] - out for layer, out in enumerate(attention)]
    return Written(pre[0], attention, mlps, z, pre[-1])


@spent_on("path patching")
@torch.inference_mode()
def path_patch(
    model: HookedSteps,
    base: Run,
    new: Run,
    senders: Sequence[Sequence[Head]],
    receivers: Receivers | None,
    positions: Int[Tensor, "prompt k"],
    *,
    mlps: Mlps = "recomputed",
    knocked_out: Sequence[Edit] = (),
    memory: int | None = None,
) -> Float[Tensor, "sender prompt d_model"]:
    """The final residual stream at END under path patching, for each of several sets of senders.

    Raises ValueError as `check_path` does, and Unsupported, with the reason, where this architecture has no such path or its
    bridge cannot patch it.
    """
    check_path(base, receivers, positions, mlps, knocked_out)
    model.needs("z", *(() if receivers is None else (receivers.input,)), edited=True)
    if mlps == "frozen":
        model.needs("mlp_out", edited=True)
    memory = model.max_memory if memory is None else memory
    n_prompts, length = base.tokens.shape
    forward_passes.count(n_prompts * len(senders))
    # Passes A and B are kept whole beside the batch that is under way.
    a_prompt = bytes_of_a_prompt(model, length, base.resid.element_size())
    kept = 2 * model.n_layers * length * (model.n_heads * model.d_head + 2 * model.d_model) * base.resid.element_size()
    step = max(1, min(n_prompts, memory // (a_prompt + kept)))
    parts = []
    for start in range(0, n_prompts, step):
        chunk = slice(start, start + step)
        here = [slice_edit(edit, chunk) for edit in knocked_out]
        original, other = slice_run(base, chunk), slice_run(new, chunk)
        noted = ("resid_pre", "z") + (("mlp_out",) if mlps == "frozen" else ())
        a, b = _note(model, original, here, noted), _note(model, other, here, ("z",))
        passes = _Passes(model, original, a, b, positions[chunk], mlps)
        together = max(1, memory // (a_prompt * min(step, n_prompts)))
        parts.append(_one_chunk(passes, senders, receivers, together, memory))
    return torch.cat(parts, dim=1)


@spent_on("path patching")
@torch.inference_mode()
def receiver_inputs(
    model: HookedSteps,
    base: Run,
    new: Run,
    senders: Sequence[Head],
    receivers: Receivers,
    positions: Int[Tensor, "prompt k"],
) -> list[Edit]:
    """The receivers' inputs as pass C records them: the edits of pass D, without those of receivers that no sender reaches.

    Raises Unsupported where heads' outputs or the receivers' inputs cannot be read or edited.
    """
    model.needs("z", receivers.input, edited=True)
    first = min(head.layer for head in senders)
    if all(head.layer <= first for head in receivers.heads):
        return []
    a, b = _note(model, base, (), ("resid_pre", "z")), _note(model, new, (), ("z",))
    return _Frozen(_Passes(model, base, a, b, positions, "recomputed"), [senders], first).inputs_of(receivers)[0]


@dataclass(frozen=True)
class _Passes:
    """What passes C and D are made of."""

    model: HookedSteps
    base: Run
    a: Noted
    b: Noted
    positions: Int[Tensor, "prompt k"]
    mlps: Mlps


def _one_chunk(
    passes: _Passes, senders: Sequence[Sequence[Head]], receivers: Receivers | None, together: int, memory: int
) -> Float[Tensor, "sender prompt d_model"]:
    model, untouched = passes.model, passes.a.final[:, -1]
    last = model.n_layers if receivers is None else max((head.layer for head in receivers.heads), default=-1)
    result = untouched.expand(len(senders), *untouched.shape).clone()
    by_layer: dict[int, list[int]] = defaultdict(list)
    for index, heads in enumerate(senders):
        # What sends in or behind the last receiver's layer reaches none.
        if heads and (layer := min(head.layer for head in heads)) < last:
            by_layer[layer].append(index)
    for layer, indices in by_layer.items():
        for first in range(0, len(indices), together):
            part = indices[first : first + together]
            frozen = _Frozen(passes, [senders[index] for index in part], layer)
            if receivers is None:
                result[part] = frozen.final_stream()
            else:
                result[part] = intervene(model, passes.base, frozen.inputs_of(receivers), memory=memory)
    return result


@dataclass(frozen=True)
class _Frozen:
    """Pass C from the first sender's layer on, for several sets of senders at once."""

    passes: _Passes
    senders: Sequence[Sequence[Head]]
    layer: int

    def final_stream(self) -> Float[Tensor, "sender prompt d_model"]:
        """At END, for the direct path to the logits."""
        n_layers = self.passes.model.n_layers
        place = (n_layers - 1, "resid_post")
        return self._pass([place], n_layers)[place][:, :, -1]

    def inputs_of(self, receivers: Receivers) -> list[list[Edit]]:
        """For each set of senders, the receivers' inputs at the positions, as the edits of pass D."""
        heads = [head for head in dict.fromkeys(receivers.heads) if head.layer > self.layer]
        places = list(dict.fromkeys((head.layer, receivers.input) for head in heads))
        found = self._pass(places, max(head.layer for head in heads) + 1)
        positions, which = self.passes.positions, receivers.input
        prompts = torch.arange(len(positions), device=positions.device)[:, None]
        edits: list[list[Edit]] = [[] for _ in self.senders]
        for layer, head in heads:
            values = found[layer, which][:, prompts, positions, self.passes.model.entry(head, which)]
            for row, value in enumerate(values):
                edits[row].append(Edit(layer, which, value, head, positions))
        return edits

    def _pass(self, places: Sequence[Place], stop: int) -> dict[Place, Float[Tensor, "sender prompt pos *width"]]:
        rows, base, a = len(self.senders), self.passes.base, self.passes.a
        hooks: dict[Place, Hook] = {}
        for layer in range(self.layer, stop):
            hooks[layer, "z"] = self._heads(layer)
            if self.passes.mlps == "frozen":
                hooks[layer, "mlp_out"] = lambda _, value=a.at[layer, "mlp_out"]: value.repeat(rows, 1, 1)
        stream = a.at[self.layer, "resid_pre"].repeat(rows, 1, 1)
        options = {"start": self.layer, "stop": stop, "stream": stream}
        found = self.passes.model.passes.read(base.tokens.repeat(rows, 1), places, hooks, **options)
        return {place: value.view(rows, len(base.tokens), *value.shape[1:]) for place, value in found.items()}

    def _heads(self, layer: int) -> Hook:
        """All heads as they were in A, but for the senders at their positions, as they were in B."""
        old, new, positions = self.passes.a.at[layer, "z"], self.passes.b.at[layer, "z"], self.passes.positions
        prompts = torch.arange(len(positions), device=positions.device)[:, None]

        def hook(_: Tensor) -> Tensor:
            rows = old.repeat(len(self.senders), 1, 1, 1, 1)
            for row, heads in enumerate(self.senders):
                for head in heads:
                    if head.layer == layer:
                        rows[row][prompts, positions, head.head] = new[prompts, positions, head.head]
            return rows.flatten(0, 1)

        return hook


def _note(model: HookedSteps, run: Run, knocked_out: Sequence[Edit], sites: Sequence[str]) -> Noted:
    """Passes A and B, with heads knocked out where it is asked for."""
    forward_passes.count(len(run.tokens))
    batch = Batch(model, 1, len(run.tokens))
    for edit in knocked_out:
        batch.add(0, edit)
    last = (model.n_layers - 1, "resid_post")
    places = [(layer, site) for layer in range(model.n_layers) for site in sites]
    found = model.passes.read(run.tokens, [*places, last], batch.hooks())
    return Noted({place: found[place] for place in places}, found[last])
