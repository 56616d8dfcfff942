"""What carries a head's effect, what it moves or where it looks: patched alone, values and patterns tell them apart."""

import pytest

from circuit_claims.cards.floors import LITTLE, MOST, at_least, at_most
from circuit_claims.measure.grid_statistics import brightest, least_lead
from circuit_claims.prompts.published import DEMO, DEMO_CORRUPTED

pytestmark = pytest.mark.section("2.2.2")

#: Of each family, the part that carries what it does with S2 corrupted, and the part that does not.
CARRIED_BY = {"S-inhibition": ("v", "pattern"), "name mover": ("pattern", "v"), "induction": ("pattern", "v")}


@pytest.mark.parametrize("family", CARRIED_BY)
def test_one_part_carries_what_a_family_does(ioi, card, expect, family):
    """Patched together at all positions, the {family} heads' values or patterns, whichever was published, do most alone."""
    carrier, _ = CARRIED_BY[family]
    bound = at_least(card[f"{family} {carrier} share"], MOST, "most")
    patched = ioi.patch(card.heads(family), part=carrier, at=None, corruption="S2 to IO")
    because = "" if card.measured else "half of the published shares, 0.98 to 1.15"
    expect(patched.share_of_output(), because=because).above(bound)


@pytest.mark.parametrize("family", CARRIED_BY)
def test_the_other_part_does_little(ioi, card, expect, family):
    """Patched together at all positions, the other of the two, patterns or values, does little of what the heads do."""
    _, other = CARRIED_BY[family]
    bound = at_most(card[f"{family} {other} share"], LITTLE, "little")
    patched = ioi.patch(card.heads(family), part=other, at=None, corruption="S2 to IO")
    expect(patched.share_of_output(), because="" if card.measured else "a quarter, for next to nothing").below(bound)


def test_the_best_head_restores_a_third_of_the_demo_prompts(ioi, card, expect):
    """Of all heads patched alone at all positions of the eight demo prompts, the best restores the published third."""
    expected = card["best single head recovery"]
    pairs = ioi.published(DEMO, corrupted={"S2 to IO": DEMO_CORRUPTED}, prepend_bos=True)
    sweep = pairs.head_sweep(at=None, corruption="S2 to IO")
    expect(sweep.of(brightest, "highest recovery by one head", "recovered share")).near(expected)


@pytest.mark.parametrize("corruption", ["name swap", "S2 to IO"])
def test_no_head_at_END_restores_more_than_a_sixth(ioi, card, expect, corruption):
    """Of all heads patched alone at END ({corruption}), none restores more than about 15 %."""
    most = at_most(card["best single head recovery at END"], 1 / 6, "no more than a sixth")
    sweep = ioi.head_sweep(at="END", corruption=corruption).presupposing(ioi.logit_difference())
    expect(sweep.of(brightest, f"highest recovery by one head at END ({corruption})", "recovered share")).below(most)


def test_the_swapped_names_position_dominates_until_the_answer_is_handed_over(ioi, card, expect):
    """With S2 corrupted, S2 restores more than any other role in every layer up to where END takes over."""
    before = int(card["handover_layer"].value)
    lead = ioi.residual_sweep(corruption="S2 to IO").of(
        least_lead("S2", before), f"least lead of S2 over the next role before layer {before}", "share"
    )
    source = "interactive app and annotated notebook (S3), as quoted: the swapped name's position dominates from layer 0 on"
    expect(lead, source).above(0)
