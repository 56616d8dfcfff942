"""GGUF files of the architectures that people use: what is loaded is what was written, and no tensor of theirs is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from gguf import MODEL_ARCH_NAMES, GGUFWriter, RopeScalingType, get_tensor_name_map
from transformers import AutoModelForCausalLM

from circuit_claims.models.gguf import inspect_gguf
from circuit_claims.subjects.faithful_boot import load_model
from tests.support.gguf_files import add_tokenizer, backend, interleaved

TOKENS = torch.arange(20, 44)[None]
SHAPE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, "num_key_value_heads": 2}
USUAL = SHAPE | {"max_position_embeddings": 96}
WIDE = USUAL | {"head_dim": 32}
GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 96}
WINDOW = {"sliding_window": 6}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True}
#: By llama.cpp's name: transformers' configuration, what is set, and how the file's numbers differ from transformers'.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any], str]] = {
    "qwen2": ("Qwen2Config", USUAL, ""),
    "qwen3": ("Qwen3Config", WIDE, ""),
    "qwen3moe": ("Qwen3MoeConfig", WIDE | EXPERTS, ""),
    "gemma2": ("Gemma2Config", WIDE | WINDOW | {"query_pre_attn_scalar": 256}, "norms count from one"),
    "gemma3": ("Gemma3TextConfig", WIDE | WINDOW | {"num_hidden_layers": 7}, "norms count from one"),
    "phi3": ("Phi3Config", USUAL | WINDOW | {"pad_token_id": 0}, ""),
    "stablelm": ("StableLmConfig", USUAL, ""),
    "starcoder2": ("Starcoder2Config", USUAL | WINDOW, ""),
    "nemotron": ("NemotronConfig", USUAL, "norms count from one"),
    "gpt2": ("GPT2Config", GPT2, "transposed"),
    "llama": ("MistralConfig", USUAL | {"sliding_window": None}, "interleaved"),
}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> None:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def random_model(kind: str, given: dict[str, Any]) -> Any:
    config = getattr(transformers, kind)(vocab_size=backend().get_vocab_size(), **given)
    model: Any = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        noise = torch.randn(weight.shape, generator=generator)
        weight.copy_(noise / weight.shape[-1] ** 0.5 if weight.ndim > 1 else weight + 0.1 * noise)
    return model


def write(path: Path, architecture: str, model: Any, numbers: str, rope_factor: float = 1.0) -> Path:
    """Write a model as llama.cpp's converter does, as far as the architectures here need."""
    config = model.config
    writer = GGUFWriter(path, architecture)
    writer.add_type("model")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(getattr(config, "intermediate_size", 4 * config.hidden_size))
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(getattr(config, "num_key_value_heads", config.num_attention_heads))
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(width)
    writer.add_value_length(width)
    rope = getattr(config, "rope_parameters", None) or {}
    rope = rope.get("full_attention", rope)
    writer.add_rope_dimension_count(int(width * rope.get("partial_rotary_factor", 1)))
    if rope:
        writer.add_rope_freq_base(rope["rope_theta"])
    if rope_factor != 1.0:
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope_factor)
    writer.add_layer_norm_rms_eps(getattr(config, "rms_norm_eps", 1e-5))
    writer.add_layer_norm_eps(next((getattr(config, f"{n}") for n in EPSILONS if hasattr(config, n)), 1e-5))
    if getattr(config, "sliding_window", None):
        writer.add_sliding_window(config.sliding_window)
    if hasattr(config, "num_experts"):
        writer.add_expert_count(config.num_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    add_tokenizer(writer, "gpt-2")
    for name, array in tensors(architecture, model, numbers).items():
        writer.add_tensor(name, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


EPSILONS = ("layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon")


def tensors(architecture: str, model: Any, numbers: str) -> dict[str, np.ndarray]:
    config = model.config
    key = next(key for key, name in MODEL_ARCH_NAMES.items() if name == architecture)
    names = get_tensor_name_map(key, config.num_hidden_layers)
    found: dict[str, np.ndarray] = {}
    for name, weight in model.state_dict().items():
        array, layer = weight.numpy(), name.split(".")[2] if name.count(".") > 2 else ""
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if name.endswith("gate_up_proj") and array.ndim == 3:
            found[f"blk.{layer}.ffn_gate_exps.weight"], found[f"blk.{layer}.ffn_up_exps.weight"] = np.split(array, 2, axis=1)
            continue
        if name.endswith("experts.down_proj"):
            found[f"blk.{layer}.ffn_down_exps.weight"] = array
            continue
        stem, _, suffix = name.rpartition(".")
        called = names.get_name(stem)
        assert called is not None, name
        matrix = suffix == "weight" and called.endswith(("attn_qkv", "ffn_up", "ffn_down", "attn_output"))
        if numbers == "norms count from one" and called.endswith("norm") and suffix == "weight":
            array = array + 1
        if numbers == "transposed" and matrix:
            array = array.T
        if numbers == "interleaved" and called.endswith(("attn_q", "attn_k")):
            heads = config.num_attention_heads if called.endswith("attn_q") else config.num_key_value_heads
            array = interleaved(array, heads)
        found[f"{called}.{suffix}"] = array
    return found


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_model_is_the_one_that_was_written(tmp_path, architecture):
    kind, given, numbers = ARCHITECTURES[architecture]
    model = random_model(kind, given)
    found = inspect_gguf("tiny", write(tmp_path / "tiny.gguf", architecture, model, numbers), "made up")
    loaded = load_model(found.path, torch.float32)
    assert torch.allclose(loaded(TOKENS).logits, model(TOKENS).logits, atol=1e-5)
    assert loaded.config.bos_token_id == 0 and loaded.config.eos_token_id == 1 and loaded.config.pad_token_id is None


def test_gemma_3_scales_the_positions_of_its_global_layers_alone(tmp_path):
    kind, given, numbers = ARCHITECTURES["gemma3"]
    rope: dict[str, Any] = random_model(kind, given).config.rope_parameters
    scaled = rope | {"full_attention": rope["full_attention"] | {"rope_type": "linear", "factor": 8.0}}
    model, plain = random_model(kind, given | {"rope_parameters": scaled}), random_model(kind, given)
    found = inspect_gguf("tiny", write(tmp_path / "tiny.gguf", "gemma3", model, numbers, rope_factor=8.0), "made up")
    loaded = load_model(found.path, torch.float32)
    assert torch.allclose(loaded(TOKENS).logits, model(TOKENS).logits, atol=1e-5)
    assert not torch.allclose(plain(TOKENS).logits, model(TOKENS).logits, atol=1e-5)
