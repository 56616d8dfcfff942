"""Attention by position: what position embeddings alone make heads look at, through layer norm, queries and keys.

They are put into the stream of every layer as they are, each with the size that layer norm gives it.

What does not show: that a previous-token head of a later layer would look back by these alone. L4H11 pays the position before
0.04 of its attention, on average over the first 256, where on tokens it pays nearly all; and half of GPT-2 small's heads do
better than with positions in random order. What tells these heads who stands before them is made on the way.
"""

import pytest

from circuit_claims.measure.grid_statistics import latest_layer_of_the_brightest

pytestmark = pytest.mark.section("3")

FIRST = "the architecture: the first layer alone reads what embeddings wrote, and nothing besides"


@pytest.mark.each_head("validated previous token")
def test_previous_token_heads_look_back_more_than_in_random_order(weights, expect, head):
    """By position embeddings alone, {head} attends more to the position before than were they in a random order."""
    source = weights.card.family("validated previous token").source
    expect(weights.chance_attention_back(head), source, because="one random order in a hundred").rate_at_most(0.01)


def test_the_heads_that_look_back_most_by_position_alone_are_in_the_first_layer(weights, expect):
    """By position embeddings alone, the three heads that attend most to the position before are in the first layer."""
    latest = weights.attention_back().of(latest_layer_of_the_brightest(3), "latest layer of the three", "layer")
    expect(latest, FIRST).below(0.5)
