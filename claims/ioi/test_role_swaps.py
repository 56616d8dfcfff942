"""The answer follows the role, not the string: exchange the two names, and the preference turns round."""

import pytest
from hypothesis import given

from circuit_claims.prompts.strategies import populations

pytestmark = pytest.mark.section("2.1")

SWAPS = {
    "mary_john": ("Mary", "John"),
    "john_mary": ("John", "Mary"),
    "alice_bob": ("Alice", "Bob"),
    "bob_alice": ("Bob", "Alice"),
}
S0_PROMPTS = {key: (f"When {s} and {io} went to the store, {s} gave a drink to", io, s) for key, (io, s) in SWAPS.items()}


@given(population=populations())
def test_swapping_the_names_flips_the_sign_in_every_population(ioi, expect, population):
    """With the two names exchanged, and the labels kept, the logit difference is negative in every population."""
    swapped = ioi.among(population).changed("name swap")
    expect(swapped.logit_difference(), "curriculum on activation patching (S1): negative on swapped prompts").always_below(0)


def test_swapped_prompts_have_the_published_logit_difference(ioi, card, expect):
    """With the two names exchanged, and the labels kept, the mean logit difference is the published negative one."""
    expect(ioi.changed("name swap").logit_difference()).near(card["swapped_logit_difference"])


@pytest.mark.parametrize("swap", sorted(SWAPS))
def test_logit_difference_of_one_published_swap(ioi, card, expect, swap):
    """On the published prompt of swap {swap} (IO, S), the logit difference is the published one."""
    expected = card[f"s0_{swap}"]
    expect(ioi.published([S0_PROMPTS[swap]], prepend_bos=True).logit_difference()).near(expected)


def test_all_four_published_swaps_are_positive(ioi, card, expect):
    """Whichever of the two published names plays the indirect object, it is preferred."""
    expected = card["s0_positive_swaps"]
    expect(ioi.published(list(S0_PROMPTS.values()), prepend_bos=True).prefers_io()).rate_at_least(expected)


def test_the_published_prompt_is_continued_with_mary(ioi, card, expect):
    """The likeliest token after the published prompt is " Mary"."""
    expected = card["s0_top_token"]
    expect(ioi.published([S0_PROMPTS["mary_john"]], prepend_bos=True).answers_io()).rate_at_least(expected)
