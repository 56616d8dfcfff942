"""One layer of many interventions on one run, at the positions that they reach.

What is under way goes through whole; what enters inside the layer starts from the run's own activations there, so that an
intervention on one head pays neither for the queries, keys and values of its layer nor for the positions it does not touch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims.engine.decoder.attention_core import AttentionCore, softmax
from circuit_claims.engine.decoder.steps import Steps
from circuit_claims.engine.edits import HEAD_SITES, Edit, Site, set_activation
from circuit_claims.engine.run import ROWS, Run
from circuit_claims.heads import Head


@dataclass(frozen=True)
class BaseLayer:
    """One layer of the run that is intervened on; what is inside is computed where it is asked for.

    first: the first position of the causal cone; seen: the first whose output anybody will look at (END in the last layer).
    """

    model: Steps
    base: Run
    layer: int
    first: int
    seen: int

    @property
    def length(self) -> int:
        """Of the whole sequence."""
        return self.base.tokens.shape[1]

    @cached_property
    def core(self) -> AttentionCore:
        """What the layer does between its projections."""
        return self.model.core(self.layer)

    @cached_property
    def keys_and_values(
        self,
    ) -> tuple[Float[Tensor, "prompt pos kv_head d_head"], Float[Tensor, "prompt pos kv_head d_head"]]:
        """Of all positions, as projected."""
        return self.model.keys_and_values_of(self.base, self.layer)

    @cached_property
    def turned_keys(self) -> Float[Tensor, "prompt pos kv_head d_head"]:
        """Keys of all positions as the scores take them."""
        return self.core.turned_k(self.keys_and_values[0], 0, self.length)

    @cached_property
    def q(self) -> Float[Tensor, "prompt seen head d_head"]:
        """Queries from `seen` on, as projected."""
        return self.model.queries(self.layer, self.base.resid[self.layer, :, self.seen :])

    @cached_property
    def turned_q(self) -> Float[Tensor, "prompt seen head d_head"]:
        """Queries from `seen` on as the scores take them."""
        return self.core.turned_q(self.q, self.seen, self.length)

    @cached_property
    def z(self) -> Float[Tensor, "prompt seen head d_head"]:
        """Head outputs from `seen` on."""
        return self.core.mixed(self.core.pattern(self.turned_q, self.turned_keys, self.seen), self.keys_and_values[1])

    @cached_property
    def projected(self) -> Float[Tensor, "prompt seen d_model"]:
        """Head outputs through their projection, from `seen` on."""
        return self.model.projected(self.layer, self.z)

    @cached_property
    def mid(self) -> Float[Tensor, "prompt seen d_model"]:
        """The stream before the layer and what the attention adds to it, from `seen` on."""
        return self.base.resid[self.layer, :, self.seen :] + self.model.written(self.layer, self.projected)

    @property
    def post(self) -> Float[Tensor, "prompt seen d_model"]:
        """The stream after the layer, from `seen` on."""
        return self.base.resid[self.layer + 1, :, self.seen :]


def through(
    here: BaseLayer,
    rows: Float[Tensor, "row prompt cone d_model"],
    edits: Sequence[Sequence[Edit]],
    changed: Int[Tensor, "row prompt k"] | None = None,
) -> Tensor:
    """Take interventions through the layer; `edits[row]` are each one's edits in it.

    rows: the stream before the layer, from `first` on; changed in place. changed: the only positions at which it is not the
    base's own, where they are few: queries, keys and values are computed there alone. Returns the stream after the layer, from
    `seen` on.
    """
    model, layer, ahead = here.model, here.layer, here.seen - here.first
    result = rows if not ahead else rows.new_empty(*rows.shape[:2], rows.shape[2] - ahead, rows.shape[3])
    step = max(1, ROWS // (rows.shape[1] * rows.shape[2]))
    for at in range(0, len(rows), step):
        part, here_edits = rows[at : at + step], edits[at : at + step]
        _apply(part, "resid_pre", here_edits, here.first)
        after = part[:, :, ahead:].contiguous() if ahead else part
        if changed is not None:
            q, k, v = _few_inputs(here, part, changed[at : at + step])
        elif ahead:
            q, (k, v) = model.queries(layer, after), model.keys_and_values(layer, part)
        else:
            q, k, v = model.qkv(layer, part)
        _apply(q, "q", here_edits, here.seen)
        k, v = _set_keys(here, k, here_edits), _set_values(here, v, here_edits)
        z = _attend(here, q, k, v, here_edits)
        _apply(z, "z", here_edits, here.seen)
        _write(here, after, z, here_edits)
        if ahead:
            result[at : at + step] = after
    return result


def _few_inputs(
    here: BaseLayer, part: Float[Tensor, "row prompt cone d_model"], changed: Int[Tensor, "row prompt k"]
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries from `seen` on, keys and values from `first` on: the base's own but at a few positions of each prompt."""
    rows, prompts = (torch.arange(n, device=part.device) for n in part.shape[:2])
    where = (rows[:, None, None], prompts[:, None], changed - here.first)
    new_q, new_k, new_v = here.model.qkv(here.layer, part[where])
    k, v = (old[:, here.first :].expand(len(part), -1, -1, -1, -1).clone() for old in here.keys_and_values)
    k[where], v[where] = new_k, new_v
    if here.seen > here.first:
        return here.model.queries(here.layer, part[:, :, here.seen - here.first :]), k, v
    q = here.q.expand(len(part), -1, -1, -1, -1).clone()
    q[where] = new_q
    return q, k, v


