"""What a user types: every way in which it can be wrong is one sentence."""

from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer

import circuit_claims as cc
from circuit_claims.experiments.experiment_error import ExperimentError
from circuit_claims.experiments.reading import answer_token, blank_hint, position, read_prompt, space_hint, word_positions
from tests.experiments.prompts import OXYGEN, STORE


@pytest.fixture(scope="module")
def gpt2(gpt2_folder) -> Any:
    """A subject of which there is only the tokenizer, GPT-2's."""
    tokenizer = AutoTokenizer.from_pretrained(gpt2_folder)
    return SimpleNamespace(name="gpt2", tokenizer=tokenizer, prepend_bos=False, transformer=SimpleNamespace(n_ctx=1024))


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_an_empty_prompt_is_refused(mini, text):
    with pytest.raises(ExperimentError, match="the prompt is empty"):
        cc.logit_lens(mini, text)


def test_a_prompt_longer_than_the_context_is_refused(mini):
    assert len(read_prompt(mini, " ".join(["the"] * 96), None)) == 96
    with pytest.raises(ExperimentError, match="has 97 tokens, and mini reads 96 at most"):
        cc.logit_lens(mini, " ".join(["the"] * 97))
    with pytest.raises(ExperimentError, match="has 97 tokens"):
        cc.logit_lens(mini, " ".join(["the"] * 96), prepend_bos=True)


def test_a_word_that_the_tokenizer_does_not_know_is_named(mini):
    with pytest.raises(ExperimentError, match="does not know 'Eiffel'"):
        cc.logit_lens(mini, "The Eiffel is made of")
    with pytest.raises(ExperimentError, match="does not know the target ' Eiffel'"):
        cc.logit_lens(mini, OXYGEN, " Eiffel")


def test_an_empty_target_is_refused(mini):
    with pytest.raises(ExperimentError, match="the target is empty"):
        cc.logit_lens(mini, OXYGEN, "")


def test_a_target_of_several_tokens_is_named_by_them_or_compared_by_its_first(mini, gpt2):
    with pytest.raises(ExperimentError, match=r"is 2 tokens for mini \('Mary', 'John'\).*--first-token"):
        cc.logit_lens(mini, STORE, " Mary John")
    assert cc.logit_lens(mini, STORE, " Mary John", first_token=True).target.text == "Mary"
    with pytest.raises(ExperimentError, match=r"is 3 tokens for gpt2 \(' hyd', 'rox', 'ide'\).*--first-token"):
        answer_token(gpt2, " hydroxide", "target")
    assert answer_token(gpt2, " hydroxide", "target", first=True).text == " hyd"


def test_a_missing_space_is_hinted_at(gpt2, mini):
    with pytest.raises(ExperimentError, match="' oxygen', with the space before it, is one"):
        answer_token(gpt2, "oxygen", "target")
    assert answer_token(gpt2, " oxygen", "target").text == " oxygen"
    assert answer_token(gpt2, "Paris", "target").text == "Paris"
    assert "' Paris' is another token" in space_hint(gpt2, "Paris", "target")
    assert not space_hint(gpt2, " Paris", "target")
    assert not space_hint(gpt2, ",", "target")
    assert not space_hint(mini, "oxygen", "target"), "to mini's tokenizer it is the same token"


def test_a_blank_at_the_prompts_end_is_said(mini):
    assert "ends with a blank" in blank_hint(OXYGEN + " ") and not blank_hint(OXYGEN)
    for found in (cc.logit_lens(mini, OXYGEN + " "), cc.attribute(mini, OXYGEN + " ", " oxygen")):
        assert any("ends with a blank" in remark for remark in found.remarks)


def test_words_that_are_not_there_or_there_twice_are_refused(mini):
    prompt = read_prompt(mini, STORE, True)
    assert word_positions(prompt, "went to", "--about") == (5, 6)
    assert word_positions(prompt, " store", "--about") == (8, 8)
    with pytest.raises(ExperimentError, match=r"'Peter' \(--about\) is not in the prompt"):
        word_positions(prompt, "Peter", "--about")
    with pytest.raises(ExperimentError, match=r"'tore'.*is not in the prompt"):
        word_positions(prompt, "tore", "--about")
    with pytest.raises(ExperimentError, match=r"'John'.*2 times: give more of the words"):
        word_positions(prompt, "John", "--about")
    with pytest.raises(ExperimentError, match="is not in the prompt"):
        word_positions(prompt, " ", "--about")


def test_a_word_of_several_tokens_has_its_first_and_its_last(gpt2):
    prompt = read_prompt(gpt2, "The Eiffel Tower is in", None)
    first, last = word_positions(prompt, "Eiffel", "--about")
    assert "".join(token.text for token in prompt.tokens[first : last + 1]) == " Eiffel" and last > first


def test_a_position_that_is_not_there_is_refused(mini):
    prompt = read_prompt(mini, STORE, None)
    assert [position(prompt, at) for at in ("END", -1, "-2", 0, "gave")] == [13, 13, 12, 0, 10]
    for at in (14, "-15"):
        with pytest.raises(ExperimentError, match="the prompt has 14 tokens, from 0 to 13"):
            position(prompt, at)
