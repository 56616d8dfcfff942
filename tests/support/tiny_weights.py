"""Folders that hold a GPT-2's attention and nothing else, small enough for a test, and their weights as they are written."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from circuit_claims.subjects.find import find_folder
from circuit_claims.tasks.weights.attention_weights import AttentionWeights, read_attention_weights

LAYERS, HEADS, WIDTH, POSITIONS = 3, 4, 32, 24
SMALL = (LAYERS, HEADS, WIDTH, POSITIONS)
#: As many layers and heads as GPT-2 small has, and otherwise as little as can be.
TWELVE = (12, 12, 24, 130)
Change = Callable[[dict[str, Tensor]], Mapping[str, Tensor]]


def tensors(shape: tuple[int, int, int, int] = SMALL, seed: int = 0) -> dict[str, Tensor]:
    """Random weights of that shape (layers, heads, width, positions), under Hugging Face's names, without prefix.

    Layer norms' gains and biases vary.
    """
    layers, _, width, positions = shape
    generator = torch.Generator().manual_seed(seed)

    def noise(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    found = {"wpe.weight": noise(positions, width)}
    for layer in range(layers):
        found |= {
            f"h.{layer}.ln_1.weight": 1 + 0.3 * noise(width),
            f"h.{layer}.ln_1.bias": 0.3 * noise(width),
            f"h.{layer}.attn.c_attn.weight": noise(width, 3 * width) / width**0.5,
            f"h.{layer}.attn.c_attn.bias": 0.1 * noise(3 * width),
            f"h.{layer}.attn.c_proj.weight": noise(width, width) / width**0.5,
            f"h.{layer}.attn.c_proj.bias": 0.1 * noise(width),
        }
    return found


def save_attention(
    folder: Path,
    change: Change | None = None,
    *,
    shape: tuple[int, int, int, int] = SMALL,
    prefix: str = "transformer.",
    config: dict | None = None,
) -> Path:
    """Write the folder; `change` gets the tensors and gives those to write, `config` adds to config.json or replaces in it."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = dict(zip(("n_layer", "n_head", "n_embd", "n_positions"), shape, strict=True))
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", **sizes, **(config or {})}), encoding="utf-8")
    found = change(tensors(shape)) if change else tensors(shape)
    save_file({prefix + name: tensor.contiguous() for name, tensor in found.items()}, folder / "attention.safetensors")
    return folder


def read(folder: Path, *, processed: bool = True) -> AttentionWeights:
    """The weights of a folder, as the suite reads them."""
    return read_attention_weights(find_folder(str(folder)), processed=processed)
