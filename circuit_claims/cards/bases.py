"""Where the number that a claim is held against comes from, in words: the *basis* of an expectation.

A report counts claims by it, since a model that reproduces its own numbers says nothing about the literature.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from circuit_claims.cards.schema import Beside, Published

if TYPE_CHECKING:
    from circuit_claims.cards.card import Card

#: The literature, of this very model.
PUBLISHED = "published"
#: A threshold that a claim states of any model, as the definition of a role implies it.
DEFINITION = "definition"
#: This model's own card: its own numbers, measured on other prompts.
RE_MEASURED = "re-measured"
#: The card of another model, with published numbers, or with measured ones.
PUBLISHED_ELSEWHERE = "published for another model"
MEASURED_ELSEWHERE = "measured on another model"

BASES = (PUBLISHED, DEFINITION, RE_MEASURED, PUBLISHED_ELSEWHERE, MEASURED_ELSEWHERE)


def of_another(value: Published, whose: str) -> Published:
    """A value as one of something else than what is under test; `whose` says of what."""
    basis = {PUBLISHED: PUBLISHED_ELSEWHERE, RE_MEASURED: MEASURED_ELSEWHERE}.get(value.basis, value.basis)
    return replace(value, basis=basis, card=whose)


def with_bases(card: "Card", others: "Sequence[Card]") -> "Card":
    """The card with its basis and title on each value and table, and beside them what `others` publish under the same key."""
    basis, title = card.basis_of_values, card.title
    return replace(
        card,
        values={
            key: replace(value, basis=basis, card=title, beside=_beside(value, others)) for key, value in card.values.items()
        },
        tables={
            key: replace(table, basis=basis, card=title, beside=tuple(it.tables[key] for it in others if key in it.tables))
            for key, table in card.tables.items()
        },
    )


def _beside(value: Published, others: "Sequence[Card]") -> tuple[Beside, ...]:
    """What other cards publish under a value's key, where they mean the same by it: in the same unit."""
    there = [(card.title, card.values[value.key]) for card in others if value.key in card.values]
    return tuple(Beside(it.value, it.low, it.high, title, it.source) for title, it in there if it.unit == value.unit)
