"""Prefixes that come again: how the sequences are made, and the attention there against the bridge's own."""

import numpy as np
import pytest
import torch

from circuit_claims.heads import Head
from circuit_claims.tasks.induction.prefixes import EXAMPLES, LENGTHS, Prefixes
from circuit_claims.untested import Untested

ONE, OTHER = Head(3, 4), Head(2, 6)


@pytest.fixture(scope="module")
def prefixes(mini) -> Prefixes:
    return Prefixes(mini, seed=0)


@pytest.mark.parametrize("length", LENGTHS)
def test_so_many_tokens_come_again_and_no_others(prefixes, length):
    tokens, places = prefixes.sequences(length)
    assert tokens.shape == (EXAMPLES, 96) and places.shape == (EXAMPLES, 2)
    special = set(prefixes.subject.tokenizer.all_special_ids)
    for sequence, (query, key) in zip(tokens.tolist(), places.tolist(), strict=True):
        assert sequence[0] == prefixes.subject.tokenizer.bos_token_id and not special & set(sequence[1:])
        assert sequence[query - length + 1 : query + 1] == sequence[key - length : key]
        assert query + 1 < len(sequence) and query - length + 1 > key, "what came after stands between the two"
        assert len(set(sequence)) == len(sequence) - length
    assert len({tuple(place) for place in places.tolist()}) > EXAMPLES // 2


def plain(prefixes: Prefixes, head: Head, length: int) -> list[float]:
    tokens, places = prefixes.sequences(length)
    found = []
    for sequence, (query, key) in zip(tokens, places.tolist(), strict=True):
        with torch.inference_mode():
            cache = prefixes.subject.bridge.run_with_cache(sequence[None], prepend_bos=False)[1]
        found.append(float(cache[f"blocks.{head.layer}.attn.hook_pattern"][0, head.head, query, key]))
    return found


def test_differences_are_those_of_the_bridges_patterns(prefixes):
    scores = {(head, length): np.array(plain(prefixes, head, length)) for head in (ONE, OTHER) for length in (1, LENGTHS[-1])}
    advantage = prefixes.advantage(ONE, OTHER, length=1).take(EXAMPLES)
    assert advantage.values == pytest.approx(scores[ONE, 1] - scores[OTHER, 1], abs=1e-5)
    gain = prefixes.gain(ONE, OTHER).take(EXAMPLES)
    grown = {head: scores[head, LENGTHS[-1]] - scores[head, 1] for head in (ONE, OTHER)}
    assert gain.values == pytest.approx(grown[ONE] - grown[OTHER], abs=1e-5)
    assert gain.estimate == pytest.approx(-prefixes.gain(OTHER, ONE).take(EXAMPLES).estimate)
    assert np.abs(advantage.values).max() > 0.05
    first, second = gain.drawn["curves"]
    assert (first["label"], second["label"]) == (str(ONE), str(OTHER))
    assert first["values"][0] == pytest.approx(scores[ONE, 1].mean(), abs=1e-4)
    assert [int(length) for length in gain.drawn["x"]] == list(LENGTHS)


def test_a_model_without_room_is_untested(mini, monkeypatch):
    monkeypatch.setattr(mini.transformer, "n_ctx", 40)
    with pytest.raises(Untested, match="has no room"):
        Prefixes(mini, seed=0).sequences(1)
