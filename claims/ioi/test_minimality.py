"""Minimality: every node is needed, once the others that do the same are gone."""

import pytest

pytestmark = pytest.mark.section("4.3")


def published(card, node, which):
    """What the card's table says of a node: {which} is "with the node" or "without the node"."""
    return card.table("minimality")[f"{node[0]}@{node[1]}", which]


def sign(card, node):
    """1 for a node whose absence is published to lower the logit difference, −1 where it raises it."""
    return 1 if published(card, node, "with the node").value >= published(card, node, "without the node").value else -1


@pytest.mark.each_node
def test_every_node_is_needed(ioi, card, expect, node):
    """Once its companions are gone, losing {node} changes the circuit's logit difference by 1 % at least, the published way."""
    change = ioi.circuit(card.nodes()).contribution(node, card.companion_nodes(node), sign=sign(card, node))
    expect(change, "Wang et al. 2022, section 4.3 (and figure 20 for the direction)", because="1 % of F(M)").above(0.01)


@pytest.mark.each_node
def test_circuit_without_the_companions_of_a_node(ioi, card, expect, node):
    """The circuit without the companions of {node} has the published logit difference, F(C \\ K)."""
    expected = published(card, node, "with the node")
    expect(ioi.circuit(card.nodes()).without(card.companion_nodes(node)).value()).near(expected)


@pytest.mark.each_node
def test_circuit_without_a_node_and_its_companions(ioi, card, expect, node):
    """The circuit without {node} and its companions has the published logit difference, F(C \\ (K ∪ v))."""
    expected = published(card, node, "without the node")
    expect(ioi.circuit(card.nodes()).without({*card.companion_nodes(node), node}).value()).near(expected)
