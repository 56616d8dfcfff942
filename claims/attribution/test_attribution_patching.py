"""Attribution patching, the first-order estimate of activation patching: what it gives, and how far it is to be trusted."""

import pytest

from circuit_claims.measure.agreement import published_correlation, published_difference
from circuit_claims.prompts.published import DEMO, DEMO_CORRUPTED

pytestmark = pytest.mark.section("2.3")

#: Parts of a head, at all positions together; and what a layer has at one position.
PARTS = ["output", "q", "k", "v", "pattern"]
EVERYTHING = [*PARTS, "resid_pre", "attn_out", "mlp_out"]


def demo(ioi):
    """The eight prompts of the demo, each with its corrupted one."""
    return ioi.published(DEMO, corrupted={"S2 to IO": DEMO_CORRUPTED}, prepend_bos=True)


@pytest.mark.parametrize("part", ["output", "q", "k", "v"])
def test_the_attribution_to_a_part_of_each_head_is_as_published(ioi, card, expect, part):
    """The attribution to one head's {part}, added up over positions of the eight demo prompts, is as published."""
    published = card.table(f"attributed {part}")
    sweep = demo(ioi).attribution_sweep(part=part)
    expect(published_difference(sweep, published), published.source).below(published.tolerance())


def test_attribution_to_heads_draws_the_published_picture(ioi, card, expect):
    """Over all heads, the attribution to their outputs goes with the published table (correlation)."""
    published = card.table("attributed output")
    because = "the same picture: room for another copy of the model, or one in lower precision, and for no other model"
    correlation = published_correlation(demo(ioi).attribution_sweep(), published)
    expect(correlation, published.source, because=because).above(published.bound(0.99))


@pytest.mark.parametrize("of", EVERYTHING)
def test_attribution_goes_with_patching_as_far_as_published(ioi, card, expect, of):
    """On the eight demo prompts, attribution patching and patching of {of} correlate as published, over all cells."""
    expected = card.table("attribution agreement")[of, "correlation"]
    expect(demo(ioi).attribution_correlation(of)).near(expected)


@pytest.mark.parametrize("of", EVERYTHING)
def test_attribution_misses_patching_by_as_much_as_published(ioi, card, expect, of):
    """On the eight demo prompts, attribution patching of {of} is, in its worst cell, as far from patching as published."""
    expected = card.table("attribution agreement")[of, "largest difference"]
    expect(demo(ioi).attribution_error(of)).near(expected)


@pytest.mark.parametrize("part", PARTS)
def test_attribution_ranks_heads_as_patching_does(ioi, card, expect, part):
    """On drawn prompts, attribution patching of each head's {part} correlates with patching it."""
    least = card.table("attribution ranks")[part, "correlation at least"]
    expect(ioi.attribution_correlation(part)).above(least)
