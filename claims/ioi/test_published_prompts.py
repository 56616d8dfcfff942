"""The eight prompts of TransformerLens's demos, where every digit is published: exact, with BOS, and for GPT-2 small alone."""

import pytest

pytestmark = pytest.mark.section("2.2")

PAIRS = [
    ("When {} and {} went to the shops, {} gave the bag to", "John", "Mary"),
    ("When {} and {} went to the park, {} gave the ball to", "Tom", "James"),
    ("When {} and {} went to the shops, {} gave an apple to", "Dan", "Sid"),
    ("After {} and {} went to the park, {} gave a drink to", "Martin", "Amy"),
]
#: Each pair twice: once with its first name as the subject, once with its second; (text, IO, S).
PROMPTS = [(text.format(a, b, subject), b if subject == a else a, subject) for text, a, b in PAIRS for subject in (a, b)]
CORRUPTED = [
    (text.format(a, b, io), io, s) for (text, a, b), io, s in [(PAIRS[i // 2], io, s) for i, (_, io, s) in enumerate(PROMPTS)]
]
MILK = ("After John and Mary went to the store, John gave a bottle of milk to", "Mary", "John")


def test_mean_logit_difference_of_the_eight_prompts(ioi, card, expect):
    """The mean logit difference on the eight demo prompts is 3.5519."""
    expected = card["demo_logit_difference"]
    expect(ioi.published(PROMPTS, prepend_bos=True).logit_difference()).near(expected)


def test_mean_logit_difference_of_the_eight_corrupted_prompts(ioi, card, expect):
    """The mean logit difference on the eight corrupted demo prompts is −3.5519."""
    expected = card["demo_corrupted_logit_difference"]
    expect(ioi.published(CORRUPTED, prepend_bos=True).logit_difference()).near(expected)


@pytest.mark.parametrize("number", range(8))
def test_logit_difference_of_one_demo_prompt(ioi, card, expect, number):
    """The logit difference on demo prompt {number} (from 0) is the published one."""
    expected = card[f"demo_prompt_{number}"]
    expect(ioi.published([PROMPTS[number]], prepend_bos=True).logit_difference()).near(expected)


def test_probability_of_mary_after_the_milk_prompt(ioi, card, expect):
    """After the milk prompt, " Mary" has the published probability."""
    expected = card["milk_probability"]
    expect(ioi.published([MILK], prepend_bos=True).probability()).near(expected)


def test_mary_is_the_top_token_after_the_milk_prompt(ioi, card, expect):
    """After the milk prompt, " Mary" is the likeliest token."""
    source = card["milk_probability"].source
    expect(ioi.published([MILK], prepend_bos=True).answers_io(), source).rate_at_least(1.0)
