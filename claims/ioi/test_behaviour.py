"""What the model does on p_IOI: "When Mary and John went to the store, John gave a drink to" is continued with " Mary"."""

import pytest

from circuit_claims.cards.floors import NEARLY_EVERY, at_least

pytestmark = pytest.mark.section("2")


def test_IO_outranks_S_on_nearly_every_prompt(ioi, card, expect):
    """The indirect object is preferred to the subject on nearly every prompt."""
    expect(ioi.prefers_io()).rate_at_least(at_least(card.get("prefers_io"), NEARLY_EVERY, "nearly every prompt"))


def test_mean_logit_difference_is_as_published(ioi, card, expect):
    """The mean logit difference, logit(IO) − logit(S), is the published one."""
    expect(ioi.logit_difference()).near(card["logit_difference"])


def test_probability_of_IO_is_as_published(ioi, card, expect):
    """The mean probability of the indirect object is the published one."""
    expect(ioi.probability()).near(card["io_probability"])


def test_IO_is_the_top_token_on_most_prompts(ioi, expect):
    """The indirect object is the likeliest of all tokens on most prompts."""
    expect(ioi.answers_io(), "notebook sandbox (S0): the top token is the indirect object", because="most: over half").above(
        0.5
    )


def test_clean_logit_difference_is_in_the_range_seen_by_others(ioi, card, expect):
    """The mean logit difference on clean prompts lies where an independent exercise saw it."""
    expect(ioi.logit_difference()).near(card["clean_logit_difference"])


def test_logit_difference_on_ABC_prompts(ioi, card, expect):
    """With three different names (p_ABC), the mean logit difference of the clean prompt's names is the published one."""
    expected = card["ABC_logit_difference"]
    expect(ioi.changed("ABC").logit_difference().presupposing(ioi.logit_difference())).near(expected)
