"""Direct attribution by depth: where in the residual stream at END the logit difference is written.

The final layer norm's scale is frozen at the run's own everywhere, so that attention layers and MLPs add up to the whole.
"""

import pytest

from circuit_claims.prompts.published import DEMO
from circuit_claims.tasks.operations.direct_statistics import (
    ATTENTION,
    MLP,
    highest_layer,
    larger_inside,
    largest_layer,
    lowest_layer,
)

pytestmark = pytest.mark.section("1.1")


@pytest.mark.each_row("demo accumulated attribution")
def test_accumulated_logit_difference_is_as_published(ioi, card, expect, row):
    """On the eight demo prompts, the residual stream at {row} holds the published logit difference."""
    expected = card.table("demo accumulated attribution")[row, "logit difference"]
    expect(ioi.published(DEMO, prepend_bos=True).direct_attribution().at_point(row)).near(expected)


@pytest.mark.each_row("demo layer attribution")
def test_attribution_of_a_layer_is_as_published(ioi, card, expect, row):
    """On the eight demo prompts, {row} writes the published part of the logit difference."""
    expected = card.table("demo layer attribution")[row, "attribution"]
    expect(ioi.published(DEMO, prepend_bos=True).direct_attribution().of_part(row)).near(expected)


def test_the_logit_difference_rises_at_the_name_movers_layer(ioi, card, expect):
    """No attention layer adds more to the accumulated logit difference than that of the strongest name movers."""
    layers = ioi.direct_attribution().layers()
    rise = layers.of(highest_layer(ATTENTION), "layer whose attention adds most to the logit difference", "layer")
    expect(rise).near(card["attribution_rise_layer"])


def test_the_logit_difference_falls_at_the_last_attention_layer(ioi, card, expect):
    """The attention layer that takes most of the accumulated logit difference away is the published one, and it does."""
    expected, attribution = card["attribution_fall_layer"], ioi.direct_attribution()
    fall = attribution.layers().of(lowest_layer(ATTENTION), "layer whose attention takes most away", "layer")
    expect(fall).near(expected)
    expect(attribution.of_part(f"L{int(expected.value)} attention"), expected.source).below(0)


def test_the_largest_MLP_contribution_is_late(ioi, card, expect):
    """The MLP that writes most to the logit of IO, whatever the sign, lies in the published layers."""
    late, layers = card["largest_mlp_layer"], ioi.direct_attribution(to="IO", scaled=False).layers()
    expect(layers.of(largest_layer(MLP), "layer whose MLP writes most", "layer")).near(late)


def test_late_MLPs_contribute_more_than_early_ones(ioi, card, expect):
    """MLPs of the published layers write more to the logit of IO than the others, on average over their sizes."""
    late, layers = card["largest_mlp_layer"], ioi.direct_attribution(to="IO", scaled=False).layers()
    late_over_others = larger_inside(MLP, int(late.low), int(late.high))
    lead = layers.of(late_over_others, "size of late MLPs over that of the others", "logits times the final scale")
    expect(lead, late.source).above(0)
