"""The eight prompts of TransformerLens's demos, where every digit is published: exact, with BOS, and for GPT-2 small alone."""

import pytest

from circuit_claims.prompts.published import DEMO, DEMO_CORRUPTED, MILK

pytestmark = pytest.mark.section("2.2")


def test_mean_logit_difference_of_the_eight_prompts(ioi, card, expect):
    """The mean logit difference on the eight demo prompts is 3.5519."""
    expected = card["demo_logit_difference"]
    expect(ioi.published(DEMO, prepend_bos=True).logit_difference()).near(expected)


def test_mean_logit_difference_of_the_eight_corrupted_prompts(ioi, card, expect):
    """The mean logit difference on the eight corrupted demo prompts is −3.5519."""
    expected = card["demo_corrupted_logit_difference"]
    expect(ioi.published(DEMO_CORRUPTED, prepend_bos=True).logit_difference()).near(expected)


@pytest.mark.parametrize("number", range(8))
def test_logit_difference_of_one_demo_prompt(ioi, card, expect, number):
    """The logit difference on demo prompt {number} (from 0) is the published one."""
    expected = card[f"demo_prompt_{number}"]
    expect(ioi.published([DEMO[number]], prepend_bos=True).logit_difference()).near(expected)


def test_probability_of_mary_after_the_milk_prompt(ioi, card, expect):
    """After the milk prompt, " Mary" has the published probability."""
    expected = card["milk_probability"]
    expect(ioi.published([MILK], prepend_bos=True).probability()).near(expected)


def test_mary_is_the_top_token_after_the_milk_prompt(ioi, card, expect):
    """After the milk prompt, " Mary" is the likeliest token."""
    source = card["milk_probability"].source
    expect(ioi.published([MILK], prepend_bos=True).answers_io(), source).rate_at_least(1.0)
