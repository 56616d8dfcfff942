"""What the repeat is worth: the loss on random tokens, and on the same tokens when they come again."""

import pytest

from circuit_claims.cards.floors import NEXT_TO_NOTHING, at_most

pytestmark = pytest.mark.section("2")

MAIN = "Main_Demo"


def test_the_first_half_can_only_be_guessed(induction, card, expect):
    """The mean loss on random tokens is the published one."""
    expect(induction.as_drawn_by(MAIN).loss_before()).near(card["loss before repeat"])


def test_the_repeat_comes_unforeseen(induction, card, expect):
    """The loss on the first token that comes again is the published one: nothing tells that it does."""
    story, published = induction.as_drawn_by(MAIN), card["loss at repeat"]
    within = story.tolerance(story.loss_at_repeat(), 0.01) if published.low is None else published.value - published.low
    expect(story.loss_at_repeat(), because="three standard errors of a draw of ten").near(published, within=within)


def test_the_second_half_is_foreseen(induction, card, expect):
    """The mean loss on random tokens that come again is next to nothing."""
    story, published = induction.as_drawn_by(MAIN), card.get("loss after repeat")
    if published is None:  # without a card, next to nothing is said of the model's own loss before
        share = story.loss_after().share_of(story.loss_before(), "loss on the second half over that on the first")
        expect(share).below(at_most(published, NEXT_TO_NOTHING, "next to nothing"))
        return
    ceiling = NEXT_TO_NOTHING * card["loss before repeat"].value
    bound = at_most(published, ceiling, f"next to nothing, {NEXT_TO_NOTHING} of the loss before")
    expect(story.loss_after()).below(bound)
