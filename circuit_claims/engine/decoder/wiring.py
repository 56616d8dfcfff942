"""How a decoder's parts are put together: what its configuration and the names of its modules say.

Architectures share a few plans. A layer reads the stream through a norm before attention and another before the MLP (Llama,
GPT-2), with further norms behind both (Gemma 2), or with these alone (OLMo 2); or attention and MLP stand side by side, with
one norm (GPT-J) or two (GPT-NeoX). What is read here is a guess by names, until the engine has been compared on a few
prompts, layer by layer, with the bridge, and its logits with the model as loaded: a model that it is wrong about is not
computed by it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from circuit_claims.engine.decoder.rotation import Pairing
from circuit_claims.engine.unsupported import UnsupportedArchitecture

#: A part that works position by position: from `[..., width]` to `[..., other width]`.
Part = Callable[[Tensor], Tensor]

#: Architectures whose attention and MLP always stand side by side; others say so in their configuration.
PARALLEL = frozenset({"gptj", "codegen", "phi", "cohere", "cohere2"})
#: Architectures that turn neighbouring entries of queries and keys, and not the two halves of a head.
NEIGHBOURS = frozenset({"gptj", "codegen", "cohere", "cohere2"})
#: Architectures whose configuration names a cap of the scores that they apply; Gemma 3 names one, too, and does not.
CAPPED = frozenset({"gemma2", "vaultgemma"})
#: Architectures that hand a window to their attention, and mask by none.
UNWINDOWED = frozenset({"olmoe"})
#: Architectures whose positions are biases of the scores (Press et al. 2022), which are none of the plans here.
ALIBI = frozenset({"bloom", "mpt"})
#: The kinds of attention layers that are known.
LAYER_TYPES = frozenset({"full_attention", "sliding_attention"})
#: What the attention module is called in a layer.
ATTENTION = ("self_attn", "attn", "attention", "self_attention")


@dataclass(frozen=True)
class Wiring:
    """What holds for all layers.

    write_scale: what attention and MLP give is multiplied by it (Granite); logit_scale: what the unembedding gives, likewise;
    logit_cap: logits are `cap * tanh(logit / cap)` (Gemma 2); pairing: which entries rotary positions turn together.
    """

    parallel: bool
    write_scale: float
    logit_scale: float
    logit_cap: float | None
    pairing: Pairing


@dataclass(frozen=True)
class Norms:
    """The norms of one layer, each where it is: before and behind attention and MLP."""

    before_attention: nn.Module | None
    after_attention: nn.Module | None
    before_mlp: nn.Module | None
    after_mlp: nn.Module | None


def wiring(config: Any) -> Wiring:
    """What a configuration of transformers says of all layers.

    Raises UnsupportedArchitecture where positions are biases of the attention scores, where queries are scaled by their
    position (as they are beyond some length alone, which no comparison of short prompts would show), and for layers of an
    unknown kind.
    """
    if config.model_type in ALIBI or getattr(config, "alibi", False):
        raise UnsupportedArchitecture("its positions are biases of the attention scores (ALiBi)")
    rope = getattr(config, "rope_parameters", None) or {}
    if getattr(config, "attn_temperature_tuning", False) or (isinstance(rope, dict) and "llama_4_scaling_beta" in rope):
        raise UnsupportedArchitecture("its queries are scaled by their positions")
    if unknown := set(getattr(config, "layer_types", None) or ()) - LAYER_TYPES:
        raise UnsupportedArchitecture(f"it has layers of another kind ({min(unknown)})")
    parallel = bool(
        config.model_type in PARALLEL
        or getattr(config, "use_parallel_residual", False)
        or getattr(config, "parallel_attn", False)
        or getattr(config, "new_decoder_architecture", False)
    )
    divided = getattr(config, "logits_scaling", None)
    return Wiring(
        parallel=parallel,
        write_scale=float(getattr(config, "residual_multiplier", None) or 1.0),
        logit_scale=float(getattr(config, "logit_scale", None) or 1.0) / float(divided or 1.0),
        logit_cap=getattr(config, "final_logit_softcapping", None),
        pairing="neighbours" if config.model_type in NEIGHBOURS else "halves",
    )


def norms(layer: nn.Module, *, parallel: bool) -> Norms:
    """The norms of a layer of transformers, by the names that they have in the architectures known.

    Raises UnsupportedArchitecture where none of these plans fits.
    """

    def there(*names: str) -> nn.Module | None:
        return next((module for name in names if isinstance(module := getattr(layer, name, None), nn.Module)), None)

    before = there("input_layernorm", "ln_1", "self_attn_layer_norm", "ln_attn")
    behind_mlp = there("post_feedforward_layernorm", "post_mlp_layernorm")
    if before is None:
        if behind_mlp is None:
            raise UnsupportedArchitecture("its layers have no norm of a known name")
        return Norms(None, there("post_attention_layernorm"), None, behind_mlp)
    if (before_mlp := there("pre_feedforward_layernorm")) is not None:
        return Norms(before, there("post_attention_layernorm"), before_mlp, behind_mlp)
    before_mlp = there("post_attention_layernorm", "ln_2", "final_layer_norm", "ln_mlp")
    if before_mlp is None and not parallel:
        raise UnsupportedArchitecture("its layers have no norm before the MLP")
    return Norms(before, there("post_self_attn_layernorm"), before_mlp or before, behind_mlp)


def window(config: Any, layer: int) -> int | None:
    """How many keys a query of a layer sees, itself among them; None for all."""
    local = getattr(config, "attention_layers", None)  # GPT-Neo
    if local is not None:
        return config.window_size if local[layer] == "local" else None
    width = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return width if kinds[layer] == "sliding_attention" else None
    if config.model_type in UNWINDOWED or not getattr(config, "use_sliding_window", True):
        return None
    return width


def scale(config: Any, attention: nn.Module, d_head: int) -> float:
    """What scores are multiplied by."""
    if config.model_type == "gpt_neo":
        return 1.0
    said = getattr(attention, "scaling", None)
    return float(said) if isinstance(said, float | int) else d_head**-0.5


def cap(config: Any, attention: nn.Module) -> float | None:
    """The soft cap of the scores."""
    return getattr(attention, "attn_logit_softcapping", None) if config.model_type in CAPPED else None
