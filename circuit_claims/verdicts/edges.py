"""The families of heads that a path goes from and to: what a measurement of a path cannot know, and a card says."""

from collections.abc import Mapping, Sequence
from typing import Any

from circuit_claims.cards.schema import Family


def between_families(edge: Mapping[str, Any], families: Mapping[str, Family]) -> dict[str, Any]:
    """The edge of a row with "from" and "to": the families whose heads send and receive, each with these heads."""
    receivers = edge["receivers"]
    to = {receivers: []} if isinstance(receivers, str) else families_of(receivers, families)
    return {**edge, "from": families_of(edge["senders"], families), "to": to}


def families_of(heads: Sequence[str], families: Mapping[str, Family]) -> dict[str, list[str]]:
    """The families that make up `heads`, each with its own; what is left over stands under "".

    One family of exactly these heads is the answer; else whole families are taken in the card's order, classes before parts
    of classes (role_only), each where some of its heads are not spoken for yet.
    """
    ordered = sorted(families.values(), key=lambda family: family.role_only)
    named = {family.name: [str(head) for head in family.heads] for family in ordered}
    wanted = list(dict.fromkeys(heads))
    for name, own in named.items():
        if set(own) == set(wanted):
            return {name: wanted}
    found: dict[str, list[str]] = {}
    left = wanted
    for name, own in named.items():
        if set(own) <= set(wanted) and set(own) & set(left):
            found[name] = own
            left = [head for head in left if head not in own]
    return found | ({"": left} if left else {})