def _set_keys(here: BaseLayer, k: Tensor, edits: Sequence[Sequence[Edit]]) -> Tensor:
    """Keys as the scores take them, with what is set in them; where a head of a group gets its own, every head has its own."""
    own = _own(here, k, "k", edits)
    if own is None:
        return here.core.turned_k(k, here.first, here.length)
    return here.core.turned_own_k(k, own, here.first, here.length)


def _set_values(here: BaseLayer, v: Tensor, edits: Sequence[Sequence[Edit]]) -> Tensor:
    """Values, likewise."""
    own = _own(here, v, "v", edits)
    return v if own is None else own


def _own(here: BaseLayer, shared: Tensor, site: Site, edits: Sequence[Sequence[Edit]]) -> Tensor | None:
    """Make edits of keys or values in place; what each head has, where one of a group gets its own."""
    its = [[edit for edit in row if edit.site == site] for row in edits]
    if here.core.group == 1 or all(edit.head is None for row in its for edit in row):
        _apply(shared, site, its, here.first)
        return None
    _apply(shared, site, [[edit for edit in row if edit.head is None] for row in its], here.first)
    own = here.core.of_each_head(shared)
    _apply(own, site, [[edit for edit in row if edit.head is not None] for row in its], here.first)
    return own


def _write(here: BaseLayer, stream: Tensor, z: Tensor, edits: Sequence[Sequence[Edit]]) -> None:
    """Add the attention's output and the MLP's to the stream, in place, with what is set on the way."""
    sites = {edit.site for row in edits for edit in row}
    beside = here.model.mlp(here.layer, stream) if here.model.parallel else None
    before = stream.clone() if "attn_out" in sites else None
    here.model.add_attn_out_(here.layer, stream, z)
    if before is not None:
        # What the layer wrote is changed, and the stream gets the change.
        out = stream - before
        _apply(out, "attn_out", edits, here.seen)
        torch.add(before, out, out=stream)
    _apply(stream, "resid_mid", edits, here.seen)
    before = stream.clone() if "mlp_out" in sites and beside is None else None
    if beside is not None:
        _apply(beside, "mlp_out", edits, here.seen)
        stream += beside
    else:
        here.model.add_mlp_out_(here.layer, stream)
    if before is not None:
        out = stream - before
        _apply(out, "mlp_out", edits, here.seen)
        torch.add(before, out, out=stream)
    _apply(stream, "resid_post", edits, here.seen)


def _apply(tensor: Tensor, site: Site, edits: Sequence[Sequence[Edit]], first: int) -> None:
    for row, its in enumerate(edits):
        for edit in its:
            if edit.site == site:
                set_activation(tensor[row], edit, first)


