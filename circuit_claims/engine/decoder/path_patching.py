"""Path patching: what senders do to receivers along the direct paths between them, and nothing else.

Source: Wang et al. 2022, appendix B. Four passes there: (A) the original prompt and (B) the new one; (C) the original prompt
with every head frozen to what it was in A, but for the senders, which are what they were in B, while MLPs and layer norms are
recomputed: the receivers' inputs are recorded; (D) the original prompt with the receivers' inputs set to these, and everything
after them running freely.

With all heads frozen nothing moves from one position to another, so C needs only the senders' own positions, and no attention
at all; where the receiver is the final residual stream, C has already given the answer and there is no D.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims import forward_passes
from circuit_claims.engine.decoder.patching import intervene
from circuit_claims.engine.decoder.steps import Steps
from circuit_claims.engine.edits import Edit, set_activation, slice_edit
from circuit_claims.engine.paths import Mlps, Receivers, Trace, Written, check_path
from circuit_claims.engine.run import Run, slice_run
from circuit_claims.heads import Head
from circuit_claims.time_spent import spent_on


@torch.inference_mode()
def trace(model: Steps, run: Run, positions: Int[Tensor, "prompt k"], knocked_out: Sequence[Edit] = ()) -> Trace:
    """Look into a run at some positions.

    knocked_out: edits of z that the run is made under; the forward pass is then made anew, since a run remembers its residual
    stream alone, and what a knocked-out head writes does not follow from that.
    """
    model.check_edits(knocked_out)
    if knocked_out:
        return _trace_knocked_out(model, run, positions, knocked_out)
    rows = torch.arange(len(positions), device=positions.device)[:, None]
    pre = run.resid[:, rows, positions]
    z = torch.stack([model.head_outputs_at(run, layer, positions) for layer in range(model.n_layers)])
    mid = torch.stack([pre[layer] + model.attn_out(layer, z[layer]) for layer in range(model.n_layers)])
    return Trace(positions, pre, mid, z)


def _trace_knocked_out(model: Steps, run: Run, positions: Int[Tensor, "prompt k"], edits: Sequence[Edit]) -> Trace:
    forward_passes.count(len(positions))
    rows = torch.arange(len(positions), device=positions.device)[:, None]
    stream, pre, mid, outputs = run.resid[0], [], [], []
    for layer in range(model.n_layers):
        z = model.attention(layer, stream).z.clone()
        for edit in edits:
            if edit.layer == layer:
                set_activation(z, edit)
        between = stream + model.attn_out(layer, z)
        pre.append(stream[rows, positions])
        mid.append(between[rows, positions])
        outputs.append(z[rows, positions])
        stream = between + model.mlp(layer, stream if model.parallel else between)
    pre.append(stream[rows, positions])
    return Trace(positions, torch.stack(pre), torch.stack(mid), torch.stack(outputs))


@torch.inference_mode()
def written_at(model: Steps, run: Run, positions: Int[Tensor, "prompt k"], knocked_out: Sequence[Edit] = ()) -> Written:
    """What every part writes into the stream at some positions, as differences of the stream that it stands in."""
    found = trace(model, run, positions, knocked_out)
    attention = list(found.mid - found.pre[:-1])
    mlps = [found.pre[layer + 1] - found.pre[layer] - out for layer, out in enumerate(attention)]
    return Written(found.pre[0], attention, mlps, list(found.z), found.pre[-1])


@spent_on("path patching")
@torch.inference_mode()
def path_patch(
    model: Steps,
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

    base: the run on the original prompts; new: the run on those whose sender outputs are put in, position by position.
    senders: each a set of heads that are patched together, at `positions`.
    receivers: whose inputs are changed, at the same positions (with heads frozen, nothing reaches others; elsewhere their
        inputs run freely in D, as in the authors' code); None for the final residual stream: the direct path to the logits.
    knocked_out: edits of z under which all of this happens (for backup heads); for the direct path to the logits alone.

    Raises ValueError where the direct path to the logits does not start at END, for knock-outs with receivers or of anything
    but z, and for unknown `mlps`.
    """
    check_path(base, receivers, positions, mlps, knocked_out)
    memory = model.max_memory if memory is None else memory
    n_prompts, width = positions.shape
    # The stream under each sender, before and after attention, and what pass D is to set.
    per_prompt = len(senders) * width * 3 * model.d_model * base.resid.element_size()
    step = max(1, min(n_prompts, memory // max(1, per_prompt)))
    parts = []
    for first in range(0, n_prompts, step):
        chunk = slice(first, first + step)
        here = [slice_edit(edit, chunk) for edit in knocked_out]
        original, other = slice_run(base, chunk), slice_run(new, chunk)
        frozen = trace(model, original, positions[chunk], here)
        z = trace(model, other, positions[chunk], here).z
        parts.append(_one_chunk(model, original, frozen, z, senders, receivers, mlps, memory))
    return torch.cat(parts, dim=1)


@spent_on("path patching")
@torch.inference_mode()
def receiver_inputs(
    model: Steps,
    base: Run,
    new: Run,
    senders: Sequence[Head],
    receivers: Receivers,
    positions: Int[Tensor, "prompt k"],
) -> list[Edit]:
    """The receivers' inputs at some positions as pass C records them: the edits of pass D, for who wants more than its END.

    Receivers before every sender are left out: nothing reaches them. MLPs are recomputed.
    """
    frozen, z = trace(model, base, positions), trace(model, new, positions).z
    return _pass_c(model, frozen, z, [senders], receivers, "recomputed")[2][0]


def _pass_c(
    model: Steps,
    frozen: Trace,
    z: Float[Tensor, "layer prompt k head d_head"],
    senders: Sequence[Sequence[Head]],
    receivers: Receivers | None,
    mlps: Mlps,
) -> tuple[Float[Tensor, "entered prompt k d_model"], list[int], list[list[Edit]]]:
    """The stream with senders changed and all other heads frozen, and whose stream it is; and what receivers make of it.

    Returns the stream after the last layer that is needed, the numbers of the senders that have entered it, in its order, and
    for every set of senders the receivers' inputs as edits.
    """
    n_prompts, width = frozen.positions.shape
    forward_passes.count(n_prompts * len(senders))
    order = sorted(range(len(senders)), key=lambda i: min((head.layer for head in senders[i]), default=model.n_layers))
    entry = {i: min((head.layer for head in senders[i]), default=model.n_layers) for i in order}
    state = frozen.pre.new_empty(0, n_prompts, width, model.d_model)
    inside: list[int] = []
    edits: list[list[Edit]] = [[] for _ in senders]
    last = model.n_layers if receivers is None else max((head.layer for head in receivers.heads), default=-1)
    for layer in range(model.n_layers):
        if receivers is not None and inside:
            for head in receivers.heads:
                if head.layer == layer:
                    values = model.head_input(layer, state, head.head, receivers.input)
                    for row, sender in enumerate(inside):
                        edits[sender].append(Edit(layer, receivers.input, values[row], head.head, frozen.positions))
        if layer >= last:
            break
        entering = [i for i in order if entry[i] == layer]
        if entering:
            state = torch.cat([state, frozen.pre[layer].expand(len(entering), *frozen.pre[layer].shape)])
            inside = inside + entering
        if not inside:
            continue
        mid = state + (frozen.mid[layer] - frozen.pre[layer])
        for row, sender in enumerate(inside):
            sending = [head.head for head in dict.fromkeys(senders[sender]) if head.layer == layer]  # named twice, still one
            if sending:
                mid[row] += _sent(model, layer, frozen.z[layer], z[layer], sending)
        if mlps == "recomputed" and model.parallel:
            mid += model.mlp(layer, state)
        elif mlps == "recomputed":
            model.add_mlp_out_(layer, mid)
        else:
            mid += frozen.pre[layer + 1] - frozen.mid[layer]
        state = mid
    return state, inside, edits


def _sent(
    model: Steps,
    layer: int,
    old: Float[Tensor, "prompt k head d_head"],
    new: Float[Tensor, "prompt k head d_head"],
    heads: Sequence[int],
) -> Float[Tensor, "prompt k d_model"]:
    """What the attention adds to the stream besides, where the outputs of some heads are the new ones."""
    if model.heads_add_up:
        return torch.stack([model.head_out(layer, new[:, :, head] - old[:, :, head], head) for head in heads]).sum(0)
    changed = old.clone()
    changed[:, :, heads] = new[:, :, heads]
    return model.attn_out(layer, changed) - model.attn_out(layer, old)


def _one_chunk(
    model: Steps,
    base: Run,
    frozen: Trace,
    z: Float[Tensor, "layer prompt k head d_head"],
    senders: Sequence[Sequence[Head]],
    receivers: Receivers | None,
    mlps: Mlps,
    memory: int,
) -> Float[Tensor, "sender prompt d_model"]:
    state, inside, edits = _pass_c(model, frozen, z, senders, receivers, mlps)
    untouched = frozen.pre[-1][:, -1] if receivers is None else base.resid[-1][:, -1]
    result = untouched.expand(len(senders), *untouched.shape).clone()
    if receivers is None:
        result[inside] = state[:, :, -1]
        return result
    reached = [i for i in range(len(senders)) if edits[i]]
    if reached:
        result[reached] = intervene(model, base, [edits[i] for i in reached], memory=memory)
    return result
