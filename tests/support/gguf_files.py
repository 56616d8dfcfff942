"""GGUF files small enough for a test: a random Llama with a byte-level tokenizer, as llama.cpp's converter would write it."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, quantize
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from circuit_claims.prompts.ioi import Population
from circuit_claims.prompts.words import NAMES

#: Rows are whole blocks of 32 weights.
SHAPE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96}
#: transformers' names of a layer's weights, and GGUF's.
IN_A_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
BOS, EOS = "<|begin|>", "<|end|>"


@lru_cache(maxsize=1)
def backend() -> Tokenizer:
    """Byte pairs of the suite's prompts, with all names and some numbers as tokens of their own."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=1500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=[BOS, EOS], show_progress=False
    )
    prompts = [prompt.text for prompt in Population().sample(300, seed=0)]
    made.train_from_iterator(prompts + [f" {name}" for name in NAMES] * 9 + [f" {n}" for n in range(1700, 1760)] * 9, trainer)
    return made


def tiny_llama(*, tied: bool = False, seed: int = 0, n_tokens: int | None = None, **more: Any) -> LlamaForCausalLM:
    """A random Llama, for this tokenizer where no number of tokens is given."""
    given: dict[str, Any] = SHAPE | {"max_position_embeddings": 96, "tie_word_embeddings": tied} | more
    model = LlamaForCausalLM(LlamaConfig(vocab_size=n_tokens or backend().get_vocab_size(), **given)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(noise / weight.shape[-1] ** 0.5 if weight.ndim > 1 else 1 + 0.1 * noise)
    return model.requires_grad_(False)


def gguf_name(name: str) -> str:
    """What GGUF calls a weight of transformers' Llama."""
    if name.startswith("model.layers."):
        layer, _, rest = name.removeprefix("model.layers.").partition(".")
        return f"blk.{layer}.{IN_A_LAYER[rest.removesuffix('.weight')]}.weight"
    return f"{OUTSIDE[name.removesuffix('.weight')]}.weight"


def interleaved(weight: np.ndarray, n_heads: int) -> np.ndarray:
    """Queries or keys as llama.cpp rotates them: in pairs of neighbours, and not of halves."""
    return weight.reshape(n_heads, 2, -1, weight.shape[-1]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(
    path: Path,
    model: LlamaForCausalLM,
    form: GGMLQuantizationType = GGMLQuantizationType.F32,
    *,
    architecture: str = "llama",
    pre: str | None = "gpt-2",
    tokens: Callable[[GGUFWriter], Any] | None = None,
    leave_out: str = "",
    change: Callable[[GGUFWriter], Any] = lambda writer: None,
) -> Path:
    """Write a model with every matrix in this form, and give back the path.

    pre: how the tokenizer cuts texts; tokens: what writes another tokenizer; leave_out: a tensor that is not written; change:
    what else is put into the file.
    """
    config: Any = model.config  # every field of its own kind
    writer = GGUFWriter(path, architecture)
    writer.add_type("model")
    writer.add_name("tiny")
    writer.add_file_type(LlamaFileType.ALL_F32)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    if tokens:
        tokens(writer)
    else:
        add_tokenizer(writer, pre)
    for name, weight in model.state_dict().items():
        if gguf_name(name) == leave_out or (name == "lm_head.weight" and config.tie_word_embeddings):
            continue
        array = weight.numpy()
        if "q_proj" in name or "k_proj" in name:
            array = interleaved(array, config.num_attention_heads if "q_proj" in name else config.num_key_value_heads)
        as_form = form if array.ndim > 1 else GGMLQuantizationType.F32
        writer.add_tensor(gguf_name(name), quantize(array, as_form), raw_dtype=as_form)
    change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_tokenizer(writer: GGUFWriter, pre: str | None) -> None:
    import json

    said = json.loads(backend().to_str())["model"]
    words = sorted(said["vocab"], key=said["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(words)
    writer.add_token_types([3 if word in (BOS, EOS) else 1 for word in words])  # 3: a control token
    writer.add_token_merges([" ".join(pair) for pair in said["merges"]])
    writer.add_bos_token_id(words.index(BOS))
    writer.add_eos_token_id(words.index(EOS))
    writer.add_add_bos_token(False)
