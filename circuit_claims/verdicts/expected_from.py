"""What an expectation rests on: the basis of its bound, and what is published of other models beside it.

Of a number, its own basis says (`circuit_claims.cards.bases`); a bound that a claim spells out is a threshold stated in the
claim. Of the heads that are expected on top of a sweep, the card does that names them.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from circuit_claims.cards.bases import DEFINITION, MEASURED_ELSEWHERE, PUBLISHED_ELSEWHERE
from circuit_claims.cards.card import Card, Published
from circuit_claims.verdicts.rows import Row


def row_fields(bound: float | Published, figure: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a row says of where its bound comes from, with its figure where that shows another model's numbers."""
    if not isinstance(bound, Published):
        return {"basis": DEFINITION}
    beside = [dataclasses.asdict(other) for other in bound.beside]
    fields = {"basis": bound.basis or DEFINITION, "card": bound.card, "beside": beside}
    if figure and figure.get("expected") and bound.basis in (PUBLISHED_ELSEWHERE, MEASURED_ELSEWHERE):
        whose = f"{'published for' if bound.basis == PUBLISHED_ELSEWHERE else 'measured on'} {bound.card}"
        fields["figure"] = figure | {"whose": whose}
    return fields


def said(row: Row) -> str:
    """How a row's reason begins to say what it is held against: a value of another model is not what is expected."""
    if row.basis == PUBLISHED_ELSEWHERE:
        return f"where it is published for {row.card}:"
    return f"where it was measured on {row.card}:" if row.basis == MEASURED_ELSEWHERE else "expected"


def ends(low: float | Published, high: float | Published) -> float | Published:
    """The lower end of a range as its bound, with the basis of the upper one where it is a mere number itself."""
    return high.bound(float(low)) if isinstance(high, Published) and not isinstance(low, Published) else low


def place(k: float | Published, cells: Sequence[tuple[int, int]], card: Card | None) -> float | Published:
    """k, the worst rank that `cells` may have, as a bound: with its own basis, or that of the card that names all of them."""
    if isinstance(k, Published):
        return k.bound(int(k))
    named = {head for family in card.families.values() for head in family.heads} if card is not None else set()
    if card is None or not set(cells) <= named:
        return float(k)
    return Published("", float(k), None, None, "rank", "", basis=card.basis_of_values, card=card.title)
