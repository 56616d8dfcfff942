"""One layer of a decoder as the model's own modules."""

import inspect
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from circuit_claims.engine.decoder import wiring
from circuit_claims.engine.decoder.attention_core import AttentionCore, HeadNorm
from circuit_claims.engine.decoder.plain_modules import bare, plain
from circuit_claims.engine.decoder.rotation import Pairing, Rotation
from circuit_claims.engine.decoder.wiring import Part
from circuit_claims.engine.unsupported import UnsupportedArchitecture


@dataclass(frozen=True)
class ModuleLayer:
    """The parts of one layer that work position by position, and the core of its attention between them.

    q, k, v: from the normed stream to `[..., heads * d_head]`; o: from head outputs, side by side, to `[..., d_model]`. The
    norms may be missing, and are then None.
    """

    before_attention: Part | None
    q: Part
    k: Part
    v: Part
    core: AttentionCore
    o: Part
    after_attention: Part | None
    before_mlp: Part | None
    mlp: Part
    after_mlp: Part | None


def module_layer(block: Any, layer: int, config: Any, rotation: Rotation | None, *, parallel: bool) -> ModuleLayer:
    """Find the parts of a bridge's block.

    rotation: of this layer's kind, used where the layer has rotary positions.

    Raises UnsupportedArchitecture where a part is missing, or does more than these steps know.
    """
    own = bare(block)
    attention = bare(block.attn)
    norms = wiring.norms(own, parallel=parallel)
    parts = {name: getattr(block.attn, name, None) for name in "qkvo"}
    if missing := [name for name, part in parts.items() if part is None]:
        raise UnsupportedArchitecture(f"its attention has no projection {missing[0]}")
    if getattr(config, "clip_qkv", None) is not None:
        raise UnsupportedArchitecture("it clips queries, keys and values")
    if getattr(attention, "sinks", None) is not None:
        raise UnsupportedArchitecture("its attention has sinks")
    n_heads, d_head = config.num_attention_heads, _d_head(config)
    q, k, v, o = (plain(parts[name]) for name in "qkvo")
    # Asked of the projection itself, which may be any module: an adapter's, or one of quantised weights.
    some = next(own.parameters())
    groups = k(torch.zeros(1, config.hidden_size, dtype=some.dtype, device=some.device)).shape[-1] // d_head
    q_norm, k_norm, all_heads = _head_norms(attention, d_head)
    core = AttentionCore(
        scale=wiring.scale(config, attention, d_head),
        group=n_heads // max(1, groups),
        cap=wiring.cap(config, attention),
        window=wiring.window(config, layer),
        rotation=rotation if getattr(attention, "use_rope", True) else None,
        q_norm=q_norm,
        k_norm=k_norm,
        norms_all_heads=all_heads,
    )
    return ModuleLayer(
        before_attention=_norm(norms.before_attention),
        q=q,
        k=k,
        v=v,
        core=core,
        o=o,
        after_attention=_norm(norms.after_attention),
        before_mlp=_norm(norms.before_mlp),
        mlp=_mlp(block, own),
        after_mlp=_norm(norms.after_mlp),
    )


def rotations(base_model: nn.Module, config: Any, pairing: Pairing, n_layers: int) -> list[Rotation | None]:
    """Each layer's rotation; layers of one kind share one.

    base_model: what holds the layers, and most often the module that makes cosines and sines.
    """
    module = plain(getattr(base_model, "rotary_emb", None))
    if module is None:
        return [_learned_rotation(bare(layer), pairing) for layer in _layers(base_model, n_layers)]
    dtype = next(base_model.parameters()).dtype
    if "layer_type" not in inspect.signature(module.forward).parameters:
        return [Rotation(_table(module, dtype), pairing)] * n_layers
    kinds = {kind: Rotation(_table(module, dtype, layer_type=kind), pairing) for kind in set(config.layer_types)}
    return [kinds[config.layer_types[layer]] for layer in range(n_layers)]