def _attend(here: BaseLayer, q: Tensor, k: Tensor, v: Tensor, edits: Sequence[Sequence[Edit]]) -> Tensor:
    """z from the interventions' own queries, turned keys and values, and the base's keys and values before the causal cone."""
    core, first, length = here.core, here.first, here.length
    q = core.turned_q(q, here.seen, length)
    if k.shape[-2] != v.shape[-2]:  # one of the two was set for one head of a group
        k, v = (part if part.shape[-2] == q.shape[-2] else core.of_each_head(part) for part in (k, v))
    rows, n_prompts, width, n_heads, d_head = q.shape
    groups = k.shape[-2]
    patterns = any(edit.site == "pattern" for its in edits for edit in its)
    before: tuple[Tensor, ...] = ()
    if first:
        before = tuple(part[:, :first] for part in (here.turned_keys, here.keys_and_values[1]))
        before = tuple(part if part.shape[-2] == groups else core.of_each_head(part) for part in before)
    # The fused kernel wants all keys side by side: worth the copy unless nearly all of them are old, and common to all rows.
    if not patterns and core.cap is None and first <= k.shape[2] and length > 1:
        if before:
            k, v = (torch.cat([old.expand(rows, *old.shape), new], 2) for old, new in zip(before, (k, v), strict=True))
        return core.attend(q, k, v, here.seen)
    # Query heads of a group stand side by side, and meet their common keys in one product: [row, prompt, group, query, d_head].
    queries = q.transpose(2, 3).reshape(rows, n_prompts, groups, -1, d_head)
    scores = torch.empty(*queries.shape[:4], length, dtype=q.dtype, device=q.device)
    if k.shape[2] == 1:
        scores[..., first:] = (queries * k.transpose(2, 3)).sum(-1, keepdim=True)
    else:
        scores[..., first:] = queries @ k.permute(0, 1, 3, 4, 2)
    if before:
        # One matrix product a prompt and group serves the queries of all interventions: the old keys are common to them.
        shared = queries.permute(1, 2, 0, 3, 4).reshape(n_prompts, groups, -1, d_head)
        old = (shared @ before[0].permute(0, 2, 3, 1)).view(n_prompts, groups, rows, -1, first)
        scores[..., :first] = old.permute(2, 0, 1, 3, 4)
    scores = core.capped(scores.mul_(core.scale)).view(rows, n_prompts, n_heads, width, length)
    hidden = core.hidden(width, length, here.seen, q.device)
    if hidden is not None:
        scores.masked_fill_(hidden, -torch.inf)
    pattern = softmax(scores)
    if patterns:
        # A view with positions before heads, as of all other sites.
        _apply(pattern.transpose(2, 3), "pattern", edits, here.seen)
    pattern = pattern.view(rows, n_prompts, groups, -1, length)
    new = v.transpose(2, 3)
    z = pattern[..., first:] * new if v.shape[2] == 1 else pattern[..., first:] @ new
    if before:
        weights = pattern[..., :first].permute(1, 2, 0, 3, 4).reshape(n_prompts, groups, -1, first)
        z = z + (weights @ before[1].transpose(1, 2)).view(n_prompts, groups, rows, -1, d_head).permute(2, 0, 1, 3, 4)
    return z.view(rows, n_prompts, n_heads, width, d_head).transpose(2, 3)


def head_touched(edits: Sequence[Edit], core: AttentionCore) -> Head | None:
    """The one head whose inside these edits of one layer set, where it is one head and nothing else.

    None where other heads change with it: where queries and keys of all heads are normed together.
    """
    if core.norms_all_heads and any(edit.site in ("q", "k") for edit in edits):
        return None
    heads = {edit.head if edit.site in HEAD_SITES else None for edit in edits}
    head = heads.pop() if len(heads) == 1 else None
    return None if head is None else Head(edits[0].layer, head)


