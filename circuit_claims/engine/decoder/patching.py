"""Interventions, computed in their causal cone.

Setting an activation at layer L and position p can change only layers from L on, at positions from p on. `intervene` computes
that and nothing else: keys and values of earlier positions come from the untouched run, all interventions that begin at one
position travel through the layers as one growing batch, and in the last layer only END is computed.
"""

import bisect
import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims import forward_passes
from circuit_claims.engine.decoder.layer import BaseLayer, enter_at_heads, few_positions, head_touched, through
from circuit_claims.engine.decoder.steps import Steps
from circuit_claims.engine.edits import LATE_SITES, Edit, set_activation, slice_edit
from circuit_claims.engine.run import ROWS, Run, slice_run
from circuit_claims.time_spent import spent_on


@spent_on("interventions")
@torch.inference_mode()
def intervene(
    model: Steps,
    base: Run,
    interventions: Sequence[Sequence[Edit]],
    *,
    start: int = 0,
    memory: int | None = None,
) -> Float[Tensor, "intervention prompt d_model"]:
    """The final residual stream at the last position under each of several interventions on one run.

    base: the run that is intervened on.
    interventions: each is a set of edits made together. An edit whose value is the base's own changes nothing.
    start: a position before which no edit with `positions=None` differs from the base (for a pair of prompts, the first at
        which their tokens differ). Edits with positions need no help: the causal cone starts at the earliest of them.
    memory: bytes that the activations of a chunk may take (the model's own cap unless given); prompts, and then
        interventions, are split to stay below.

    Returns `[intervention, prompt, d_model]`, before the final norm.

    Raises Unsupported, with the reason, for edits that have no meaning in this architecture, and ValueError for an edit of all
    keys or values that has not one entry a group.
    """
    memory = model.max_memory if memory is None else memory
    model.check_edits([edit for edits in interventions for edit in edits])
    n_prompts, length = base.tokens.shape
    forward_passes.count(n_prompts * len(interventions))
    result = base.resid[-1, :, -1].expand(len(interventions), n_prompts, model.d_model).clone()
    cones: dict[int, list[int]] = {}
    for index, edits in enumerate(interventions):
        if edits:
            cones.setdefault(min(edit.first_position(start) for edit in edits), []).append(index)
    for first, members in cones.items():
        members.sort(key=lambda index: _entry(model, interventions[index]))
        # The stream itself, and as much again where the last layer or an entry copies it; what is inside a layer is bounded.
        one = 2 * (length - first) * model.d_model * base.resid.element_size()
        fitting = max(1, memory // one)
        n_members = min(len(members), fitting)
        # One intervention on very many tokens would be a block of its own, wider than a layer's inside may be.
        step = max(1, min(fitting // n_members, 4 * ROWS // (length - first)))
        for at in range(0, n_prompts, step):
            chunk = slice(at, at + step)
            part = slice_run(base, chunk)
            for begin in range(0, len(members), n_members):
                some = members[begin : begin + n_members]
                edits = [[slice_edit(edit, chunk) for edit in interventions[index]] for index in some]
                result[some, chunk] = _causal_cone(model, part, edits, first)
    return result


def _causal_cone(model: Steps, base: Run, interventions: Sequence[Sequence[Edit]], first: int) -> Tensor:
    """The final stream at END under interventions, in the order in which they enter, that begin at one position."""
    n_prompts, length = base.tokens.shape
    state = base.resid.new_empty(len(interventions), n_prompts, length - first, model.d_model)
    few: list[Tensor | None] = [None] * len(interventions)  # where alone the stream before the layer is not the base's
    under_way, entries = 0, [_entry(model, its)[0] for its in interventions]
    for layer in range(model.n_layers):
        last = layer == model.n_layers - 1
        here = BaseLayer(model, base, layer, first, seen=length - 1 if last else first)
        edits = [[edit for edit in its if edit.layer == layer] for its in interventions]
        entering = range(under_way, bisect.bisect_right(entries, layer))
        ways = [_way_in(model, edits[row]) for row in entering]
        whole, by_head = under_way + ways.count(0), under_way + ways.count(0) + ways.count(1)
        state[under_way:whole] = base.resid[layer, :, first:]
        after = state if not last else state.new_empty(len(state), n_prompts, 1, model.d_model)
        for row in range(under_way):
            if any(edit.site == "resid_pre" for edit in edits[row]):
                few[row] = None  # what is set here may be elsewhere than what was under way
        for row in range(under_way, whole):
            few[row] = few_positions([edit for edit in edits[row] if edit.site == "resid_pre"] or edits[row])
        for some, changed in _alike(few[:whole]):
            out = through(here, state[some], edits[some], changed)
            if last:  # else it is done in place
                after[some] = out
        few[:whole] = [None] * whole
        for row in range(whole, under_way + len(ways)):
            few[row] = few_positions(edits[row])
        if by_head > whole:
            after[whole:by_head] = enter_at_heads(here, edits[whole:by_head])
        for row in range(by_head, under_way + len(ways)):
            after[row] = _enter_late(here, edits[row])
        state, under_way = after, under_way + len(ways)
    return state[:, :, -1]


def _alike(few: Sequence[Tensor | None]) -> list[tuple[slice, Tensor | None]]:
    """Neighbouring interventions whose streams are the base's own at all but equally many positions, or at none."""
    widths = [None if where is None else where.shape[1] for where in few]
    groups, begin = [], 0
    for _, members in itertools.groupby(widths):
        end = begin + len(list(members))
        groups.append(
            (
                slice(begin, end),
                None if few[begin] is None else torch.stack([where for where in few[begin:end] if where is not None]),
            )
        )
        begin = end
    return groups


def _entry(model: Steps, edits: Sequence[Edit]) -> tuple[int, int]:
    """Where an intervention enters: its first layer, and its way into it."""
    layer = min(edit.layer for edit in edits)
    return layer, _way_in(model, [edit for edit in edits if edit.layer == layer])


def _way_in(model: Steps, edits: Sequence[Edit]) -> int:
    """How one gets into a layer by these edits: 0 from its beginning, 1 inside one head, 2 after the attention."""
    if all(edit.site in LATE_SITES for edit in edits):
        return 2
    return 1 if head_touched(edits, model.core(edits[0].layer)) is not None else 0


def _enter_late(here: BaseLayer, edits: Sequence[Edit]) -> Float[Tensor, "prompt seen d_model"]:
    """The stream after the layer for an intervention that sets what the MLP wrote, or the stream itself."""
    stream = here.post.clone()
    for edit in edits:
        if edit.site == "mlp_out":
            stream = here.mid + set_activation(stream - here.mid, edit, here.seen)
    for edit in edits:
        if edit.site == "resid_post":
            set_activation(stream, edit, here.seen)
    return stream
