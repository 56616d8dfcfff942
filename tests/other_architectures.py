"""Tiny random checkpoints of decoders that are not of GPT-2's shape, with the embedded model's tokenizer."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fixtures.model_folder import EMBEDDED
from tests.tiny_models import N_POSITIONS, TOKENIZER_FILES

#: What makes each of them unlike GPT-2, by the name that tests call it.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "NeoX": ("GPTNeoXConfig", {"rotary_pct": 0.25, "use_parallel_residual": True}),
    "sequential NeoX": ("GPTNeoXConfig", {"rotary_pct": 0.5, "use_parallel_residual": False}),
    "Llama": ("LlamaConfig", {"num_key_value_heads": 2}),
    "Qwen3": ("Qwen3Config", {"num_key_value_heads": 2, "head_dim": 12}),
    "Mistral": ("MistralConfig", {"num_key_value_heads": 1, "sliding_window": 6}),
    "Gemma2": ("Gemma2Config", {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 6, "query_pre_attn_scalar": 8}),
    "Olmo2": ("Olmo2Config", {"num_key_value_heads": 4}),
    "Granite": ("GraniteConfig", {"num_key_value_heads": 2, "residual_multiplier": 0.5, "logits_scaling": 2.0}),
    "Phi": ("PhiConfig", {"partial_rotary_factor": 0.5}),
    "GPT-J": ("GPTJConfig", {"rotary_dim": 4}),
    "OPT": ("OPTConfig", {"word_embed_proj_dim": 32}),
    "Bloom": ("BloomConfig", {}),
}


def save_tiny_decoder(
    folder: Path, architecture: str, *, n_layer: int = 3, n_head: int = 4, width: int = 32, seed: int = 0
) -> Path:
    """Write a random model of this architecture, and give back its folder.

    As for `save_tiny_gpt2`, weights are scaled by their fan-in, and biases and norms' gains vary, so that attention is not
    uniform and no two heads are the same.
    """
    import transformers

    kind, more = ARCHITECTURES[architecture]
    vocabulary = json.loads((EMBEDDED["mini"] / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    shape = {
        "hidden_size": width,
        "num_hidden_layers": n_layer,
        "num_attention_heads": n_head,
        "intermediate_size": 2 * width,
        "max_position_embeddings": N_POSITIONS,
    }
    if kind == "GPTJConfig":
        shape = {"n_embd": width, "n_layer": n_layer, "n_head": n_head, "n_positions": N_POSITIONS}
    elif kind == "BloomConfig":
        shape = {"hidden_size": width, "n_layer": n_layer, "n_head": n_head}
    elif kind == "OPTConfig":
        shape["ffn_dim"] = shape.pop("intermediate_size")
    special = {"bos_token_id": vocabulary["<|endoftext|>"], "eos_token_id": vocabulary["<|endoftext|>"]}
    special["pad_token_id"] = vocabulary["<pad>"]
    config = getattr(transformers, kind)(vocab_size=len(vocabulary), **shape, **special, **more)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim == 2:
                embedding = 2.0 if "embed" in name or name.endswith("wte.weight") else 1.0
                weight.copy_(noise * embedding / weight.shape[1] ** 0.5)
            else:
                weight.copy_(noise * 0.1 + (1.0 if name.endswith("weight") else 0.0))
    model.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copy(EMBEDDED["mini"] / name, folder / name)
    return folder


def counted(modules: Any) -> tuple[list[int], Callable[[], None]]:
    """How often each of some modules is called from now on (read the list), and what ends the counting."""
    calls = [0] * len(modules)

    def counting(index: int) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            calls[index] += 1

        return hook

    handles = [module.register_forward_hook(counting(index)) for index, module in enumerate(modules)]
    return calls, lambda: [handle.remove() for handle in handles] and None
