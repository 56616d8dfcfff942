"""Rows without a session: for tests of `expect` by itself."""

from typing import Any

from circuit_claims.cards.card import Card
from circuit_claims.measure.samples import Samples
from circuit_claims.verdicts.rows import Row


class Paper:
    """A ledger on paper: rows in a list."""

    def __init__(self, card: Card | None = None) -> None:
        self.rows: list[Row] = []
        self._card = card

    def row(self, **fields: Any) -> Row:
        self.rows.append(Row(claim_id="x", statement="x", chapter="x", **fields))
        return self.rows[-1]

    def card(self) -> Card | None:
        return self._card

    def universal(self, key: tuple[str, str]) -> Row | None:
        return next((row for row in self.rows if (row.quantity, row.op) == key), None)

    def counterexample(self, samples: Samples, index: int, prepend_bos: bool | None) -> dict[str, Any]:
        return {"prompt": str(samples.prompts[index]) if len(samples.prompts) else "", "value": float(samples.values[index])}
