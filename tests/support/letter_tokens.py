"""A subject whose tokenizer spells acronyms letter by letter, as GPT-2's does, small enough for a test."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from circuit_claims.prompts.acronyms import LETTERS, WORDS
from circuit_claims.prompts.words import NAMES
from circuit_claims.subjects.subject import Settings, Subject, prepare
from tests.support.tiny_models import save_tiny_card

LAYERS, HEADS = 4, 8


def letter_subject(folder: Path) -> Subject:
    """Random weights, and a tokenizer with "The", each letter with a space and without, and the rests of the words."""
    names = [f" {name}" for name in NAMES[:20]]
    rests = sorted({word[1:] for word in WORDS})
    pieces = ["<|endoftext|>", "<unk>", "The", " (", "(", " ", *LETTERS, *(f" {letter}" for letter in LETTERS), *rests, *names]
    pieces += [letter for letter in "abcdefghijklmnopqrstuvwxyz." if letter not in rests]
    scores = [(piece, -1.0 if len(piece) > 1 else -2.0) for piece in dict.fromkeys(pieces)]
    end = "<|endoftext|>"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.Unigram(scores, unk_id=1)), bos_token=end, eos_token=end, unk_token="<unk>"
    )
    tokenizer.save_pretrained(folder)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=256, n_layer=LAYERS, n_head=HEADS, n_embd=64)
    torch.manual_seed(0)
    GPT2LMHeadModel(config).eval().save_pretrained(folder)
    card = save_tiny_card(folder.parent / f"{folder.name}.toml", n_layer=LAYERS, n_head=HEADS)
    return Subject(prepare(Settings(name=str(folder), card=str(card))))
