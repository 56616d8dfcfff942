"""Composition between heads, from weights alone: whose output a head's queries, keys or values are made to read.

A composition is the norm of a sender's OV matrix followed by a receiver's QK or OV matrix, over the norms of the two (Elhage et
al. 2021). Ranks are held against random rotations of what senders write. The rotations of all earlier heads are easily beaten,
by the strongest sender into most heads, since all of them share directions; it is the rank that says who.

What does not show: L4H11 is second into the keys of L5H8 and nowhere into L5H9, induction heads by the paper; into the values
of L7H9 and L8H10 no induction or duplicate-token head is among the first four, and a duplicate-token head is first into those
of no S-inhibition head; L7H3, L7H9 and L8H10 are read as much by the queries of others as by those of the name movers.
"""

import pytest

from circuit_claims.heads import Edge, FamilyEdge

pytestmark = pytest.mark.section("2")


@pytest.mark.each_row("strongest sender")
def test_the_strongest_sender_is_the_one_that_was_found(weights, expect, row):
    """From weights alone, no head of an earlier layer is read more: {row}."""
    edge, found = Edge.parse(row), weights.table("strongest sender")[row, "rank"]
    expect(weights.composition(edge.into, edge.by), found.source).top(found).contains([edge.sender])
    chance = weights.chance_composition([edge.sender], edge.into, edge.by)
    expect(chance, found.source, because="one rotation of all earlier heads in a hundred").rate_at_most(0.01)


@pytest.mark.each_row("strongest receivers")
def test_the_strongest_receivers_are_a_family(weights, expect, row):
    """From weights alone, of all heads of later layers none but these read most: {row}."""
    edge, found = FamilyEdge.parse(row), weights.table("strongest receivers")[row, "rank"]
    receivers = weights.card.heads(edge.family)
    rank = weights.worst_receiver_rank(edge.sender, receivers, edge.by, f"the {edge.family} heads")
    expect(rank, found.source).between(1, found)
    chance = weights.chance_receivers(edge.sender, receivers, edge.by)
    expect(chance, found.source, because="one rotation of the sender in twenty").rate_at_most(0.05)
