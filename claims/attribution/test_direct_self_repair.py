"""Self-repair: without its strongest name mover the model loses far less than it writes, since others then write more."""

import pytest

from circuit_claims.cards.floors import MOST, at_most
from circuit_claims.heads import Head
from circuit_claims.prompts.published import DEMO

pytestmark = pytest.mark.section("1.3")


def test_logit_difference_without_the_strongest_name_mover(ioi, card, expect):
    """On the eight demo prompts, zeroing the strongest name mover at END leaves the published logit difference."""
    expected, head = card["demo_ablated_logit_difference"], card.heads("strongest name mover")
    expect(ioi.published(DEMO, prepend_bos=True).direct_attribution(without=head).value()).near(expected)


def test_logit_difference_that_direct_attribution_would_leave(ioi, card, expect):
    """On the eight demo prompts, the logit difference less what the strongest name mover writes is the published one."""
    expected, head = card["demo_expected_ablated_logit_difference"], card.heads("strongest name mover")
    expect(ioi.published(DEMO, prepend_bos=True).direct_attribution().expected_without(head)).near(expected)


def test_final_layer_norm_scale_without_the_strongest_name_mover(ioi, card, expect):
    """On the eight demo prompts, the final layer norm's scale falls by the published ratio: too little to account for it."""
    expected, head = card["demo_scale_ratio"], card.heads("strongest name mover")
    expect(ioi.published(DEMO, prepend_bos=True).direct_attribution(without=head).scale_ratio()).near(expected)


@pytest.mark.each_row("demo head attribution ablated")
def test_attribution_of_a_head_without_the_strongest_name_mover(ioi, card, expect, row):
    """On the eight demo prompts with the strongest name mover zeroed, {row} writes the published part."""
    expected, head = card.table("demo head attribution ablated")[row, "attribution"], card.heads("strongest name mover")
    expect(ioi.published(DEMO, prepend_bos=True).direct_attribution(without=head).of_heads([Head.parse(row)])).near(expected)


@pytest.mark.parametrize("by", ["zero", "mean"])
def test_less_is_lost_than_the_strongest_name_mover_writes(ioi, card, expect, by):
    """By {by} ablation of the strongest name mover at END, less than half of what it writes is lost."""
    bound = at_most(card["self_repair_lost_share"], MOST, "less than half")
    expect(ioi.lost_share(card.heads("strongest name mover"), by=by)).below(bound)


def test_the_heads_that_make_up_for_the_strongest_name_mover(ioi, card, expect):
    """With the strongest name mover zeroed at END, what grows most is what the published heads write."""
    family, head = card.family("repairs the strongest name mover"), card.heads("strongest name mover")
    growth = ioi.direct_attribution(without=head).growth_over(ioi.direct_attribution())
    expect(growth, family.source).top(len(family.heads)).contains(family.heads)
