"""Why claims were not tested, in few words, so that many rows with like reasons are one group."""

import re
from collections.abc import Iterable
from typing import Any

from circuit_claims.reports import wording
from circuit_claims.verdicts.rows import UNTESTED

_NO_HEADS = re.compile(r"names no '([^']*)' heads|names (no heads) at all")
_NO_VALUE = re.compile(r"^the card\b.* has no (value|table|row|circuit|column)\b")
_LONGEST = 100


def short_reason(row: dict[str, Any]) -> str:
    """Why the claim was not tested: what is missing, without what to do about it and without the name of the single value."""
    reason = wording.reason(row)
    if found := _NO_HEADS.search(reason):
        return "the card names no heads" if found[2] else f"the card names no {found[1]} heads"
    if found := _NO_VALUE.search(reason):
        return "the card has no such circuit" if found[1] == "circuit" else "the card has no value for it"
    said = re.split(r": | \(", reason, maxsplit=1)[0].rstrip(".")
    return (said if len(said) <= _LONGEST else f"{said[:_LONGEST].rstrip()}…") or "no reason is given"


def is_untested(row: dict[str, Any]) -> bool:
    """Whether the row says nothing since something was missing."""
    return row.get("verdict") == UNTESTED


def by_reason(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The untested rows under their reasons in few words, the commonest reason first."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if is_untested(row):
            groups.setdefault(short_reason(row), []).append(row)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))
