"""The names, places and objects of the prompts: one token each, so that a prompt has one position for each role."""

import pytest

from circuit_claims.prompts.words import NAMES, OBJECTS, PLACES

SOURCE = "Wang et al. 2022, appendix E: names that are one token"
WORDS = {"names": NAMES, "places": PLACES, "objects": OBJECTS}


@pytest.mark.parametrize("what", WORDS)
def test_every_filler_is_one_token(tokens, expect, what):
    """Of the {what} that fill the prompts, every one is a single token with a space before it."""
    expect(tokens.single(WORDS[what], what), SOURCE).rate_at_least(1.0)


def test_no_two_names_are_the_same_token(tokens, expect):
    """No two names of the list share a token, so that their logits can be told apart."""
    expect(tokens.distinct(NAMES), SOURCE).rate_at_least(1.0)
