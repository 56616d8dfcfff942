"""A slow and plain twin of every engine: whole forward passes of transformers' own model, with PyTorch's own hooks.

Nothing here is an engine's: no cone, no batch of interventions, no attention computed anew. One pass makes one set of edits,
one prompt after the other.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from circuit_claims.engine.edits import Edit
from circuit_claims.engine.paths import Part, Receivers
from circuit_claims.heads import Head


@dataclass(frozen=True)
class Names:
    """What an architecture calls its parts.

    layers: below the model; all others are below a layer. q, k, v: the projections, or three times the one that gives all of
    them; fused: how that one arranges what it gives. attn_added, mlp_added: whose output is added to the stream.
    """

    layers: str
    q: str
    k: str
    v: str
    o: str
    attention: str
    attn_added: str
    mlp_added: str = "mlp"
    fused: str = ""

    @classmethod
    def of(cls, layers: str, attention: str, o: str, *, fused: tuple[str, str] | None = None, **more: str) -> "Names":
        """Names as they mostly are: projections below the attention, which adds what it gives."""
        module, kind = fused or ("", "")
        projections = {which: f"{attention}.{module or which + '_proj'}" for which in ("q", "k", "v")}
        given = {"attention": attention, "attn_added": attention, "o": f"{attention}.{o}", "fused": kind} | projections | more
        return cls(layers, **given)


USUAL = Names.of("model.layers", "self_attn", "o_proj")
NORMED_AFTER = replace(USUAL, attn_added="post_attention_layernorm", mlp_added="post_feedforward_layernorm")
#: By the configuration's `model_type`; all others have the usual names.
NAMES = {
    "gpt2": Names.of("transformer.h", "attn", "c_proj", fused=("c_attn", "q, k, v")),
    "gpt_neo": Names.of("transformer.h", "attn.attention", "out_proj"),
    "gpt_neox": Names.of("gpt_neox.layers", "attention", "dense", fused=("query_key_value", "head by head")),
    "gptj": Names.of("transformer.h", "attn", "out_proj"),
    "opt": Names.of("model.decoder.layers", "self_attn", "out_proj", mlp_added="fc2"),
    "gemma2": NORMED_AFTER,
    "gemma3_text": NORMED_AFTER,
    "olmo2": NORMED_AFTER,
    "phi3": Names.of("model.layers", "self_attn", "o_proj", fused=("qkv_proj", "q, k, v")),
    "phi": Names.of("model.layers", "self_attn", "dense"),
    "falcon": Names.of("transformer.h", "self_attention", "dense", fused=("query_key_value", "group by group")),
}


@dataclass
class Pass:
    """A forward pass: what was at every layer and site in the end, `[prompt, pos, ...]`; pattern: `[prompt, head, query, key]`.

    Patterns are those before any edit of them. own_pattern: of heads whose key or value is not their group's, by layer and
    head, `[prompt, query, key]`. final: what goes into the final norm.
    """

    at: dict[tuple[int, str], Tensor] = field(default_factory=dict)
    own_pattern: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    final: Tensor = field(default_factory=lambda: torch.empty(0))
    logits: Tensor = field(default_factory=lambda: torch.empty(0))


class PlainDecoder:
    """One model of transformers, with eager attention."""

    def __init__(self, model: Any) -> None:
        config = model.config
        self.model, self.names = model, NAMES.get(config.model_type, USUAL)
        self.layers: list[nn.Module] = list(model.get_submodule(self.names.layers))
        self.n_heads: int = config.num_attention_heads
        self.n_kv_heads: int = getattr(config, "num_key_value_heads", None) or self.n_heads
        if config.model_type == "falcon":
            self.n_kv_heads = config.num_kv_heads if config.new_decoder_architecture else 1
        self.d_head: int = getattr(config, "head_dim", None) or config.hidden_size // self.n_heads
        self.multiplier: float = getattr(config, "residual_multiplier", 1.0)

    def group_of(self, head: int, site: str = "k") -> int:
        """Where a head's own query, or its group's key or value, stands."""
        return head if site not in ("k", "v") else head // (self.n_heads // self.n_kv_heads)

    def columns(self, which: str) -> Tensor:
        """Where in what its projection gives the query, key or value of each head (group) is: `[head, d_head]`."""
        heads, groups, width = self.n_heads, self.n_kv_heads, self.d_head
        n = heads if which == "q" else groups
        if self.names.fused == "q, k, v":
            starts = [{"q": 0, "k": heads, "v": heads + groups}[which] + i for i in range(n)]
        elif self.names.fused == "head by head":
            starts = [3 * i + "qkv".index(which) for i in range(n)]
        elif self.names.fused == "group by group":
            each = heads // groups
            starts = [(i // each) * (each + 2) + i % each if which == "q" else i * (each + 2) + each for i in range(n)]
            starts = [start + (which == "v") for start in starts]
        else:
            starts = list(range(n))
        return torch.tensor(starts)[:, None] * width + torch.arange(width)

    def __call__(self, tokens: Tensor, edits: Sequence[Edit] = ()) -> Pass:
        """One forward pass with edits made together; later ones of the same place last."""
        hooks = _Hooks(self, edits)
        with hooks.hung():
            hooks.found.logits = self.model(input_ids=tokens, use_cache=False).logits
        return hooks.found

    def from_layer(self, layer: int, stream: Tensor, edits: Sequence[Edit] = ()) -> Pass:
        """A whole pass in which this stream `[prompt, pos, d_model]` is put before a layer, whatever the tokens were."""
        return self(torch.ones(stream.shape[:2], dtype=torch.long), [Edit(layer, "resid_pre", stream), *edits])


class _Hooks:
    """The hooks of one pass."""

    def __init__(self, plain: PlainDecoder, edits: Sequence[Edit]) -> None:
        self.plain, self.edits, self.found = plain, edits, Pass()
        self.alone: int | None = None  # the head whose own keys and values stand in its group's place at the moment
        self.taken: dict[int, Tensor] = {}  # of such heads, what they gave
        self.values: Tensor = torch.empty(0)  # of the attention that is under way

    def at(self, layer: int, *sites: str) -> list[Edit]:
        return [edit for edit in self.edits if edit.layer == layer and edit.site in sites]

    def of_one_head(self, layer: int) -> list[Edit]:
        """Edits of the key or value of one head that shares it with others."""
        if self.plain.n_heads == self.plain.n_kv_heads:
            return []
        return [edit for edit in self.at(layer, "k", "v") if edit.head is not None]

    @contextmanager
    def hung(self) -> Iterator[None]:
        names, handles, replaced = self.plain.names, [], []
        for index, layer in enumerate(self.plain.layers):
            handles.append(layer.register_forward_pre_hook(self._before(index), with_kwargs=True))
            for projection in dict.fromkeys((names.q, names.k, names.v)):
                sites = [site for site in ("q", "k", "v") if getattr(names, site) == projection]
                handles.append(layer.get_submodule(projection).register_forward_hook(self._projected(index, sites)))
            handles.append(layer.get_submodule(names.o).register_forward_pre_hook(self._heads(index)))
            attention = layer.get_submodule(names.attention)
            replaced.append(attention)
            attention.forward = self._attention(index, attention.forward)
            handles.append(attention.register_forward_hook(self._pattern(index)))
            handles.append(layer.get_submodule(names.attn_added).register_forward_hook(self._attn_added(index)))
            handles.append(layer.get_submodule(names.mlp_added).register_forward_hook(self._mlp_added(index)))
            handles.append(layer.register_forward_hook(self._after(index)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            for module in replaced:
                del module.forward

    def _before(self, layer: int) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            stream = put_all(args[0], self.at(layer, "resid_pre"))
            self.found.at[layer, "resid_pre"] = stream.clone()
            return (stream, *args[1:]), kwargs

        return hook

    def _projected(self, layer: int, sites: Sequence[str]) -> Callable[..., Tensor]:
        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            output = output.clone()
            for site in sites:
                columns, shared = self.plain.columns(site), site != "q" and self.plain.n_kv_heads < self.plain.n_heads
                edits = self.at(layer, site)
                there = put_all(output[..., columns], [edit for edit in edits if not shared or edit.head is None])
                if shared and self.alone is not None:
                    own = [edit for edit in edits if edit.head == self.alone]
                    there = put_all(there, [replace(edit, head=self.plain.group_of(self.alone)) for edit in own])
                output[..., columns] = there
                if site == "v":
                    self.values = there
                if self.alone is None:
                    self.found.at[layer, site] = there.clone()
            return output

        return hook

    def _attention(self, layer: int, attention: Callable[..., Any]) -> Callable[..., Any]:
        """Once more for every head whose key or value is its own; what it gives is taken from there."""

        def forward(*args: Any, **kwargs: Any) -> Any:
            self.taken = {}
            for head in sorted({edit.one_head for edit in self.of_one_head(layer)}):
                self.alone = head
                self.found.own_pattern[layer, head] = attention(*args, **kwargs)[1][:, head]
                self.alone = None
            return attention(*args, **kwargs)

        return forward

    def _heads(self, layer: int) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> Any:
            z = args[0].view(*args[0].shape[:2], self.plain.n_heads, self.plain.d_head).clone()
            for edit in self.at(layer, "pattern"):
                z = self._averaged(z, edit)
            if self.alone is not None:
                self.taken[self.alone] = z[:, :, self.alone]
                return None
            for head, given in self.taken.items():
                z[:, :, head] = given
            z = put_all(z, self.at(layer, "z"))
            self.found.at[layer, "z"] = z.clone()
            return (z.flatten(2), *args[1:])

        return hook

    def _averaged(self, z: Tensor, edit: Edit) -> Tensor:
        """Where a pattern is set, values averaged by it."""
        z = z.clone()
        for prompt in range(len(z)):
            for column, position in enumerate(positions_of(edit, prompt, z)):
                for head in range(self.plain.n_heads) if edit.head is None else [edit.one_head]:
                    pattern = edit.value[prompt, column] if edit.head is not None else edit.value[prompt, column, head]
                    z[prompt, position, head] = pattern @ self.values[prompt, :, self.plain.group_of(head)]
        return z

    def _pattern(self, layer: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: tuple[Tensor, Tensor]) -> None:
            self.found.at[layer, "pattern"] = output[1]

        return hook

    def _attn_added(self, layer: int) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            given = output if isinstance(output, Tensor) else output[0]
            pre = self.found.at[layer, "resid_pre"]
            added = put_all(given.view(pre.shape) * self.plain.multiplier, self.at(layer, "attn_out"))
            if self.at(layer, "resid_mid"):
                added = put_all(pre + added, self.at(layer, "resid_mid")) - pre
            self.found.at[layer, "attn_out"] = added.clone()
            self.found.at[layer, "resid_mid"] = pre + added
            changed = added.view(given.shape) / self.plain.multiplier
            return changed if isinstance(output, Tensor) else (changed, *output[1:])

        return hook

    def _mlp_added(self, layer: int) -> Callable[..., Tensor]:
        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            shape = self.found.at[layer, "resid_pre"].shape
            added = put_all(output.view(shape) * self.plain.multiplier, self.at(layer, "mlp_out"))
            self.found.at[layer, "mlp_out"] = added.clone()
            return added.view(output.shape) / self.plain.multiplier

        return hook

    def _after(self, layer: int) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            stream = put_all(output if isinstance(output, Tensor) else output[0], self.at(layer, "resid_post"))
            self.found.at[layer, "resid_post"] = self.found.final = stream
            return stream if isinstance(output, Tensor) else (stream, *output[1:])

        return hook


def positions_of(edit: Edit, prompt: int, activation: Tensor) -> list[int]:
    """Where an edit is made in one prompt of an activation `[prompt, pos, ...]`."""
    return list(range(activation.shape[1])) if edit.positions is None else edit.positions[prompt].tolist()


def put(activation: Tensor, edit: Edit) -> Tensor:
    """An edit, made in one prompt after the other of an activation `[prompt, pos, (head,) d]`."""
    activation = activation.clone()
    for prompt, value in enumerate(edit.value):
        where = positions_of(edit, prompt, activation)
        if edit.keep is not None:
            gone = ~edit.keep[prompt]
            activation[prompt][gone] = value[gone]
        elif edit.head is None:
            activation[prompt, where] = value
        else:
            activation[prompt, where, edit.head] = value
    return activation


def put_all(activation: Tensor, edits: Sequence[Edit]) -> Tensor:
    """Several edits, one after the other."""
    for edit in edits:
        activation = put(activation, edit)
    return activation


def some(values: Tensor, positions: Tensor | None) -> Tensor:
    """`[prompt, pos, ...]` at some positions `[prompt, k]`."""
    if positions is None:
        return values
    return torch.stack([values[prompt, where] for prompt, where in enumerate(positions)])


def plain_paths(
    plain: PlainDecoder,
    original: Tensor,
    new: Tensor,
    senders: Sequence[Sequence[Head]],
    receivers: Receivers | None,
    positions: Tensor,
    mlps: str = "recomputed",
    knocked_out: Sequence[Edit] = (),
) -> list[Pass]:
    """Path patching, word for word after Wang et al. 2022, appendix B: for each set of senders, the last of four passes."""
    layers, last = range(len(plain.layers)), []
    a, b = plain(original, knocked_out), plain(new, knocked_out)
    frozen = [Edit(layer, "z", a.at[layer, "z"]) for layer in layers]
    if mlps == "frozen":
        frozen += [Edit(layer, "mlp_out", a.at[layer, "mlp_out"]) for layer in layers]
    for heads in senders:
        sent = [Edit(layer, "z", some(b.at[layer, "z"][:, :, head], positions), head, positions) for layer, head in heads]
        c = plain(original, [*frozen, *sent, *knocked_out])
        if receivers is None:
            last.append(c)
            continue
        inputs = []
        for layer, head in receivers.heads:
            value = c.at[layer, receivers.input][:, :, plain.group_of(head, receivers.input)]
            inputs.append(Edit(layer, receivers.input, some(value, positions), head, positions))
        last.append(plain(original, inputs))
    return last


def plain_parts(
    plain: PlainDecoder, original: Tensor, new: Tensor, senders: Collection[Part], through: Collection[int] = ()
) -> Pass:
    """Path patching of heads and MLPs at END (Hanna et al. 2023, section 3.1): all parts are frozen but the MLPs `through`."""
    layers, end = range(len(plain.layers)), torch.full((len(original), 1), original.shape[1] - 1)
    a, b = plain(original), plain(new)
    edits = [Edit(layer, "z", a.at[layer, "z"]) for layer in layers]
    edits += [Edit(layer, "mlp_out", a.at[layer, "mlp_out"]) for layer in layers if layer not in through]
    for layer, head in senders:
        if head is None:
            edits.append(Edit(layer, "mlp_out", some(b.at[layer, "mlp_out"], end), None, end))
        else:
            edits.append(Edit(layer, "z", some(b.at[layer, "z"][:, :, head], end), head, end))
    return plain(original, edits)
