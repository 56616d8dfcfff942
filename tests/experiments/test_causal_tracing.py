"""Causal tracing of one prompt: one pass through plain hooks for each cell, and the chapter on facts."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import circuit_claims as cc
from circuit_claims.experiments.experiment_error import ExperimentError
from circuit_claims.experiments.one_prompt import OnePrompt
from circuit_claims.experiments.reading import read_prompt
from circuit_claims.tasks.operations.causal_tracing import DRAWS, NOISE
from tests.experiments.prompts import FRANCE, ITALY, plain_cache, plain_logits, put, tokens_of
from tests.support.fact_tasks import task

HOOKS = {"resid": "hook_resid_post", "mlp_out": "hook_mlp_out", "attn_out": "hook_attn_out"}


def plain_effects(model, state, width, corrupted, score) -> tuple[np.ndarray, float]:
    """Every state restored by itself, `[layer, pos]`, and the corrupted score, averaged over (tokens, hooks)."""
    clean = tokens_of(model, FRANCE)
    cache, n_layers = plain_cache(model, clean), model.bridge.cfg.n_layers
    effects, before = np.zeros((n_layers, clean.shape[1])), 0.0
    for tokens, hooks in corrupted:
        base = score(plain_logits(model, tokens, hooks))
        before += base / len(corrupted)
        for layer in range(n_layers):
            window = [i for i in range(n_layers) if layer - width // 2 <= i < layer - width // 2 + width]
            names = [f"blocks.{i}.{HOOKS[state]}" for i in window]
            for position in range(clean.shape[1]):
                restoring = [put(name, (position,), cache[name][0, position]) for name in names]
                effects[layer, position] += (score(plain_logits(model, tokens, [*hooks, *restoring])) - base) / len(corrupted)
    return effects, before


@pytest.mark.parametrize("foil", [None, " Rome"], ids=["probability", "logit difference"])
@pytest.mark.parametrize("corruption", ["noise", "interchange"])
def test_every_cell_is_a_pass_through_plain_hooks(mini, corruption, foil):
    paris, rome = (int(tokens_of(mini, answer)[0, 0]) for answer in (" Paris", " Rome"))

    def score(logits: torch.Tensor) -> float:
        return float(logits.softmax(-1)[paris] if foil is None else logits[paris] - logits[rome])

    if corruption == "noise":
        found = cc.trace(mini, FRANCE, " Paris", about="of France", foil=foil, seed=5)
        one = OnePrompt.of(mini, read_prompt(mini, FRANCE, None), about=(2, 3), seed=5)
        noise = [one._noise(one.batch(), draw) for draw in range(DRAWS)]
        added = [("blocks.0.hook_resid_pre", lambda x, hook, n=n: x + n) for n in noise]
        corrupted = [(tokens_of(mini, FRANCE), (hook,)) for hook in added]
        assert found.corrupted_at == (2, 3)
        embedded = mini.bridge.W_E[tokens_of(mini, FRANCE)[0, 2:4]]
        assert found.noise_deviation == pytest.approx(NOISE * float(embedded.std()), rel=1e-5)
    else:
        found = cc.trace(mini, FRANCE, " Paris", corrupted=ITALY, foil=foil)
        corrupted = [(tokens_of(mini, ITALY), ())]
        assert found.corrupted_at == (3,) and found.noise_deviation is None
    for state, cells in found.effects.items():
        effects, before = plain_effects(mini, state, found.windows[state], corrupted, score)
        tolerance = 1e-5 * max(1.0, abs(found.total_effect))
        assert np.abs(cells - effects).max() < tolerance
        assert found.corrupted == pytest.approx(before, abs=tolerance)
    assert found.clean == pytest.approx(score(plain_logits(mini, tokens_of(mini, FRANCE))), abs=1e-4)


def test_it_is_what_the_chapter_on_facts_measures_on_the_same_prompt(mini):
    facts = task(mini)
    prompt = next(prompt for prompt in facts.prompts(99) if prompt.relation == "capital")
    grid = facts._tracing("resid", "interchange")(facts.batches([prompt])[0])
    answer, foil = (" " + word for word in prompt.answers)
    found = cc.trace(mini, prompt.text, answer, corrupted=prompt.changed("interchange").text, foil=foil)
    assert found.total_effect == pytest.approx(grid[0, -1], abs=1e-5)
    layers = mini.transformer.n_layers
    at_end = grid[0, : -1 - 6].reshape(layers, 6)[:, -1]
    assert found.effects["resid"][:, -1] == pytest.approx(at_end, abs=1e-5)


def test_another_seed_draws_other_noise_and_the_same_seed_the_same(mini):
    one, same, other = (cc.trace(mini, FRANCE, " Paris", about="France", seed=seed) for seed in (0, 0, 1))
    assert one.corrupted == same.corrupted != other.corrupted


@pytest.mark.parametrize(
    ("ahead", "layer"),
    [("0011", 2), ("1011", 2), ("1111", 0), ("0000", None), ("1110", None)],
)
def test_the_handover_is_where_END_begins_to_restore_more_for_good(mini, ahead, layer):
    found = cc.trace(mini, FRANCE, " Paris", corrupted=ITALY, foil=" Rome")
    cells = np.zeros_like(found.effects["resid"])
    cells[:, -1] = [1.0 if digit == "1" else -1.0 for digit in ahead]
    assert replace(found, effects={**found.effects, "resid": cells}).handover_layer == layer
    assert replace(found, corrupted_at=(4,)).handover_layer is None


def test_noise_on_the_first_token_is_said_to_break_more(mini):
    assert any("first token" in remark for remark in cc.trace(mini, FRANCE, about="The capital").remarks)
    assert not cc.trace(mini, FRANCE, about="France").remarks
    assert not cc.trace(mini, FRANCE, about="The capital", prepend_bos=True).remarks


def test_a_corruption_that_costs_nothing_is_said(mini):
    assert any("costs nothing" in remark for remark in cc.trace(mini, FRANCE, " Rome", corrupted=ITALY).remarks)


def test_words_to_corrupt_or_another_prompt_are_asked_for_and_not_both(mini):
    both: dict[str, Any] = {"about": "France", "corrupted": ITALY}
    for given in ({}, both):
        with pytest.raises(ExperimentError, match="give either"):
            cc.trace(mini, FRANCE, " Paris", **given)
