"""Tokenizers that mark the beginning of a text, small enough for a test, with the words of the suite's prompts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from circuit_claims.prompts.ioi import Population
from circuit_claims.prompts.words import NAMES

SPECIAL = ("<unk>", "<s>", "</s>")
Style = Literal["Llama 2", "first", "always"]
#: As Llama 2's tokenizer.json has it, by a normalizer; and by a pre-tokenizer, at the first word or at every one.
STYLES: tuple[Style, ...] = ("Llama 2", "first", "always")


def dummy_prefix_tokenizer(
    style: Style = "Llama 2", words: Sequence[str] = (), pieces: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """Every word of IOI's prompts, and of `words`, is one token with "▁" before it; all other characters are one each.

    pieces: further tokens, as they stand in the vocabulary.
    """
    sample = Population().sample(60, seed=1)
    texts = [prompt.text for prompt in Population().sample(1200, seed=0)]
    texts += [prompt.changed("neutral prefix").text for prompt in sample]
    known = {word.strip(".,") for text in (*texts, *NAMES, *words) for word in text.split()}
    characters = [chr(code) for code in range(33, 127)]
    pieces = [*SPECIAL, *pieces, "▁", *characters, *sorted(f"▁{word}" for word in known if len(word) > 1)]
    pieces += [f"{number:02d}" for number in range(100)]
    pieces += [f"▁{character}" for character in characters]
    scores = [(piece, -1.0 if len(piece) > 1 else -10.0) for piece in dict.fromkeys(pieces)]
    backend = Tokenizer(models.Unigram(scores, unk_id=0))
    if style == "Llama 2":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        strip = [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        backend.decoder = decoders.Sequence(strip)
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=style, split=style == "always")
        backend.decoder = decoders.Metaspace(prepend_scheme=style)
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def save_tiny_llama(folder: Path, tokenizer: Any, *, n_layer: int = 3, n_head: int = 4) -> Path:
    """Write a random Llama of width 32 with a tokenizer, and give back its folder."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=n_layer,
        num_attention_heads=n_head,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=96,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(noise / weight.shape[1] ** 0.5 if weight.ndim == 2 else 1 + 0.1 * noise)
    model.save_pretrained(folder)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    said = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(said | {"add_bos_token": True}))
    return folder
