"""The circuit that was found by hand: whether scores of edges find its edges, between the heads that the card names."""

import pytest

from circuit_claims.edge_discovery.links import LINKS, edges_by_hand, edges_of_link

pytestmark = pytest.mark.section("7.2")

SOURCE = "Wang et al. 2022, figure 2; Syed et al. 2023; Hanna et al. 2024"
TEN_TIMES = "half of them among a twentieth of all edges, ten times what chance gives"


@pytest.mark.parametrize("link", LINKS)
def test_the_edges_of_a_link_are_among_the_best(discovery, card, expect, link):
    """More than half of the edges from {link} are among the best twentieth of all edges by EAP-IG (inputs)."""
    known = discovery.graph.mask(edges_of_link(card, link))
    share = discovery.share_among_the_best(known, "EAP-IG inputs", 0.05)
    expect(share, SOURCE, because=TEN_TIMES).above(0.5)


@pytest.mark.parametrize("method", ["EAP", "EAP-IG inputs"])
def test_the_circuit_by_hand_is_found(discovery, card, expect, method):
    """More than half of the edges of the circuit by hand are among the best twentieth of all edges by {method}."""
    known = discovery.graph.mask(edges_by_hand(card))
    expect(discovery.share_among_the_best(known, method, 0.05), SOURCE, because=TEN_TIMES).above(0.5)
