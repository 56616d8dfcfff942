"""What is read off a configuration, and what no comparison on short prompts would show."""

import pytest
import torch
from transformers import GPT2Config, LlamaConfig, MistralConfig, Qwen2Config

from circuit_claims.engine.decoder.module_decoder import ModuleDecoder
from circuit_claims.engine.decoder.wiring import window, wiring
from circuit_claims.engine.unsupported import UnsupportedArchitecture
from circuit_claims.subjects.faithful_boot import random_tokens
from tests.support.decoders.engines import make_engine
from tests.support.decoders.families import tiny


def test_a_plain_llama_has_no_factors():
    plan = wiring(LlamaConfig())
    assert (plan.parallel, plan.write_scale, plan.logit_scale, plan.logit_cap, plan.pairing) == (False, 1, 1, None, "halves")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"attn_temperature_tuning": True}, "queries are scaled by their positions"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1.0, "llama_4_scaling_beta": 0.1}}, "by their positions"),
        ({"layer_types": ["full_attention", "chunked_attention"]}, "layers of another kind \\(chunked_attention\\)"),
        ({"alibi": True}, "biases of the attention scores"),
    ],
)
def test_what_begins_beyond_some_length_is_left_to_hooks(said, why):
    config = LlamaConfig(num_hidden_layers=2)
    for name, value in said.items():
        setattr(config, name, value)
    with pytest.raises(UnsupportedArchitecture, match=why):
        wiring(config)


def test_windows_are_those_of_each_layer():
    assert [window(MistralConfig(sliding_window=5), layer) for layer in (0, 1)] == [5, 5]
    assert window(MistralConfig(sliding_window=None), 0) is None
    qwen = Qwen2Config(num_hidden_layers=4, use_sliding_window=True, sliding_window=6, max_window_layers=2)
    assert [window(qwen, layer) for layer in range(4)] == [None, None, 6, 6]
    assert window(GPT2Config(), 0) is None


def test_models_are_compared_beyond_a_short_chunk_and_a_short_trained_length():
    config = LlamaConfig()
    config.attention_chunk_size = 20
    assert random_tokens(config, 300).shape[1] == 24
    config.rope_parameters = {"rope_type": "llama3", "rope_theta": 1.0, "original_max_position_embeddings": 30}
    assert random_tokens(config, 300).shape[1] == 34
    config.attention_chunk_size = 8192
    config.rope_parameters["original_max_position_embeddings"] = 8192
    assert random_tokens(config, 300).shape[1] == 12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("family", "factor"), [("gemma2", 32**0.5), ("granite", None), ("opt", 1.0), ("gpt-neo", 1.0), ("llama", 1.0)]
)
def test_what_tokens_put_into_the_stream_depends_on_no_other_token(family, factor, dtype):
    """One token alone is what it is among others; positions, where they are learned, are no part of it."""
    model = tiny(family)
    factor = factor or model.config.embedding_multiplier
    engine = make_engine(model)
    if dtype == torch.bfloat16:
        engine = make_engine(tiny(family).to(dtype), dtype=dtype)
    assert isinstance(engine, ModuleDecoder)
    tokens = torch.tensor([7, 7, 30, 199])
    alone = torch.cat([engine.token_embeddings(tokens[index : index + 1]) for index in range(4)])
    assert torch.equal(alone, engine.token_embeddings(tokens))
    rounding = 1e-5 if dtype == torch.float32 else 0.02
    assert (alone - factor * engine.W_E[tokens]).abs().max() <= rounding * alone.abs().max()
