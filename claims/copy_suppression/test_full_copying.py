"""Copying scores from tokens to tokens: the OV circuit through embedding and unembedding, and what that does not tell."""

import pytest

from circuit_claims.heads import Head

pytestmark = pytest.mark.section("3")


@pytest.mark.each_row("full ov copying score")
def test_full_copying_score_is_as_published(copy_suppression, card, expect, row):
    """From tokens to tokens, through embedding and unembedding, {row} has the published copying score."""
    expect(copy_suppression.full_copying(Head.parse(row))).near(card.table("full ov copying score")[row, "score"])


@pytest.mark.each_row("full ov copying score of roles")
def test_full_copying_score_does_not_tell_a_heads_role(copy_suppression, card, expect, row):
    """From tokens to tokens, too, a name mover copies little and a negative one much or not at all: {row}."""
    expect(copy_suppression.full_copying(Head.parse(row))).near(card.table("full ov copying score of roles")[row, "score"])
