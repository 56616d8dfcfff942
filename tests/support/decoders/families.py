"""Tiny random models of every mainstream family of decoders, as transformers builds them, for tests of engines.

Each has what its family does unlike others switched on: windows shorter than the prompts, norms of queries and keys, partial
rotation, multipliers, caps. Norms' gains and all biases are random: as transformers initialises them, a norm that is left out
and a bias that is forgotten would not be seen.
"""

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from tests.support.tiny_configurations import (
    CONFIGURATIONS,
    GROUPED,
    LLAMA3,
    NEO_ATTENTION,
    OPT,
    USUAL,
    random_model,
    rope,
    save_with_tokenizer,
    tiny_config,
)
from tests.support.tiny_models import N_POSITIONS

if TYPE_CHECKING:  # slow to import
    from transformers import PreTrainedModel

#: Of no other size in these models.
VOCABULARY = 211
#: Shorter than the prompts of the tests.
WINDOW = 4

SLIDING = {"sliding_window": WINDOW}
EXPERTS = {"num_experts": 5, "num_experts_per_tok": 2}
GEMMA = GROUPED | SLIDING | {"head_dim": 12, "query_pre_attn_scalar": 10}
PARTIAL = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "factor": 16.0,
    "original_max_position_embeddings": 6,
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [1.5, 2.0, 3.0, 4.0],
}

#: What makes queries and keys, by parts of their names: longer, so that attention is far from uniform.
LOOKING = ("q_proj", "k_proj", "c_attn", "query_key_value", "qkv_proj", "q_norm", "k_norm", "q_layernorm", "k_layernorm")

#: Names, configuration classes, and what is set.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": CONFIGURATIONS["GPT-2"],
    "gpt2 scaled by layer": CONFIGURATIONS["GPT-2, attention scaled by layer"],
    "gpt-neo": (
        "GPTNeoConfig",
        {
            "hidden_size": 32,
            "num_layers": 3,
            "num_heads": 4,
            "attention_types": NEO_ATTENTION,
            "window_size": WINDOW,
            "max_position_embeddings": N_POSITIONS,
        },
    ),
    "neox": CONFIGURATIONS["NeoX"],
    "neox sequential": CONFIGURATIONS["NeoX, sequential"],
    "gpt-j": CONFIGURATIONS["GPT-J"],
    "opt": CONFIGURATIONS["OPT"],
    "opt without final norm": ("OPTConfig", OPT | {"word_embed_proj_dim": 32, "_remove_final_layer_norm": True}),
    "llama": CONFIGURATIONS["Llama, head width"],
    "llama biases": CONFIGURATIONS["Llama, biases"],
    "llama linear": CONFIGURATIONS["Llama, linear rope"],
    # Frequencies that depend on the length of the prompt begin to do so beyond 6 tokens.
    "llama dynamic": ("LlamaConfig", rope("dynamic", factor=2.0) | {"max_position_embeddings": 6}),
    "llama yarn": CONFIGURATIONS["Llama, yarn rope"],
    "llama llama3": ("LlamaConfig", rope("llama3", **LLAMA3)),
    "llama longrope": ("LlamaConfig", GROUPED | {"rope_parameters": LONG}),
    "llama with lora": ("LlamaConfig", GROUPED),
    "mistral": ("MistralConfig", USUAL | {"num_key_value_heads": 1} | SLIDING),
    "qwen2": ("Qwen2Config", GROUPED | SLIDING | {"use_sliding_window": True, "max_window_layers": 1}),
    "qwen3": ("Qwen3Config", GROUPED | SLIDING | {"use_sliding_window": True, "max_window_layers": 2, "head_dim": 12}),
    "gemma2": ("Gemma2Config", GEMMA | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 8.0}),
    "gemma3": (
        "Gemma3TextConfig",
        GEMMA
        | {
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "final_logit_softcapping": 8.0,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 1000.0, "factor": 2.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10.0},
            },
        },
    ),
    "phi3": ("Phi3Config", GROUPED | SLIDING | PARTIAL),
    "olmo2": ("Olmo2Config", GROUPED),
    "smollm3": (
        "SmolLM3Config",
        GROUPED | SLIDING | {"use_sliding_window": True, "no_rope_layers": [1, 0, 1], "attention_bias": True},
    ),
    "granite": CONFIGURATIONS["Granite"],
    "stablelm": ("StableLmConfig", GROUPED | PARTIAL | {"use_qkv_bias": True}),
    "stablelm parallel": ("StableLmConfig", GROUPED | PARTIAL | {"qk_layernorm": True, "use_parallel_residual": True}),
    "qwen3-moe": (
        "Qwen3MoeConfig",
        GROUPED | EXPERTS | {"moe_intermediate_size": 24, "mlp_only_layers": [1], "norm_topk_prob": True, "head_dim": 12},
    ),
    "olmoe": ("OlmoeConfig", GROUPED | EXPERTS),
    "cohere": CONFIGURATIONS["Cohere"],
    "cohere normed": CONFIGURATIONS["Cohere, normed queries"],
    "phi": CONFIGURATIONS["Phi"],
    "phi normed": ("PhiConfig", USUAL | {"partial_rotary_factor": 0.5, "qk_layernorm": True}),
    "falcon": CONFIGURATIONS["Falcon, new decoder"],
    "falcon multi-query": CONFIGURATIONS["Falcon"],
}

