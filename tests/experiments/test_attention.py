"""Attention of one prompt: the bridge's own patterns."""

import numpy as np
import pytest

import circuit_claims as cc
from circuit_claims.experiments.experiment_error import ExperimentError
from tests.experiments.prompts import STORE, plain_cache, tokens_of


def test_the_patterns_are_the_bridges_own(mini):
    found, cache = cc.attention(mini, STORE, ["L3H1", cc.Head(0, 4)]), plain_cache(mini, tokens_of(mini, STORE))
    for layer, cells in enumerate(found.from_end):
        assert cells == pytest.approx(cache[f"blocks.{layer}.attn.hook_pattern"][0, :, -1].numpy(), abs=1e-5)
    assert list(found.patterns) == [cc.Head(3, 1), cc.Head(0, 4)]
    for (layer, head), cells in found.patterns.items():
        assert cells == pytest.approx(cache[f"blocks.{layer}.attn.hook_pattern"][0, head].numpy(), abs=1e-5)
    assert "L0H4 attends from END most to 'John' (position 9): 0.82" in found.sentence


def test_the_strongest_edge_can_leave_the_first_position_out(mini):
    found = cc.attention(mini, STORE)
    assert (found.strongest() == found.from_end.argmax(-1)).all()
    without = found.strongest(but_the_first=True)
    assert without.min() >= 1
    best = np.take_along_axis(found.from_end, without[:, :, None], 2)[:, :, 0]
    assert (best == found.from_end[:, :, 1:].max(-1)).all()
    assert found.to_json()["result"]["strongest_but_first"]["position"] == without.tolist()


def test_a_prompt_of_one_token_has_one_edge(mini):
    found = cc.attention(mini, "When")
    assert (found.strongest(but_the_first=True) == 0).all() and found.figure()


@pytest.mark.parametrize("head", ["L4H0", "L0H8", "9.9", "L-1H0"])
def test_an_unknown_head_is_refused(mini, head):
    with pytest.raises(ExperimentError, match=r"L0H0 to L3H7|is not a head: write it as L9H6"):
        cc.attention(mini, STORE, [head])
