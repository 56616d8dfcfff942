"""The edges of the circuit by hand, from the families on a card."""

from dataclasses import replace

import pytest

from circuit_claims.cards.card import Card
from circuit_claims.cards.find import find_card
from circuit_claims.edge_discovery.links import LINKS, edges_by_hand, edges_of_link
from circuit_claims.edges.graph import EdgeGraph
from circuit_claims.untested import Untested


@pytest.fixture(scope="module")
def gpt2() -> Card:
    return find_card("gpt2-small")


def test_a_link_is_every_head_of_one_family_to_every_later_one_of_the_other(gpt2):
    into_movers = {str(edge) for edge in edges_of_link(gpt2, "S-inhibition to name movers")}
    assert len(into_movers) == 4 * 3 and {"L8H6 -> L9H9.q", "L7H3 -> L10H0.q"} <= into_movers
    assert {str(edge) for edge in edges_of_link(gpt2, "name movers to logits")} == {
        "L9H9 -> logits", "L9H6 -> logits", "L10H0 -> logits",
    }  # fmt: skip


def test_a_head_does_not_send_to_its_own_layer(gpt2):
    """L4H11 comes before all four induction heads; with one in layer 4, that pair is no edge."""
    assert len(edges_of_link(gpt2, "previous token to induction")) == 2 * 4
    family = gpt2.family("induction")
    early = replace(family, heads=(type(family.heads[0])(4, 0), *family.heads))
    card = replace(gpt2, families=gpt2.families | {"induction": early})
    assert len(edges_of_link(card, "previous token to induction")) == 2 * 4 + 1


def test_all_links_together_are_the_circuit_and_all_are_edges_of_the_model(gpt2):
    edges = edges_by_hand(gpt2)
    assert len(edges) == len(set(edges)) == sum(len(edges_of_link(gpt2, name)) for name in LINKS) > 80
    assert EdgeGraph(12, 12).mask(edges).sum() == len(edges)


def test_heads_that_have_the_role_alone_are_in_no_link():
    """`mini`'s induction heads look as such heads do, and its circuit goes without them."""
    with pytest.raises(Untested, match="the induction heads on the card 'mini' are in no circuit"):
        edges_of_link(find_card("mini"), "induction to S-inhibition")
    assert 5 < len(edges_by_hand(find_card("mini"))) < 30


def test_where_no_sender_comes_before_a_receiver_there_is_no_edge(gpt2):
    late = replace(gpt2.family("S-inhibition"), heads=(type(gpt2.heads("S-inhibition")[0])(11, 0),))
    card = replace(gpt2, families=gpt2.families | {"S-inhibition": late})
    with pytest.raises(Untested, match="no S-inhibition head on the card 'gpt2-small' comes before a name mover head"):
        edges_of_link(card, "S-inhibition to name movers")


def test_a_card_without_such_heads_says_so():
    with pytest.raises(Untested, match="there is no card"):
        edges_by_hand(Card.none(4, 8, "there is no card of it: find one with circuit-claims discover"))