def enter_at_heads(here: BaseLayer, edits: Sequence[Sequence[Edit]]) -> Float[Tensor, "row prompt seen d_model"]:
    """The stream after the layer for interventions that enter it inside one head each.

    Everything but that head's output is the base's own. Where only queries, patterns or outputs at some positions are set, the
    rest of the positions leave the layer as the base does, and only the changed ones go through the MLP.
    """
    out = here.post.expand(len(edits), *here.post.shape).clone()
    groups: dict[tuple[bool, int | None], list[int]] = {}
    for row, its in enumerate(edits):
        groups.setdefault((all(edit.site == "z" for edit in its), _columns(here, its)), []).append(row)
    for (only_z, columns), rows in groups.items():
        size = max(1, ROWS // (out.shape[1] * (columns or out.shape[2])))
        for at in range(0, len(rows), size):
            some = rows[at : at + size]
            _enter(here, out, some, [edits[row] for row in some], only_z=only_z, narrow=columns is not None)
    return out


def _enter(
    here: BaseLayer, out: Tensor, rows: Sequence[int], edits: Sequence[Sequence[Edit]], *, only_z: bool, narrow: bool
) -> None:
    model, layer = here.model, here.layer
    heads = torch.tensor([its[0].head for its in edits], device=out.device)
    old_z = here.z[:, :, heads].permute(2, 0, 1, 3)  # [row, prompt, seen, d_head]
    z = old_z.clone() if only_z else _one_head_each(here, heads, edits)
    for row, its in enumerate(edits):
        for edit in its:
            if edit.site == "z":
                set_activation(z[row], edit, here.seen, one_head=True)
    change, index = z - old_z, None
    if narrow:
        where = torch.stack([few for its in edits if (few := its[0].positions) is not None]) - here.seen  # [row, prompt, k]
        index = (
            torch.arange(len(rows), device=out.device)[:, None, None],
            torch.arange(out.shape[1], device=out.device)[:, None],
            where,
        )
        change = change[index]

    def at(base: Float[Tensor, "prompt seen d_model"]) -> Tensor:
        """The base's own in each row, at the positions that change."""
        base = base.expand(len(rows), *base.shape)
        return base if index is None else base[index]

    stream = _with_change(here, at, change, model.W_O(layer).view(model.n_heads, model.d_head, model.d_model)[heads])
    numbers = torch.tensor(list(rows), device=out.device)
    if index is None:
        out[numbers] = stream
    else:
        out[numbers[:, None, None], index[1], index[2]] = stream


def _with_change(
    here: BaseLayer, at: Callable[[Tensor], Tensor], change: Tensor, W_O: Float[Tensor, "row d_head d_model"]
) -> Tensor:
    """The stream after the layer, where one head's output in each row is changed and all others are the base's own."""
    model, layer = here.model, here.layer
    if model.parallel:  # the MLP does not see the change
        after = at(here.post)
        return torch.baddbmm(after.flatten(1, 2), change.flatten(1, 2), W_O, alpha=model.write_scale).view(after.shape)
    if model.heads_add_up:
        mid = at(here.mid)
        stream = torch.baddbmm(mid.flatten(1, 2), change.flatten(1, 2), W_O, alpha=model.write_scale).view(mid.shape)
    else:
        base = at(here.projected)
        projected = torch.baddbmm(base.flatten(1, 2), change.flatten(1, 2), W_O).view(base.shape)
        stream = at(here.base.resid[layer, :, here.seen :]) + model.written(layer, projected)
    model.add_mlp_out_(layer, stream)
    return stream


def few_positions(edits: Sequence[Edit]) -> Int[Tensor, "prompt k"] | None:
    """The only positions at which the stream differs from the base's after edits of one layer, the first that they are in.

    None where these may be many: keys and values are seen by all later queries.
    """
    first = edits[0].positions
    if first is None or any(edit.site in ("k", "v", "attn_out", "resid_mid") for edit in edits):
        return None
    same = all(edit.positions is not None and (edit.positions is first or torch.equal(edit.positions, first)) for edit in edits)
    return first if same else None


def _columns(here: BaseLayer, edits: Sequence[Edit]) -> int | None:
    """How many positions a prompt one intervention on a head changes in this layer, where they are few."""
    few = few_positions(edits)
    # In the last layer only END is looked at, and edits at other positions fall away.
    return few.shape[1] if few is not None and here.seen == here.first else None


def _one_head_each(here: BaseLayer, heads: Int[Tensor, " row"], edits: Sequence[Sequence[Edit]]) -> Tensor:
    """z of one head for each intervention, from its queries, keys, values and pattern as they are set."""
    core, sites = here.core, {edit.site for its in edits for edit in its}
    shared = heads // core.group

    def each(part: Tensor, which: Tensor) -> Float[Tensor, "row prompt pos d_head"]:
        return part[:, :, which].permute(2, 0, 1, 3).contiguous()

    # Of queries and keys, those that are set are so as projected; all others are the base's own, normed and rotated already.
    q = each(here.q if "q" in sites else here.turned_q, heads)
    k = each(here.keys_and_values[0] if "k" in sites else here.turned_keys, shared)
    v = each(here.keys_and_values[1], shared)
    for row, its in enumerate(edits):
        for edit in its:
            if edit.site in ("q", "k", "v"):
                tensor, first = {"q": (q, here.seen), "k": (k, 0), "v": (v, 0)}[edit.site]
                set_activation(tensor[row], edit, first, one_head=True)
    if "q" in sites:
        q = core.turned_q(q, here.seen, here.length, heads=False)
    if "k" in sites:
        k = core.turned_k(k, 0, here.length, heads=False)
    scores = core.capped(q @ k.transpose(-1, -2) * core.scale)
    hidden = core.hidden(q.shape[2], k.shape[2], here.seen, q.device)
    pattern = softmax(scores if hidden is None else scores.masked_fill_(hidden, -torch.inf))
    for row, its in enumerate(edits):
        for edit in its:
            if edit.site == "pattern":
                set_activation(pattern[row], edit, here.seen, one_head=True)
    return pattern @ v
