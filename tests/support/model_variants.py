"""What people do to a model: prune heads, quantise, fine-tune. Each gives a new folder beside the original's files."""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from circuit_claims.heads import Head

State = dict[str, Tensor]


def variant(original: Path, folder: Path, change: Callable[[State], State]) -> Path:
    """A copy of the model in `original` with its weights changed."""
    folder.mkdir(parents=True)
    for path in original.glob("*.json"):
        shutil.copyfile(path, folder / path.name)
    save_file(change(load_file(original / "model.safetensors")), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def pruned(original: Path, folder: Path, heads: Iterable[Head]) -> Path:
    """Without these heads: they look, and write nothing."""
    n_head = json.loads((original / "config.json").read_text())["n_head"]

    def prune(state: State) -> State:
        for head in heads:
            (key,) = (key for key in state if key.endswith(f"h.{head.layer}.attn.c_proj.weight"))
            width = len(state[key]) // n_head
            state[key][head.head * width : (head.head + 1) * width] = 0.0
        return state

    return variant(original, folder, prune)


def quantised(original: Path, folder: Path, bits: int = 8) -> Path:
    """Every matrix rounded to so many bits, one scale a row (absolute maximum), and taken back to floating point."""

    def quantise(state: State) -> State:
        most = 2 ** (bits - 1) - 1
        for key, weight in state.items():
            if weight.dim() == 2:
                scale = weight.abs().amax(1, keepdim=True).clamp_min(1e-12) / most
                state[key] = ((weight / scale).round().clamp(-most, most) * scale).to(weight.dtype)
        return state

    return variant(original, folder, quantise)


def fine_tuned(original: Path, folder: Path, texts: list[str], steps: int, learning_rate: float) -> Path:
    """After some steps of AdamW on these texts."""
    from transformers import AutoTokenizer, GPT2LMHeadModel

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(original)
    model = GPT2LMHeadModel.from_pretrained(original, dtype=torch.float32).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    for step in range(steps):
        ids = torch.tensor([tokenizer(texts[step % len(texts)]).input_ids])
        model(input_ids=ids, labels=ids).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(folder)
    for path in original.glob("tokenizer*.json"):
        shutil.copyfile(path, folder / path.name)
    return folder
