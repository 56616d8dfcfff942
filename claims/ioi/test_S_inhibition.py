"""S-inhibition heads: they find S2 from the last position, and turn the name movers away from S."""

import pytest

from circuit_claims.cards.floors import MOST, NEXT_TO_NOTHING, at_least, at_most
from circuit_claims.tasks.ioi.signals import (
    POSITIONS,
    TOKENS,
    fit_error,
    position_coefficient,
    signal,
    token_coefficient,
)

pytestmark = pytest.mark.section("3.2")

APPENDIX_A = "Wang et al. 2022, section 3.2 and appendix A"


def test_S_inhibition_heads_attend_to_S2_as_published(ioi, card, expect):
    """From the last position, the S-inhibition heads attend to S2 with the published probability, on average over them."""
    expect(ioi.mean_attention(card.heads("S-inhibition"), to="S2")).near(card["S-inhibition_attention"])


def test_the_paths_into_the_name_movers_queries_start_at_the_S_inhibition_heads(ioi, card, expect):
    """Of all heads, path patching (ABC) from an S-inhibition head to the name movers' queries loses the most."""
    heads = card.heads("S-inhibition")
    sweep = ioi.path_sweep(to=card.heads("name mover"), into="q")
    source = "Wang et al. 2022, section 3.2 and figure 4b: the four strongest of 144"
    expect(sweep, source, because="as many as there are of them").top(len(heads)).contains(heads)


def test_S_inhibition_turns_the_name_movers_to_IO(ioi, card, expect):
    """Path patching (ABC) the S-inhibition heads together into the name movers' queries loses logit difference."""
    path = ioi.path(card.heads("S-inhibition"), to=card.heads("name mover"), into="q")
    expect(path.share(), "Wang et al. 2022, section 3.2", because="more than next to nothing, a twentieth").above(0.05)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("token", TOKENS)
def test_logit_difference_under_counterfactual_signals(ioi, card, expect, token, position):
    """With S-inhibition outputs from prompts of {token} and {position}, the logit difference is the published one."""
    expected = card.table("signals")[token, position]
    grid = ioi.signals(card.heads("S-inhibition"))
    expect(grid.of(signal(token, position), f"logit difference, {token}, {position}", "logits")).near(expected)


def test_the_position_signal_weighs_as_published(ioi, card, expect):
    """Fitted to the six counterfactual data sets, the position signal is worth the published logits."""
    grid = ioi.signals(card.heads("S-inhibition"))
    expect(grid.of(position_coefficient, "position coefficient", "logits")).near(card["position_coefficient"])


def test_the_token_signal_weighs_as_published(ioi, card, expect):
    """Fitted to the six counterfactual data sets, the token signal is worth the published logits."""
    grid = ioi.signals(card.heads("S-inhibition"))
    expect(grid.of(token_coefficient, "token coefficient", "logits")).near(card["token_coefficient"])


def test_the_two_signals_add_up(ioi, card, expect):
    """A sum of a position and a token term fits the six logit differences to within the published error."""
    expected = card["signal_fit_error"]
    grid = ioi.signals(card.heads("S-inhibition"))
    expect(grid.of(fit_error, "mean error of the fit", "share of the original logit difference")).below(expected)


def early_heads(card):
    """The heads that tell S-inhibition what is duplicated, and where: those of them that the card names."""
    return (*card.heads("duplicate token"), *card.heads("induction"))


def share_through_early_heads(ioi, card, corruption):
    """What their path into S-inhibition's values at S2 loses, over what the S-inhibition heads' own outputs lose."""
    movers = card.heads("S-inhibition")
    path = ioi.path(early_heads(card), to=movers, into="v", at="S2", corruption=corruption).change()
    return path.share_of(
        ioi.noise(movers, corruption=corruption).change(), f"share of the effect of S-inhibition ({corruption})"
    )


def test_the_position_signal_comes_from_induction_and_duplicate_token_heads(ioi, card, expect):
    """With S1 and IO exchanged for them alone, induction and duplicate heads undo most of what S-inhibition then undoes."""
    expected = at_least(card["S-inhibition_position_share"], MOST, "most")
    expect(share_through_early_heads(ioi, card, "S1-IO flip")).above(expected)


def test_the_token_signal_does_not_come_from_them(ioi, card, expect):
    """With another S in the same places for them alone, induction and duplicate heads undo next to nothing of it."""
    expected = at_most(card["S-inhibition_token_share"], NEXT_TO_NOTHING, "next to nothing")
    expect(share_through_early_heads(ioi, card, "random names")).below(expected)
