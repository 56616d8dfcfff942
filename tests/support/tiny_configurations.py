"""Configurations of many architectures, for tiny random checkpoints: every switch that changes what a model computes.

For interventions on other architectures see `tests.support.other_architectures`; here only what goes in and comes out counts.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from circuit_claims.models.folder import EMBEDDED
from tests.support.tiny_models import N_POSITIONS, TOKENIZER_FILES

#: Three layers of four heads, 32 wide, in the words of most configurations, and in those of GPT-2 and of Falcon.
USUAL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": N_POSITIONS,
}
GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": N_POSITIONS}
SHORT = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
OPT = SHORT | {"ffn_dim": 64, "max_position_embeddings": N_POSITIONS}
GROUPED = USUAL | {"num_key_value_heads": 2}


def rope(kind: str, **more: Any) -> dict[str, Any]:
    """A Llama whose rotary positions are scaled in this way."""
    return GROUPED | {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **more}}


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
NEO_ATTENTION = [[["global", "local"], 1], [["global"], 1]]

#: Names, configuration classes, and what is set.
CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "GPT-2": ("GPT2Config", GPT2),
    "GPT-2, attention not scaled": ("GPT2Config", GPT2 | {"scale_attn_weights": False}),
    "GPT-2, attention scaled by layer": ("GPT2Config", GPT2 | {"scale_attn_by_inverse_layer_idx": True}),
    "GPT-2, attention scaled by layer alone": (
        "GPT2Config",
        GPT2 | {"scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": False},
    ),
    "GPT-2, attention upcast": ("GPT2Config", GPT2 | {"reorder_and_upcast_attn": True}),
    "GPT-2, ReLU": ("GPT2Config", GPT2 | {"activation_function": "relu"}),
    "GPT-2, exact GELU": ("GPT2Config", GPT2 | {"activation_function": "gelu"}),
    "GPT-2, SiLU": ("GPT2Config", GPT2 | {"activation_function": "silu"}),
    "GPT-2, quick GELU": ("GPT2Config", GPT2 | {"activation_function": "quick_gelu"}),
    "GPT-2, squared ReLU": ("GPT2Config", GPT2 | {"activation_function": "relu2"}),
    "GPT-2, n_inner": ("GPT2Config", GPT2 | {"n_inner": 48}),
    "GPT-2, epsilon": ("GPT2Config", GPT2 | {"layer_norm_epsilon": 1e-2}),
    "GPT-2, untied": ("GPT2Config", GPT2 | {"tie_word_embeddings": False}),
    "GPT-Neo": (
        "GPTNeoConfig",
        {
            "hidden_size": 32,
            "num_layers": 3,
            "num_heads": 4,
            "attention_types": NEO_ATTENTION,
            "window_size": 5,
            "max_position_embeddings": N_POSITIONS,
        },
    ),
    "NeoX": ("GPTNeoXConfig", USUAL | {"rotary_pct": 0.25}),
    "NeoX, sequential": ("GPTNeoXConfig", USUAL | {"rotary_pct": 0.5, "use_parallel_residual": False}),
    "NeoX, no attention bias": ("GPTNeoXConfig", USUAL | {"attention_bias": False}),
    "Llama": ("LlamaConfig", GROUPED),
    "Llama, tied": ("LlamaConfig", GROUPED | {"tie_word_embeddings": True}),
    "Llama, biases": ("LlamaConfig", GROUPED | {"attention_bias": True, "mlp_bias": True}),
    "Llama, head width": ("LlamaConfig", USUAL | {"head_dim": 12}),
    "Llama, linear rope": ("LlamaConfig", rope("linear", factor=2.0)),
    "Llama, llama3 rope": ("LlamaConfig", rope("llama3", **LLAMA3)),
    "Llama, yarn rope": ("LlamaConfig", rope("yarn", factor=4.0, original_max_position_embeddings=24)),
    "Qwen2": ("Qwen2Config", GROUPED),
    "Qwen3": ("Qwen3Config", GROUPED | {"head_dim": 12}),
    "Mistral": ("MistralConfig", USUAL | {"num_key_value_heads": 1, "sliding_window": 6}),
    "Gemma": ("GemmaConfig", USUAL | {"num_key_value_heads": 1, "head_dim": 8}),
    "Gemma 2": ("Gemma2Config", GROUPED | {"head_dim": 8, "sliding_window": 6, "query_pre_attn_scalar": 8}),
    "Gemma 2, low caps": (
        "Gemma2Config",
        GROUPED | {"head_dim": 8, "attn_logit_softcapping": 1.0, "final_logit_softcapping": 2.0},
    ),
    "Gemma 3": ("Gemma3TextConfig", GROUPED | {"head_dim": 8, "sliding_window": 6, "query_pre_attn_scalar": 8}),
    "Phi": ("PhiConfig", USUAL | {"partial_rotary_factor": 0.5}),
    "Phi-3": ("Phi3Config", GROUPED),
    "OLMo, clipped": ("OlmoConfig", GROUPED | {"clip_qkv": 0.5}),
    "OLMo 2": ("Olmo2Config", USUAL),
    "Granite": (
        "GraniteConfig",
        GROUPED | {"residual_multiplier": 0.5, "logits_scaling": 2.0, "embedding_multiplier": 3.0, "attention_multiplier": 0.2},
    ),
    "StableLM": ("StableLmConfig", GROUPED),
    "StableLM, parallel, normed queries": ("StableLmConfig", GROUPED | {"qk_layernorm": True, "use_parallel_residual": True}),
    "GPT-J": ("GPTJConfig", GPT2 | {"rotary_dim": 4}),
    "CodeGen": ("CodeGenConfig", GPT2 | {"n_ctx": N_POSITIONS, "rotary_dim": 4}),
    "OPT": ("OPTConfig", OPT | {"word_embed_proj_dim": 32}),
    "OPT, projected": ("OPTConfig", OPT | {"word_embed_proj_dim": 16}),
    "OPT, norm after": ("OPTConfig", OPT | {"word_embed_proj_dim": 32, "do_layer_norm_before": False}),
    "OPT-350m": ("OPTConfig", OPT | {"word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "Bloom": ("BloomConfig", {"hidden_size": 32, "n_layer": 3, "n_head": 4}),
    "Bloom, residual after the norm": (
        "BloomConfig",
        {"hidden_size": 32, "n_layer": 3, "n_head": 4, "apply_residual_connection_post_layernorm": True},
    ),
    "Cohere": ("CohereConfig", GROUPED | {"logit_scale": 0.25}),
    "Cohere, normed queries": ("CohereConfig", GROUPED | {"logit_scale": 0.25, "use_qk_norm": True}),
    "Cohere 2": ("Cohere2Config", GROUPED | {"logit_scale": 0.25, "sliding_window": 6}),
    "Falcon": ("FalconConfig", SHORT),
    "Falcon, new decoder": ("FalconConfig", SHORT | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "Falcon, ALiBi": ("FalconConfig", SHORT | {"alibi": True, "multi_query": False, "parallel_attn": False, "bias": True}),
    "GPT-BigCode": ("GPTBigCodeConfig", GPT2),
    "GPT-BigCode, many keys": ("GPTBigCodeConfig", GPT2 | {"multi_query": False}),
    "MPT": ("MptConfig", {"d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": N_POSITIONS, "expansion_ratio": 2}),
    "StarCoder2": ("Starcoder2Config", GROUPED | {"sliding_window": 6}),
    "Nemotron": ("NemotronConfig", GROUPED | {"head_dim": 8}),
    "Mixtral": ("MixtralConfig", GROUPED | {"num_local_experts": 3}),
    "SmolLM3": ("SmolLM3Config", GROUPED),
}


def tiny_config(name: str) -> Any:
    """A configuration of the table, with the embedded model's vocabulary."""
    import transformers

    kind, given = CONFIGURATIONS[name]
    vocabulary = json.loads((EMBEDDED["mini"] / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    end = vocabulary["<|endoftext|>"]
    special = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": vocabulary["<pad>"]}
    return getattr(transformers, kind)(vocab_size=len(vocabulary), **special, **given)


def random_model(config: Any, seed: int = 0, *, noise: float = 0.1, **options: Any) -> torch.nn.Module:
    """A model of this configuration, of random weights that make no two heads the same and attention far from uniform.

    noise: by how much norms' gains differ from 1, and biases from 0.
    """
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(config, **options).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            normal = torch.randn(weight.shape, generator=generator)
            if weight.ndim > 1:
                embedding = 2.0 if any(part in name for part in ("embed", "wte", "wpe")) else 1.0
                weight.copy_(normal * embedding / weight.shape[-1] ** 0.5)
            else:
                weight.copy_(normal * noise + (1.0 if name.endswith("weight") else 0.0))
    return model


def save_with_tokenizer(model: Any, folder: Path, **options: Any) -> Path:
    """Save a model with the embedded model's tokenizer, and give back its folder."""
    model.save_pretrained(folder, **options)
    for file in TOKENIZER_FILES:
        shutil.copy(EMBEDDED["mini"] / file, folder / file)
    return folder
