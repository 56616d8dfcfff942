"""A model whose answer depends on BOS, and tokenizers that put BOS before what they read."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from circuit_claims.models.folder import EMBEDDED
from circuit_claims.prompts.words import NAMES
from tests.support.tiny_models import N_POSITIONS, TOKENIZER_FILES

WIDTH = 256
#: Where BOS is written in the embedding, which no other token uses.
BOS_PLACE = 0


def save_depending_on_bos(folder: Path, *, with_bos: float = -0.5, without: float = 1.0) -> Path:
    """Write a model of one layer that puts the name that stands twice ahead, or behind, and give back its folder.

    Two heads attend evenly and copy what they read, the first `without` - `with_bos` times and the second `with_bos` times,
    so that a name that stands twice is ahead where the sum is above 0. The first head looks at nothing but BOS where there is
    one, and then only the second is left.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    vocabulary = json.loads((EMBEDDED["mini"] / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    bos = vocabulary["<|endoftext|>"]
    config = GPT2Config(
        vocab_size=len(vocabulary),
        n_positions=N_POSITIONS,
        n_layer=1,
        n_head=2,
        n_embd=WIDTH,
        bos_token_id=bos,
        eos_token_id=bos,
    )
    model: Any = GPT2LMHeadModel(config).eval()
    generator, half = torch.Generator().manual_seed(0), WIDTH // 2
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        block = model.transformer.h[0]
        for norm in (block.ln_1, block.ln_2, model.transformer.ln_f):
            norm.weight.fill_(1.0)
        embedding, names = model.transformer.wte.weight.clone(), [vocabulary[name] for name in NAMES]
        embedding[names] = torch.randn((len(names), WIDTH), generator=generator)  # of other words nothing is copied
        embedding[names] -= embedding[names].mean(1, keepdim=True)  # layer norm is to leave 0 at BOS's place
        embedding[:, BOS_PLACE] = 0.0
        embedding[bos, BOS_PLACE] = WIDTH**0.5
        model.transformer.wte.weight.copy_(embedding)
        into, out = block.attn.c_attn, block.attn.c_proj.weight  # Conv1D keeps [in, out]: queries, keys and values side by side
        into.bias[0] = 12.0  # the first head's query, wherever it stands
        into.weight[BOS_PLACE, WIDTH] = 12.0
        read = torch.arange(1, half)
        for head, strength in enumerate((without - with_bos, with_bos)):
            values = 2 * WIDTH + half * head
            into.weight[read, values + read] = 1.0
            out[half * head + read, read] = 10.0 * strength
    model.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copy(EMBEDDED["mini"] / name, folder / name)
    return folder


def begin_with_bos(folder: Path, *, by: str = "template") -> Path:
    """Have a folder's tokenizer put BOS first: by tokenizer.json's template, or by a flag alone in tokenizer_config.json."""
    if by == "template":
        from tokenizers import Tokenizer, processors

        backend, bos = Tokenizer.from_file(str(folder / "tokenizer.json")), "<|endoftext|>"
        special = [(bos, backend.token_to_id(bos))]
        backend.post_processor = processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=special)
        backend.save(str(folder / "tokenizer.json"))
    else:
        change_tokenizer_config(folder, add_bos_token=True)
    return folder


def change_tokenizer_config(folder: Path, **changes: Any) -> Path:
    """Set or, with None, remove keys of a folder's tokenizer_config.json."""
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}), encoding="utf-8")
    return folder
