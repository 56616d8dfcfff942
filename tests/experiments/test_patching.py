"""Patching of one pair of prompts: one pass through plain hooks for each cell."""

import numpy as np
import pytest
import torch

import circuit_claims as cc
from circuit_claims.experiments.experiment_error import ExperimentError
from tests.experiments.prompts import OTHER, STORE, plain_cache, plain_logits, put, tokens_of


@pytest.mark.parametrize("foil", [None, " John"], ids=["probability", "logit difference"])
@pytest.mark.parametrize(("at", "position"), [("END", 13), ("gave", 10), (9, 9), ("-3", 11)])
def test_every_cell_is_a_pass_through_plain_hooks(mini, at, position, foil):
    mary, john = (int(tokens_of(mini, answer)[0, 0]) for answer in (" Mary", " John"))

    def score(logits: torch.Tensor) -> float:
        return float(logits.softmax(-1)[mary] if foil is None else logits[mary] - logits[john])

    found = cc.patch(mini, STORE, OTHER, " Mary", foil=foil, at=at)
    clean, corrupted = tokens_of(mini, STORE), tokens_of(mini, OTHER)
    base, cache = score(plain_logits(mini, corrupted)), plain_cache(mini, clean)
    tolerance = 1e-5 * max(1.0, abs(found.total_effect))
    assert found.at == position
    assert found.corrupted == pytest.approx(base, abs=tolerance)
    assert found.clean == pytest.approx(score(plain_logits(mini, clean)), abs=tolerance)
    n_layers, n_heads = found.heads.shape
    for layer in range(n_layers):
        name = f"blocks.{layer}.attn.hook_z"
        for head in range(n_heads):
            hook = put(name, (position, head), cache[name][0, position, head])
            assert found.heads[layer, head] == pytest.approx(score(plain_logits(mini, corrupted, [hook])) - base, abs=tolerance)
        if at != "END":
            continue
        name = f"blocks.{layer}.hook_resid_pre"
        for where in range(clean.shape[1]):
            hook = put(name, (where,), cache[name][0, where])
            assert found.resid[layer, where] == pytest.approx(
                score(plain_logits(mini, corrupted, [hook])) - base, abs=tolerance
            )


def test_recovery_is_the_share_of_what_the_corruption_costs(mini):
    found = cc.patch(mini, STORE, OTHER, " Mary", foil=" John")
    assert found.recovery(found.resid)[0, 9] == pytest.approx(1.0, abs=1e-5), "the token that differs, before the first layer"
    assert np.abs(found.resid[:, :9]).max() == 0, "nothing differs before it"
    assert found.to_json()["result"]["heads"]["recovery"][0][4] == pytest.approx(found.heads[0, 4] / found.total_effect)


def test_where_the_corruption_costs_nothing_there_is_no_recovery(mini):
    found = cc.patch(mini, OTHER, STORE, " Mary", foil=" John")
    assert found.total_effect < 0 and found.recovery(found.heads) is None
    assert any("costs nothing" in remark for remark in found.remarks)
    assert found.to_json()["result"]["heads"]["recovery"] is None


def test_prompts_of_different_length_are_refused(mini):
    with pytest.raises(ExperimentError, match="14 and 15 tokens for mini, and are paired position by position"):
        cc.patch(mini, STORE, OTHER + " the", " Mary")


def test_a_prompt_that_is_not_corrupted_is_refused(mini):
    with pytest.raises(ExperimentError, match="the two prompts are the same tokens"):
        cc.patch(mini, STORE, STORE, " Mary")
