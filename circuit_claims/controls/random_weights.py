"""`random`: weights that are noise, in the shape of GPT-2 small or of `mini`: on these, no claim about a circuit may stand."""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims.controls.sources import source_of
from circuit_claims.models.disk_cache import fingerprint, kept

WRITTEN_BY = ("random_weights.py", "saving.py", "vocabulary.py")
SEED = 0


class Shape(NamedTuple):
    """The sizes of a GPT-2."""

    n_layer: int
    n_head: int
    width: int
    n_positions: int


GPT2_SMALL = Shape(12, 12, 768, 1024)


def random_weights(shape: Shape, vocabulary: int, seed: int = SEED) -> dict[str, Float[Tensor, "..."]]:
    """Noise, scaled by its fan-in, so that attention is not uniform, every block writes something of the size of the embedding,
    logits differ by a few units, and no two heads are the same; biases and layer norms' gains vary too.
    """
    generator = torch.Generator().manual_seed(seed)
    width = shape.width

    def noise(*size: int, scale: float = 0.1) -> Tensor:
        return scale * torch.randn(size, generator=generator)

    def linear(name: str, inputs: int, outputs: int) -> dict[str, Tensor]:
        return {f"{name}.weight": noise(inputs, outputs, scale=inputs**-0.5), f"{name}.bias": noise(outputs)}

    def norm(name: str) -> dict[str, Tensor]:
        return {f"{name}.weight": 1 + noise(width), f"{name}.bias": noise(width)}

    state = {
        "transformer.wte.weight": noise(vocabulary, width, scale=2 * width**-0.5),
        "transformer.wpe.weight": noise(shape.n_positions, width, scale=width**-0.5),
    }
    for layer in range(shape.n_layer):
        block = f"transformer.h.{layer}"
        state |= norm(f"{block}.ln_1") | linear(f"{block}.attn.c_attn", width, 3 * width)
        state |= linear(f"{block}.attn.c_proj", width, width) | norm(f"{block}.ln_2")
        state |= linear(f"{block}.mlp.c_fc", width, 4 * width) | linear(f"{block}.mlp.c_proj", 4 * width, width)
    return state | norm("transformer.ln_f")


def random_folder() -> Path:
    """The folder of a random model of GPT-2 small's shape, with the planted model's tokenizer."""

    def write(folder: Path) -> None:
        from circuit_claims.controls.saving import save_gpt2
        from circuit_claims.controls.vocabulary import token_ids

        save_gpt2(folder, random_weights(GPT2_SMALL, len(token_ids())), n_head=GPT2_SMALL.n_head)

    from circuit_claims.controls.vocabulary import words

    return kept(f"random-{fingerprint(source_of(WRITTEN_BY), ' '.join(words()))}", write)


def random_like(original: Path) -> Path:
    """The folder of a random model of the same configuration and with the same tokenizer as a GPT-2 in `original`."""
    config = json.loads((original / "config.json").read_text(encoding="utf-8"))
    shape = Shape(config["n_layer"], config["n_head"], config["n_embd"], config["n_positions"])
    others = sorted(path for path in original.glob("*.json") if path.name.startswith(("config", "tokenizer")))

    def write(folder: Path) -> None:
        from safetensors.torch import save_file

        for path in others:
            shutil.copyfile(path, folder / path.name)
        save_file(random_weights(shape, config["vocab_size"]), folder / "model.safetensors", metadata={"format": "pt"})

    print_of_files = fingerprint(source_of(WRITTEN_BY), *(path.read_bytes() for path in others))
    return kept(f"random-{original.name}-{print_of_files}", write)
