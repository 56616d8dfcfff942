"""The edges of rows: which families a path goes from and to."""

import pytest

from circuit_claims.cards.schema import Family
from circuit_claims.heads import Head
from circuit_claims.verdicts.edges import between_families, families_of


def family(name: str, *heads: tuple[int, int], role_only: bool = False) -> Family:
    return Family(name, tuple(Head(*head) for head in heads), "END", "a source", role_only)


FAMILIES = {
    each.name: each
    for each in (
        family("all early ones", (0, 1), (3, 0), (5, 5), role_only=True),
        family("duplicate token", (0, 1), (3, 0)),
        family("induction", (5, 5), (6, 9)),
        family("part of induction", (5, 5), role_only=True),
        family("name mover", (9, 9)),
    )
}


@pytest.mark.parametrize(
    ("heads", "families"),
    [
        (["L9H9"], {"name mover": ["L9H9"]}),
        (["L3H0", "L0H1", "L5H5", "L6H9"], {"duplicate token": ["L0H1", "L3H0"], "induction": ["L5H5", "L6H9"]}),
        # A part of a class is that part, and a set that a card has a name for goes by it.
        (["L5H5"], {"part of induction": ["L5H5"]}),
        (["L0H1", "L3H0", "L5H5"], {"all early ones": ["L0H1", "L3H0", "L5H5"]}),
        (["L9H9", "L1H1"], {"name mover": ["L9H9"], "": ["L1H1"]}),
        (["L6H9"], {"": ["L6H9"]}),
    ],
)
def test_heads_are_named_by_the_families_that_make_them_up(heads, families):
    assert families_of(heads, FAMILIES) == families


def test_a_card_that_names_no_heads_leaves_them_unnamed():
    edge = {"senders": ["L9H9"], "receivers": "logits", "into": "", "at": "END", "corruption": "ABC"}
    assert between_families(edge, {}) == edge | {"from": {"": ["L9H9"]}, "to": {"logits": []}}


def test_both_ends_of_an_edge_are_named():
    edge = {"senders": ["L5H5", "L6H9"], "receivers": ["L9H9"], "into": "q", "at": "END", "corruption": "ABC"}
    named = between_families(edge, FAMILIES)
    assert (named["from"], named["to"]) == ({"induction": ["L5H5", "L6H9"]}, {"name mover": ["L9H9"]})
