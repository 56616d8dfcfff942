"""That the tiny models show what is to be seen: whatever a family does unlike others changes what its model gives."""

from typing import Any

import pytest
import torch

from tests.support.decoders.engines import CLEAN, EFFECT, off, plain
from tests.support.decoders.families import FAMILIES, tiny

DEFAULT = {"rope_type": "default", "rope_theta": 10000.0}
FULL = {"rope_parameters": DEFAULT | {"partial_rotary_factor": 1.0}}
UNSCALED = {"rope_parameters": DEFAULT}

#: Families, and configurations in which one thing is otherwise.
OTHERWISE: list[tuple[str, dict[str, Any]]] = [
    ("gpt2", {"scale_attn_weights": False}),
    ("gpt2 scaled by layer", {"scale_attn_by_inverse_layer_idx": False}),
    ("gpt-neo", {"attention_types": [[["global"], 3]]}),
    ("gpt-neo", {"window_size": 96}),
    ("neox", {"use_parallel_residual": False}),
    ("neox", {"rotary_pct": 0.5}),
    ("neox sequential", {"use_parallel_residual": True}),
    ("gpt-j", {"rotary_dim": 8}),
    ("opt", {"activation_function": "gelu"}),
    ("llama linear", UNSCALED),
    ("llama dynamic", UNSCALED),
    ("llama dynamic", {"max_position_embeddings": 96}),
    ("llama yarn", UNSCALED),
    ("llama llama3", UNSCALED),
    ("llama longrope", UNSCALED),
    ("mistral", {"sliding_window": None}),
    ("qwen2", {"use_sliding_window": False}),
    ("qwen2", {"max_window_layers": 0}),
    ("qwen3", {"use_sliding_window": False}),
    ("gemma2", {"sliding_window": 96}),
    ("gemma2", {"attn_logit_softcapping": None}),
    ("gemma2", {"final_logit_softcapping": None}),
    ("gemma2", {"query_pre_attn_scalar": 12}),
    ("gemma3", {"sliding_window": 96}),
    ("gemma3", {"layer_types": ["sliding_attention"] * 3}),
    ("gemma3", {"final_logit_softcapping": None}),
    ("gemma3", {"query_pre_attn_scalar": 12}),
    ("gemma3", {"rope_parameters": {"full_attention": DEFAULT, "sliding_attention": DEFAULT}}),
    ("phi3", {"sliding_window": None}),
    ("phi3", FULL),
    ("smollm3", {"no_rope_layers": [1, 1, 1]}),
    ("smollm3", {"use_sliding_window": False}),
    ("granite", {"residual_multiplier": 1.0}),
    ("granite", {"logits_scaling": 1.0}),
    ("granite", {"embedding_multiplier": 1.0}),
    ("granite", {"attention_multiplier": 8**-0.5}),
    ("stablelm", FULL),
    ("qwen3-moe", {"norm_topk_prob": False}),
    ("qwen3-moe", {"num_experts_per_tok": 1}),
    ("olmoe", {"num_experts_per_tok": 1}),
    ("cohere", {"logit_scale": 1.0}),
    ("phi", {"partial_rotary_factor": 1.0}),
]


@pytest.mark.parametrize(("family", "other"), OTHERWISE, ids=[f"{family} {' '.join(other)}" for family, other in OTHERWISE])
@torch.no_grad()
def test_what_is_set_counts(family, other):
    found, there = tiny(family, **other)(input_ids=CLEAN, use_cache=False).logits, plain(family)(CLEAN).logits
    assert off(found, there) > EFFECT


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_every_gain_and_bias_counts(family):
    """One that an engine leaves out would be seen."""
    model, there = tiny(family), plain(family)(CLEAN).logits
    vectors = {name: weight for name, weight in model.named_parameters() if weight.ndim == 1 and ".0." not in name}
    assert vectors or family.startswith("olmoe")
    for name, weight in vectors.items():
        before = weight.clone()
        gain = name.endswith("weight")
        weight.fill_(0.0 if family.startswith("gemma") or not gain else 1.0)
        changed = off(model(input_ids=CLEAN, use_cache=False).logits, there) > 1e-4
        weight.copy_(before)
        # The same number added to the scores of all keys is nothing to the softmax; with a rotation it is not the same.
        same = name.endswith("k_proj.bias") and (family.startswith("opt") or (family == "smollm3" and ".1." in name))
        assert changed or same, name


@torch.no_grad()
def test_adapters_count():
    model, there = tiny("llama with lora"), plain("llama with lora")(CLEAN).logits
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            before = weight.clone()
            weight.zero_()
            assert off(model(input_ids=CLEAN, use_cache=False).logits, there) > EFFECT / 10, name
            weight.copy_(before)
