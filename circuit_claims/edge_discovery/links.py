"""The edges of a circuit that was found by hand: which families of heads send to which, by which input.

Source: Wang et al. 2022, figure 2, as Conmy et al. 2023 wrote it down as edges between heads (`acdc/ioi/utils.py`); of the
inputs, the one that the paper names. Edges from the embedding and through MLPs, which the paper leaves out, are left out here.
"""

from typing import NamedTuple

from circuit_claims.cards.card import Card
from circuit_claims.edges.edge import Edge, Receiver, Sender
from circuit_claims.heads import Head, Reader
from circuit_claims.untested import Untested


class Link(NamedTuple):
    """From one family of heads to the queries (q), keys (k) or values (v) of another, or to the logits."""

    sender: str
    receiver: str
    into: Reader | None = None


LINKS: dict[str, Link] = {
    "name movers to logits": Link("name mover", "logits"),
    "backups to logits": Link("backup name mover", "logits"),
    "negative name movers to logits": Link("negative name mover", "logits"),
    "S-inhibition to name movers": Link("S-inhibition", "name mover", "q"),
    "S-inhibition to backups": Link("S-inhibition", "backup name mover", "q"),
    "S-inhibition to negative name movers": Link("S-inhibition", "negative name mover", "q"),
    "duplicate token to S-inhibition": Link("duplicate token", "S-inhibition", "v"),
    "induction to S-inhibition": Link("induction", "S-inhibition", "v"),
    "previous token to induction": Link("previous token", "induction", "k"),
}


def edges_of_link(card: Card, name: str) -> list[Edge]:
    """The edges of a link between the heads that a card names, as far as the sender comes before the receiver.

    Raises KeyError for an unknown link, and Untested where the card names no such heads, has them in no circuit, or none of the
    senders comes before a receiver.
    """
    link = LINKS[name]
    senders = _in_the_circuit(card, link.sender)
    if link.into is None:
        return [Edge(Sender(*head), Receiver()) for head in senders]
    receivers = _in_the_circuit(card, link.receiver)
    edges = [
        Edge(Sender(*sender), Receiver(receiver.layer, receiver.head, link.into))
        for sender in senders
        for receiver in receivers
        if sender.layer < receiver.layer
    ]
    if not edges:
        raise Untested(
            f"no {link.sender} head on the card {card.name!r} comes before a {link.receiver} head: there is no such edge"
        )
    return edges


def edges_by_hand(card: Card) -> list[Edge]:
    """The edges of all links that the card has heads for.

    Raises Untested where it has heads for none of them.
    """
    found: list[Edge] = []
    why = ""
    for name in LINKS:
        try:
            found += edges_of_link(card, name)
        except Untested as untested:
            why = why or str(untested)
    if not found:
        raise Untested(why)
    return found


def _in_the_circuit(card: Card, name: str) -> list[Head]:
    family = card.family(name)
    if family.role_only:
        raise Untested(f"the {name} heads on the card {card.name!r} are in no circuit: they have the role alone (role_only)")
    return list(family.heads)
