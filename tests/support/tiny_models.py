"""Models small enough for a test: random weights with the embedded model's tokenizer, in Hugging Face's layout; their cards."""

import json
import shutil
from pathlib import Path

import torch

from circuit_claims.models.folder import EMBEDDED

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
N_POSITIONS = 96


def save_tiny_gpt2(folder: Path, *, n_layer: int, n_head: int, n_embd: int, seed: int = 0) -> Path:
    """Write a random model of GPT-2's architecture, and give back its folder.

    Weights are scaled by their fan-in, and biases and layer norms' gains vary, so that attention is not uniform, every block
    writes something of the size of the embedding, logits differ by a few units, and no two heads are the same.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    vocabulary = json.loads((EMBEDDED["mini"] / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    config = GPT2Config(
        vocab_size=len(vocabulary),
        n_positions=N_POSITIONS,
        n_layer=n_layer,
        n_head=n_head,
        n_embd=n_embd,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=vocabulary["<|endoftext|>"],
        eos_token_id=vocabulary["<|endoftext|>"],
        pad_token_id=vocabulary["<pad>"],
    )
    model = GPT2LMHeadModel(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if name.endswith("wte.weight"):
                weight.copy_(noise * 2 / n_embd**0.5)
            elif name.endswith("wpe.weight"):
                weight.copy_(noise / n_embd**0.5)
            elif weight.ndim == 2:  # Conv1D keeps [in, out]
                weight.copy_(noise / weight.shape[0] ** 0.5)
            else:
                weight.copy_(noise * 0.1 + (1.0 if ".ln_" in name and name.endswith("weight") else 0.0))
    model.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copy(EMBEDDED["mini"] / name, folder / name)
    return folder


def save_tiny_card(path: Path, *, n_layer: int, n_head: int, more: str = "") -> Path:
    """Write a card of that shape, which names the last head of the last layer a name mover, and give back its path.

    more: TOML to add, such as further values.
    """
    path.write_text(
        f"""
title = "tiny"
[shape]
layers = {n_layer}
heads = {n_head}
[families.name_mover]
heads = ["L{n_layer - 1}H{n_head - 1}"]
position = "END"
source = "made up for a test"
{more}
""",
        encoding="utf-8",
    )
    return path
