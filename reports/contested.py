"""Contested numbers: what sources that contradict each other say of one quantity, beside what this run found of it.

Claims that test one side each, on its own set-up, stand together: rows that share a reading are of one dispute.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from circuit_claims.reports import wording
from circuit_claims.reports.wording import INSIDE, OUTSIDE, Reading


@dataclass(frozen=True)
class Dispute:
    """One contested quantity: the rows that measured it, and the sources' numbers, each of them once."""

    rows: list[dict[str, Any]]
    given: list[Any]

    @property
    def quantity(self) -> str:
        """What was measured, in the words of its rows."""
        named = dict.fromkeys(wording.one_line(row.get("quantity") or "") for row in self.rows)
        return "; ".join(name for name in named if name) or wording.name_of(self.rows[0])

    @property
    def readings(self) -> list[tuple[Reading, str]]:
        """Each source's number, and where it lies: `inside`, or of several rows `inside 1, 3; outside 2`."""
        return [(wording.reading(self.rows[0], given), self._place(given)) for given in self.given]

    def scale(self) -> tuple[float, float] | None:
        """From the smallest to the largest of all its numbers, with some room; None where there are fewer than two."""
        numbers = [row.get(key) for row in self.rows for key in ("observed", "ci_low", "ci_high")]
        known = [number for number in [*numbers, *map(value_of, self.given)] if number is not None]
        if len(known) < 2:
            return None
        room = 0.06 * (max(known) - min(known)) or 0.1 * abs(known[0]) or 1.0
        return (min(known) - room, max(known) + room) if math.isfinite(max(known) - min(known)) else None

    def _place(self, given: Any) -> str:
        places = [wording.reading(row, given).place for row in self.rows]
        if len(places) == 1:
            return places[0]
        numbered = {
            place: ", ".join(str(number) for number, found in enumerate(places, start=1) if found == place)
            for place in (INSIDE, OUTSIDE)
        }
        return "; ".join(f"{place} {numbers}" for place, numbers in numbered.items() if numbers) or wording.NOTHING


def disputes(rows: Sequence[dict[str, Any]]) -> list[Dispute]:
    """The contested quantities of a run, in the order in which they come."""
    found: list[Dispute] = []
    for row in rows:
        given = row.get("readings")
        if not isinstance(given, list) or not given:
            continue
        joined = [dispute for dispute in found if {_key(one) for one in dispute.given} & {_key(one) for one in given}]
        readings = {_key(one): one for dispute in joined for one in dispute.given} | {_key(one): one for one in given}
        merged = Dispute([*(one for dispute in joined for one in dispute.rows), row], list(readings.values()))
        if joined:
            found[found.index(joined[0])] = merged
            found = [dispute for dispute in found if dispute not in joined[1:]]
        else:
            found.append(merged)
    return found


def value_of(given: Any) -> float | None:
    """A reading's number; None where it has none."""
    value = given.get("value") if isinstance(given, dict) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def set_up_of(row: dict[str, Any]) -> str:
    """How this run measured it: `240 prompts, with BOS`."""
    prompts = f"{row['n']:,} prompt{'' if row['n'] == 1 else 's'}" if row.get("n") else ""
    named: dict[Any, str] = {True: "with BOS", False: "without BOS"}
    bos = named.get(row.get("prepend_bos"), "")
    return ", ".join(part for part in (prompts, bos) if part)


def _key(given: Any) -> str:
    return json.dumps(given, sort_keys=True, default=str)
