"""`random:NAME`: another model's configuration and tokenizer, whatever its architecture, with weights that are noise."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from circuit_claims.controls.random_weights import SEED
from circuit_claims.controls.sources import source_of
from circuit_claims.models.disk_cache import fingerprint, kept


def noise_like(name: str, weight: Float[Tensor, "..."], generator: torch.Generator) -> Float[Tensor, "..."]:
    """Noise in place of one weight: of a matrix, scaled by its fan-in; of a norm's gain, about 1; of anything else, about 0.

    As for `circuit_claims.controls.random_weights`: attention is then not uniform, and no two heads are the same.
    """
    noise = torch.randn(weight.shape, generator=generator)
    if weight.dim() < 2:
        return 0.1 * noise + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
    scale = 2.0 if "embed" in name or "wte" in name else 1.0
    return scale * weight.shape[-1] ** -0.5 * noise


def random_copy(original: Path, weights: Sequence[Path], sha256: str) -> Path:
    """The folder of a random model of the same configuration and with the same tokenizer as the one in `original`.

    weights: its safetensors files, whose tensors' names, shapes and types are taken; sha256: their checksum.
    """
    others = sorted({*original.glob("*.json"), *original.glob("*.txt"), *original.glob("*.model")})

    def write(folder: Path) -> None:
        for path in others:
            shutil.copyfile(path, folder / path.name)
        generator = torch.Generator().manual_seed(SEED)
        for file in weights:
            state = {}
            with safe_open(file, framework="pt") as tensors:
                metadata = tensors.metadata()
                for key in sorted(tensors.keys()):
                    weight = tensors.get_tensor(key)
                    state[key] = noise_like(key, weight, generator).to(weight.dtype) if weight.is_floating_point() else weight
            save_file(state, folder / file.name, metadata=metadata)

    marks = fingerprint(source_of(["random_copies.py"]), sha256, *(path.read_bytes() for path in others))
    return kept(f"random-{marks}", write)
