"""Models in Hugging Face's layout: config.json, model.safetensors and the tokenizer's files."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from circuit_claims.controls.vocabulary import END_OF_TEXT, PAD, save_tokenizer, token_ids

#: Half the bytes of float32, and finer than any number here needs; models are loaded as --dtype says.
STORED_AS = torch.float16


def save_gpt2(folder: Path, state: Mapping[str, Float[Tensor, "..."]], *, n_head: int = 12) -> None:
    """Write a model of GPT-2's architecture with the tokenizer of `vocabulary.py`; its shape is its weights'."""
    n_positions, width = state["transformer.wpe.weight"].shape
    ids = token_ids()
    config = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": len(ids),
        "n_positions": n_positions,
        "n_embd": width,
        "n_layer": sum(key.endswith(".ln_1.weight") for key in state),
        "n_head": n_head,
        "n_inner": None,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-05,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "tie_word_embeddings": True,
        "bos_token_id": ids[END_OF_TEXT],
        "eos_token_id": ids[END_OF_TEXT],
        "pad_token_id": ids[PAD],
        "dtype": str(STORED_AS).removeprefix("torch."),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tensors = {name: value.to(STORED_AS).contiguous() for name, value in state.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    save_tokenizer(folder, n_positions)