def _table(module: nn.Module, dtype: torch.dtype, **more: Any) -> Any:
    parameter = next(iter(module.buffers()))

    def table(length: int) -> tuple[Tensor, Tensor]:
        like = torch.zeros(1, dtype=dtype, device=parameter.device)  # the module looks at its dtype alone
        # Dynamic scaling keeps the frequencies of the longest sequence so far, until it sees a short one: no past counts here.
        for positions in (1, length):
            cos, sin = module(like, torch.arange(positions, device=parameter.device)[None], **more)
        return cos[0], sin[0]

    return table


def _learned_rotation(layer: Any, pairing: Pairing) -> Rotation | None:
    """GPT-J keeps sines and cosines in each attention module."""
    attention = next((bare(found) for name in wiring.ATTENTION if (found := getattr(layer, name, None)) is not None), None)
    kept = getattr(attention, "embed_positions", None)
    if not isinstance(kept, Tensor) or kept.ndim != 2:
        return None
    sin, cos = kept.chunk(2, -1)
    sin, cos = sin.repeat_interleave(2, -1), cos.repeat_interleave(2, -1)
    return Rotation(lambda length: (cos[:length], sin[:length]), pairing)


def _layers(base_model: nn.Module, n_layers: int) -> list[nn.Module]:
    lists = (list(part) for part in map(bare, base_model.children()) if isinstance(part, nn.ModuleList))
    return next((layers for layers in lists if len(layers) == n_layers), [])


def _d_head(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _norm(module: nn.Module | None) -> Part | None:
    return None if module is None else plain(module)


def _mlp(block: Any, own: nn.Module) -> Part:
    """The MLP as the model's own module, or of its linear layers where the bridge keeps weights of its own in these."""
    component, parts = block.mlp, dict(block.mlp.named_children())
    if hasattr(own, "fc1") and hasattr(own, "fc2") and not hasattr(own, "mlp"):  # OPT has no module for it
        inner, outer, activation = plain(own.fc1), plain(own.fc2), plain(own.activation_fn)
        return lambda x: outer(activation(inner(x)))
    if "gate" in parts and "_activation_fn" in parts:  # of gate and input in one, the bridge holds both apart
        gate, inner, outer = plain(parts["gate"]), plain(parts["in"]), plain(parts["out"])
        activation = plain(parts["_activation_fn"])
        return lambda x: outer(activation(gate(x)) * inner(x))
    module = plain(component)

    def mlp(x: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_model"]:
        # Mixtures of experts want an axis of prompts, and some give their router's choice besides.
        found = module(x[None])
        return cast(Tensor, found[0] if isinstance(found, tuple) else found).reshape(x.shape)

    return mlp


def _head_norms(attention: Any, d_head: int) -> tuple[HeadNorm | None, HeadNorm | None, bool]:
    """The norms of queries and keys, and whether one needs all heads at once."""
    found = [
        next((plain(part) for name in names if (part := getattr(attention, name, None)) is not None), None)
        for names in (("q_norm", "q_layernorm"), ("k_norm", "k_layernorm"))
    ]
    (q, q_all), (k, k_all) = ((None, False) if norm is None else _head_norm(norm, d_head) for norm in found)
    return q, k, q_all or k_all


def _head_norm(norm: Any, d_head: int) -> tuple[HeadNorm, bool]:
    """A norm of `[..., head, d_head]`, and whether it needs all heads at once."""
    if hasattr(norm, "norms"):  # StableLM: one for each head, on `[prompt, head, pos, d_head]`
        return lambda x: norm(x.reshape(-1, *x.shape[-2:], 1).transpose(-1, -2)).reshape(x.shape), True
    weight = getattr(norm, "weight", None)
    if weight is None or weight.shape == (d_head,):
        return norm, False
    if weight.ndim == 1:  # OLMo 2: side by side
        return lambda x: norm(x.flatten(-2)).unflatten(-1, x.shape[-2:]), True
    return norm, True  # Cohere: a gain for each head
