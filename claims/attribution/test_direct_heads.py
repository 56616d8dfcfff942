"""Direct attribution by head: who writes the logit difference at END, and how that goes with what patching says."""

import pytest

from circuit_claims.heads import Head
from circuit_claims.prompts.published import DEMO

pytestmark = pytest.mark.section("1.2")


@pytest.mark.each_row("demo head attribution")
def test_attribution_of_a_head_is_as_published(ioi, card, expect, row):
    """On the eight demo prompts, {row} writes the published part of the logit difference."""
    expected = card.table("demo head attribution")[row, "attribution"]
    expect(ioi.published(DEMO, prepend_bos=True).direct_attribution().of_heads([Head.parse(row)])).near(expected)


@pytest.mark.each_row("first prompt head attribution")
def test_attribution_of_a_head_on_the_first_prompt_is_as_published(ioi, card, expect, row):
    """On the first demo prompt alone, {row} writes the published part of the logit difference."""
    expected = card.table("first prompt head attribution")[row, "attribution"]
    expect(ioi.published(DEMO[:1], prepend_bos=True).direct_attribution().of_heads([Head.parse(row)])).near(expected)


@pytest.mark.each_row("head attribution")
def test_attribution_of_a_head_on_drawn_prompts_is_as_found(ioi, card, expect, row):
    """On p_IOI, {row} writes as much of the logit difference as was found on other prompts of the kind."""
    expect(ioi.direct_attribution().of_heads([Head.parse(row)])).near(card.table("head attribution")[row, "attribution"])


@pytest.mark.each_head("name mover")
def test_each_name_mover_writes_the_answer(ioi, expect, head):
    """{head}, a name mover, writes along IO minus S at END."""
    expect(ioi.direct_attribution().of_heads([head]), "Wang et al. 2022, section 3.1").above(0)


@pytest.mark.each_head("negative name mover")
def test_each_negative_name_mover_writes_against_the_answer(ioi, expect, head):
    """{head}, a negative name mover, writes against IO minus S at END."""
    expect(ioi.direct_attribution().of_heads([head]), "Wang et al. 2022, section 3.1").below(0)


def test_the_heads_that_write_the_answer_most_are_the_name_movers(ioi, card, expect):
    """No head writes more of the logit difference than the name movers."""
    movers = card.heads("name mover")
    source = "TransformerLens exploratory analysis demo: 9.9, 9.6 and 10.0 write most"
    expect(ioi.direct_attribution().heads(), source).top(len(movers)).contains(movers)


def test_the_heads_that_write_against_the_answer_most_are_the_negative_name_movers(ioi, card, expect):
    """No head writes more against the logit difference than the negative name movers."""
    negatives = card.heads("negative name mover")
    source = "TransformerLens exploratory analysis demo: 10.7 and 11.10 write most against it"
    expect(ioi.direct_attribution().heads(), source).bottom(len(negatives)).contains(negatives)


@pytest.mark.each_row("head attribution to IO")
def test_attribution_of_a_head_to_IO_is_as_found(ioi, card, expect, row):
    """Without the final layer norm's scale, {row} writes to the logit of IO what was found on prompts of the kind."""
    published = card.table("head attribution to IO")
    low, high = (published[row, end] for end in ("low", "high"))
    expect(ioi.direct_attribution(to="IO", scaled=False).of_heads([Head.parse(row)]), published.source).between(low, high)


def test_the_heads_that_write_most_to_IO_are_the_published_ones(ioi, card, expect):
    """Without the final layer norm's scale, no head writes more to the logit of IO than the published ones."""
    family = card.family("strongest for IO")
    heads = ioi.direct_attribution(to="IO", scaled=False).heads()
    expect(heads, family.source).top(len(family.heads)).contains(family.heads)


def test_the_heads_that_write_most_against_IO_are_the_published_ones(ioi, card, expect):
    """Without the final layer norm's scale, no head writes more against the logit of IO than the published ones."""
    family = card.family("strongest against IO")
    heads = ioi.direct_attribution(to="IO", scaled=False).heads()
    expect(heads, family.source).bottom(len(family.heads)).contains(family.heads)


def test_patching_and_direct_attribution_agree_as_published(ioi, card, expect):
    """Over all heads, what patching at END restores (name swap) goes with direct attribution to IO, by the published r."""
    expected, attribution = card["attribution_patching_correlation"], ioi.direct_attribution(to="IO", scaled=False)
    expect(ioi.patching_correlation(attribution)).near(expected)
