"""Small models of GPT-2's architecture with one head that is known, token by token, by how it was written."""

import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims.heads import Head
from tests.support.tiny_models import save_tiny_gpt2

LAYERS, HEADS, WIDTH = 2, 4, 32
SIZE = WIDTH // HEADS
#: The head that is written; all others are noise.
KNOWN = Head(1, 2)


def codes(tokens: int) -> Float[Tensor, "token d_head"]:
    """A unit code for every token that is the nearest to itself of all, and that all together add up to nothing."""
    generator = torch.Generator().manual_seed(5)
    half = torch.nn.functional.normalize(torch.randn((tokens - 3) // 2, SIZE, generator=generator), dim=1)
    three = torch.zeros(3, SIZE)
    for i in range(3):  # an odd number of tokens has three that add up to nothing by themselves
        three[i, 0], three[i, 1] = math.cos(2 * math.pi * i / 3), math.sin(2 * math.pi * i / 3)
    rest = [] if tokens % 2 else [torch.zeros(1, SIZE)]
    return torch.cat([half, -half, three, *rest])[:tokens]


def save_with_known_head(folder: Path, *, writes: float, looks: float) -> Path:
    """Write a model whose head `KNOWN` reads tokens' codes.

    writes: how much of the code it writes back into the stream: −1 suppresses what it attends to, 1 copies it, 0 does nothing.
    looks: how much it attends to the code that is about to be predicted: 1 finds it, −1 avoids it.
    Block 0 writes nothing, so that the effective embedding is the embedding, whose mean over the stream is zero.
    """
    from transformers import GPT2LMHeadModel

    save_tiny_gpt2(folder, n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH)
    model: Any = GPT2LMHeadModel.from_pretrained(folder)  # its blocks are modules of no declared kind
    embedding = model.transformer.wte.weight
    into = torch.zeros(WIDTH, SIZE)
    into[:SIZE], into[SIZE : 2 * SIZE] = torch.eye(SIZE), -torch.eye(SIZE)
    with torch.no_grad():
        embedding.copy_(codes(len(embedding)) @ into.T)
        first, block = model.transformer.h[0], model.transformer.h[1]
        for written in (first.attn.c_proj, first.mlp.c_proj):
            written.weight.zero_()
            written.bias.zero_()
        for norm in (block.ln_1, model.transformer.ln_f):
            norm.weight.fill_(1)
        columns = slice(KNOWN.head * SIZE, (KNOWN.head + 1) * SIZE)
        for which, factor in enumerate((looks, 1.0, 1.0)):  # queries, keys, values
            block.attn.c_attn.weight[:, which * WIDTH :][:, columns] = factor * into
        block.attn.c_proj.weight[columns] = writes * into.T
    model.save_pretrained(folder)
    return folder
