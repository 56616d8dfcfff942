"""Attribution of one prompt: parts of the bridge's own cache projected by hand, and gradients through its hooks."""

from typing import Any

import numpy as np
import pytest
import torch

import circuit_claims as cc
from circuit_claims.experiments.experiment_error import ExperimentError
from tests.experiments.prompts import OTHER, STORE, plain_cache, plain_logits, tokens_of


@pytest.mark.parametrize("foil", [None, " John"], ids=["above the mean", "over the foil"])
def test_every_part_is_what_it_writes_along_the_answer(mini, foil):
    tokens = tokens_of(mini, STORE)
    found: Any = cc.attribute(mini, STORE, " Mary", foil=foil)
    cache, W_U = plain_cache(mini, tokens), mini.bridge.W_U.double()
    mary, john = (int(tokens_of(mini, answer)[0, 0]) for answer in (" Mary", " John"))
    direction = W_U[:, mary] - (W_U.mean(1) if foil is None else W_U[:, john])
    final = cache[f"blocks.{len(found.heads) - 1}.hook_resid_post"][0, -1].double()
    scale = (final.var(correction=0) + mini.bridge.cfg.eps) ** 0.5

    def along(part: torch.Tensor) -> float:
        part = part.double()
        return float((part - part.mean()) / scale @ direction)

    assert found.embedding == pytest.approx(along(cache["blocks.0.hook_resid_pre"][0, -1]), abs=1e-5)
    for layer, heads in enumerate(found.heads):
        assert found.attention[layer] == pytest.approx(along(cache[f"blocks.{layer}.hook_attn_out"][0, -1]), abs=1e-5)
        assert found.mlp[layer] == pytest.approx(along(cache[f"blocks.{layer}.hook_mlp_out"][0, -1]), abs=1e-5)
        z = cache[f"blocks.{layer}.attn.hook_z"][0, -1]
        for head, share in enumerate(heads):
            assert share == pytest.approx(along(z[head] @ mini.bridge.W_O[layer, head]), abs=1e-5)
    logits = plain_logits(mini, tokens)
    total = float(logits[mary] - (logits.mean() if foil is None else logits[john]))
    assert found.total == pytest.approx(total, abs=1e-4)
    parts = found.embedding + found.attention.sum() + found.mlp.sum() + found.constant
    assert found.total == pytest.approx(parts, abs=1e-9)


def test_what_no_part_writes_is_small_where_the_weights_are_processed(mini):
    """What is left then is the unembedding's bias alone."""
    mary, john = (int(tokens_of(mini, answer)[0, 0]) for answer in (" Mary", " John"))
    bias = mini.bridge.b_U
    found: Any = cc.attribute(mini, STORE, " Mary", foil=" John")
    assert found.constant == pytest.approx(float(bias[mary] - bias[john]), abs=1e-4)


def test_attribution_patching_is_a_gradient_through_plain_hooks(mini):
    found: Any = cc.attribute(mini, STORE, " Mary", foil=" John", corrupted=OTHER, method="attribution-patching")
    mary, john = (int(tokens_of(mini, answer)[0, 0]) for answer in (" Mary", " John"))
    cache, kept = plain_cache(mini, tokens_of(mini, STORE)), {}

    def keep(name):
        def hook(activation, hook):
            if not activation.requires_grad:
                activation.requires_grad_()
            activation.retain_grad()
            kept[name] = activation
            return activation

        return name, hook

    n_layers = len(found.heads)
    sites = {"resid_pre": "hook_resid_pre", "attn_out": "hook_attn_out", "mlp_out": "hook_mlp_out", "z": "attn.hook_z"}
    names = {(site, layer): f"blocks.{layer}.{name}" for site, name in sites.items() for layer in range(n_layers)}
    hooks = [keep(name) for name in names.values()]
    logits = mini.bridge.run_with_hooks(tokens_of(mini, OTHER), fwd_hooks=hooks, prepend_bos=False)[0, -1]
    (logits[mary] - logits[john]).backward()
    for (site, layer), name in names.items():
        product = (kept[name].grad * (cache[name] - kept[name]))[0].detach().sum(-1)
        ours = found.heads[layer] if site == "z" else found.blocks[site][layer]
        theirs = product.sum(0) if site == "z" else product
        assert ours == pytest.approx(theirs.numpy(), abs=1e-4), name
    assert found.corrupted == pytest.approx(float((logits[mary] - logits[john]).detach()), abs=1e-4)


def test_the_heads_that_count_most_are_told_with_their_sign(mini):
    found: Any = cc.attribute(mini, STORE, " Mary", foil=" John")
    (first, value), *_ = found.largest()
    assert abs(value) == np.abs(found.heads).max() and f"{first} {value:+.3g}" in found.sentence


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "attribution-patching", "foil": " John"}, "give a corrupted prompt"),
        ({"method": "attribution-patching", "corrupted": OTHER}, "another answer"),
        ({"corrupted": OTHER}, "direct attribution is of one prompt"),
        ({"method": "guessing"}, "unknown method 'guessing'"),
        ({"foil": " Mary"}, "the same token"),
    ],
)
def test_what_a_method_lacks_is_one_sentence(mini, given, said):
    with pytest.raises(ExperimentError, match=said):
        cc.attribute(mini, STORE, " Mary", **given)  # pyright: ignore[reportArgumentType]
