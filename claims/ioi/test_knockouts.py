"""Knock out a family of heads, and see how much of the logit difference is left. Which ablation was used is part of the claim.

The bounds are half way between the published share and 1: what is published was measured with mean ablation on a circuit's own
positions, and here all positions of the heads are ablated, in three ways; half of the published loss must show in each.
"""

import pytest

pytestmark = pytest.mark.section("3.5")

HELPFUL = ["name mover", "S-inhibition", "induction", "duplicate token", "previous token"]
ABLATIONS = ["mean", "zero", "resample"]


@pytest.mark.parametrize("by", ABLATIONS)
@pytest.mark.parametrize("family", HELPFUL)
def test_knocking_out_a_helpful_family_costs_what_it_should(ioi, card, expect, family, by):
    """Knocking out the {family} heads ({by} ablation, all positions) costs at least half of the published loss."""
    bound = card[f"{family} share left"]
    expect(ioi.ablate(card.heads(family), by=by).remaining()).below(bound)


@pytest.mark.parametrize("by", ABLATIONS)
def test_knocking_out_the_negative_name_movers_raises_the_logit_difference(ioi, card, expect, by):
    """Knocking out the negative name movers ({by} ablation, all positions) raises it by at least half of the published gain."""
    bound = card["negative name mover share left"]
    expect(ioi.ablate(card.heads("negative name mover"), by=by).remaining()).above(bound)


def test_S_inhibition_acts_at_END(ioi, card, expect):
    """Knocking out the S-inhibition heads at END alone (mean ablation) already costs at least half of the published loss."""
    family = card.family("S-inhibition")
    expect(ioi.ablate(family.heads, by="mean", at=family.position).remaining()).below(card["S-inhibition share left"])
