"""Knock out a family of heads, and see what becomes of the logit difference. Which ablation was used is part of the claim."""

import pytest

WANG = "Wang et al. 2022, section 3 and the data of its completeness test"
HELPFUL = ["name mover", "S-inhibition", "induction", "duplicate token", "previous token"]


@pytest.mark.parametrize("by", ["mean", "zero"])
@pytest.mark.parametrize("family", HELPFUL)
def test_knocking_out_a_helpful_family_lowers_the_logit_difference(ioi, card, expect, family, by):
    """Knocking out the {family} heads ({by} ablation, all positions) lowers the logit difference."""
    expect(ioi.ablate(card.heads(family), by=by).loss(), WANG).above(0)


@pytest.mark.parametrize("by", ["mean", "zero"])
def test_knocking_out_the_negative_name_movers_raises_the_logit_difference(ioi, card, expect, by):
    """Knocking out the negative name movers ({by} ablation, all positions) raises the logit difference."""
    expect(ioi.ablate(card.heads("negative name mover"), by=by).loss(), WANG).below(0)


def test_without_S_inhibition_less_than_half_is_left(ioi, card, expect):
    """Knocking out the S-inhibition heads (mean ablation) leaves less than half of the logit difference."""
    expect(ioi.ablate(card.heads("S-inhibition"), by="mean").remaining()).below(card["s_inhibition_share_left"])


def test_without_S_inhibition_resampling_agrees(ioi, card, expect):
    """Knocking out the S-inhibition heads by resampling from p_ABC, too, leaves less than half of the logit difference."""
    expect(ioi.ablate(card.heads("S-inhibition"), by="resample").remaining()).below(card["s_inhibition_share_left"])


def test_S_inhibition_acts_at_END(ioi, card, expect):
    """Knocking out the S-inhibition heads at END alone (mean ablation) already leaves less than half."""
    ablated = ioi.ablate(card.heads("S-inhibition"), by="mean", at=card.family("S-inhibition").position)
    expect(ablated.remaining()).below(card["s_inhibition_share_left"])
