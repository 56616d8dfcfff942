"""`shuffled:NAME`: a model with its own heads at other places of their layers: the same function, at wrong coordinates.

What a claim says of behaviour stays as true or false as it was; what it says of named heads is said of others.
"""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from circuit_claims.controls.sources import source_of
from circuit_claims.models.disk_cache import fingerprint, kept

SEED = 0
ATTENTION = re.compile(r"(?:.*\.)?h\.(\d+)\.attn\.(c_attn|c_proj)\.(weight|bias)")
#: Architectures whose queries, keys and values are matrices of their own, under Llama's names.
LIKE_LLAMA = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "smollm3")
PROJECTION = re.compile(r"(?:.*\.)?layers\.(\d+)\.self_attn\.([qkvo])_proj\.(weight|bias)")


class CannotShuffle(ValueError):
    """The model has no heads that this could move; the message says why."""


def orders(n_layers: int, n_heads: int, seed: int = SEED) -> list[list[int]]:
    """For each layer, which head's weights come to stand at each place: none at its own.

    Raises CannotShuffle where a layer has one head.
    """
    if n_heads < 2:
        raise CannotShuffle("it has one head a layer")
    random = np.random.default_rng([seed, n_layers, n_heads])
    found: list[list[int]] = []
    while len(found) < n_layers:
        order = random.permutation(n_heads)
        if (order != np.arange(n_heads)).all():
            found.append(order.tolist())
    return found


def shuffled_weight(weight: Float[Tensor, "..."], module: str, kind: str, order: Sequence[int]) -> Float[Tensor, "..."]:
    """One tensor of an attention layer (`c_attn` or `c_proj`; weight, [input, output], or bias) with its heads reordered."""
    heads = torch.tensor(order)
    if module == "c_attn":  # queries, keys and values side by side, heads side by side in each
        parts = weight.view(*weight.shape[:-1], 3, len(order), -1)
        return parts.index_select(-2, heads).reshape(weight.shape).contiguous()
    if kind == "weight":
        return weight.view(len(order), -1, weight.shape[1]).index_select(0, heads).reshape(weight.shape).contiguous()
    return weight  # what the layer adds whatever its heads do


def shuffled_projection(
    weight: Float[Tensor, "..."], matrix: str, kind: str, order: Sequence[int], heads_of_each: int
) -> Float[Tensor, "..."]:
    """One tensor of an attention layer of Llama's kind (`q`, `k`, `v` or `o`; weight, [output, input], or bias), reordered.

    order: of the heads that have keys and values of their own, with the `heads_of_each` queries that share them.
    """
    places, groups = torch.tensor(order), len(order)
    if matrix == "o":  # reads heads side by side
        if kind == "bias":
            return weight
        return weight.view(len(weight), groups, -1).index_select(1, places).reshape(weight.shape).contiguous()
    shape = (groups, heads_of_each if matrix == "q" else 1, -1, *weight.shape[1:])
    return weight.view(shape).index_select(0, places).reshape(weight.shape).contiguous()


def shuffled_folder(original: Path, weights: Sequence[Path], sha256: str) -> Path:
    """The folder of the model in `original` with its heads shuffled.

    weights: its safetensors files; sha256: their checksum.

    Heads that share keys and values move together. Raises CannotShuffle where the model is neither of GPT-2's architecture nor
    of one like Llama's, or where a layer has one head, or one of keys.
    """
    config = json.loads((original / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") in LIKE_LLAMA:
        heads = config["num_attention_heads"]
        groups = config.get("num_key_value_heads") or heads
        order_of = orders(config["num_hidden_layers"], groups)
    elif config.get("model_type") == "gpt2":
        heads = groups = config.get("n_head", 12)
        order_of = orders(config.get("n_layer", 12), heads)
    else:
        raise CannotShuffle(f"its architecture is {config.get('model_type')}, whose heads cannot be told apart so far")

    def moved(key: str, value: Tensor) -> Tensor:
        if match := ATTENTION.fullmatch(key):
            return shuffled_weight(value, match[2], match[3], order_of[int(match[1])])
        if match := PROJECTION.fullmatch(key):
            return shuffled_projection(value, match[2], match[3], order_of[int(match[1])], heads // groups)
        return value

    others = sorted({*original.glob("*.json"), *original.glob("*.txt"), *original.glob("*.model")})

    def write(folder: Path) -> None:
        for path in others:
            shutil.copyfile(path, folder / path.name)
        for file in weights:
            state = {}
            with safe_open(file, framework="pt") as tensors:
                metadata = tensors.metadata()
                for key in tensors.keys():  # noqa: SIM118
                    state[key] = moved(key, tensors.get_tensor(key))
            save_file(state, folder / file.name, metadata=metadata)

    marks = fingerprint(source_of(["shuffled.py"]), sha256, *(path.read_bytes() for path in others))
    return kept(f"shuffled-{marks}", write)
