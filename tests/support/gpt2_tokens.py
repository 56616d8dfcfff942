"""A random model with GPT-2's own tokenizer: of its layers and heads, and narrow enough for a test."""

import json
import shutil
from pathlib import Path

from safetensors.torch import save_file

from circuit_claims.controls.random_weights import Shape, random_weights

FILES = ("vocab.json", "merges.txt", "tokenizer_config.json")


def save_narrow_gpt2(folder: Path, original: Path, *, width: int = 48) -> Path:
    """Write a random model of 12 layers of 12 heads with the tokenizer in `original`, and give back its folder."""
    folder.mkdir()
    config = json.loads((original / "config.json").read_text(encoding="utf-8")) | {"n_embd": width}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name in FILES:
        shutil.copyfile(original / name, folder / name)
    weights = random_weights(Shape(config["n_layer"], config["n_head"], width, config["n_positions"]), config["vocab_size"])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