#: The families that TransformerLens cannot wrap, or wraps as other functions of the tokens: subjects of them are refused.
NOT_WRAPPED = {
    "opt without final norm": "Original component not set for model.decoder.final_layer_norm",
    "cohere": "it is not the model as loaded",
    "cohere normed": "did not declare 'q_norm'",
    "phi normed": "did not declare 'q_norm'",
    "falcon": "split_with_sizes expects split_sizes to sum",
}
#: Those that engines compute.
COMPUTED = tuple(family for family in FAMILIES if family not in NOT_WRAPPED)
#: The families but those that differ from others in frequencies of their rotation alone.
UNLIKE = tuple(family for family in COMPUTED if family not in ("llama linear", "llama yarn", "llama llama3"))
#: The families in which attention and MLP stand side by side: there is no stream between them.
PARALLEL = frozenset(("neox", "gpt-j", "stablelm parallel", "phi", "falcon multi-query"))
#: Those with a norm of what the attention writes: heads' outputs do not add up in the stream.
POST_NORMED = frozenset(("gemma2", "gemma3", "olmo2"))


def tiny(family: str, *, vocabulary: int = VOCABULARY, **other: Any) -> "PreTrainedModel":
    """A new copy of the family's model: the same weights at each call.

    other: what is set otherwise in its configuration, for a model that must be another function of its tokens.
    """
    import transformers

    kind, given = FAMILIES[family]
    given = given | other
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = getattr(transformers, kind)(vocab_size=vocabulary, **special, **given)
    if "_remove_final_layer_norm" in given:
        config._remove_final_layer_norm = True
    seed = zlib.crc32(family.encode())
    model: Any = random_model(config, seed, noise=0.3, attn_implementation="eager")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if any(f"{part}." in name for part in LOOKING):
                weight *= 2
    if family == "llama with lora":
        _adapt(model, seed + 1)
    return cast("PreTrainedModel", model.eval().requires_grad_(False))


def save_tiny(family: str, folder: Path) -> Path:
    """Save the family's model with the embedded model's tokenizer, for a whole subject, and give back its folder.

    Of adapters that are not merged, nothing is saved.
    """
    return save_with_tokenizer(tiny(family, vocabulary=tiny_config("Llama").vocab_size), folder)


def _adapt(model: Any, seed: int) -> None:
    """Put adapters on all linear layers, which change what each of them gives."""
    from peft import LoraConfig, inject_adapter_in_model

    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    inject_adapter_in_model(LoraConfig(r=4, lora_alpha=8, target_modules=layers), model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) / weight.shape[-1] ** 0.5 / 2)
