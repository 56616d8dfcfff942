"""Negative name movers: late heads that attend to names as name movers do, and write against them."""

import pytest

from circuit_claims.measure.grid_statistics import mean_over_heads

pytestmark = pytest.mark.section("3.1.1")


def test_the_direct_paths_that_cost_most_start_at_the_negative_name_movers(ioi, card, expect):
    """Of all heads, path patching (ABC) from a negative name mover to the logits raises the logit difference the most."""
    heads = card.heads("negative name mover")
    source = "Wang et al. 2022, section 3.1 and figure 3b: the biggest increases"
    expect(ioi.path_sweep(), source, because="as many as there are of them").bottom(len(heads)).contains(heads)


@pytest.mark.each_head("negative name mover")
def test_each_negative_name_mover_writes_against_what_it_attends_to(ioi, card, expect, head):
    """Whatever name {head} attends to, its weights make it one of the five unlikeliest; for an average head that is rare."""
    expect(ioi.copy_score(head, "negative")).rate_at_least(card["negative_name_mover_copy_score"])
    average = ioi.copy_score_sweep("negative").of(mean_over_heads, "negative copy score of an average head", "share")
    expect(average).near(card["average_negative_copy_score"])


@pytest.mark.each_head("negative name mover")
def test_each_negative_name_mover_attends_to_IO_more_than_to_S(ioi, expect, head):
    """From the last position, {head} attends more to IO than to the first mention of S."""
    source = "Wang et al. 2022, section 3.1: they share the properties of name movers, but write the opposite"
    expect(ioi.attention_difference([head], to="IO", over="S1"), source, because="more: by a tenth at least").above(0.1)
