"""Names on a card that look like one that claims ask for, but are not quite: a slip that would leave a claim untested.

What claims ask for is what stands on the cards that ship. A name that is like none of them is somebody's own, for a claim of
their own, and is let be.
"""

import re
import tomllib
from collections.abc import Mapping, Set
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import Any

from circuit_claims.cards.schema import CardError

#: What of a card is looked through.
KINDS = ("families", "values", "tables")
#: From this likeness on (`SequenceMatcher.ratio`), a word is another one misspelt: one letter in five.
ALIKE = 0.75
#: Shorter words tell things apart by a letter: q and k, ov and qk, io and s.
SHORTEST = 4


def refuse_misspelt(path: Path, data: Mapping[str, Any], shipped: Path) -> None:
    """Refuse a card, with its chapters, that has a name close to a known one; `shipped` is the folder of the cards that ship.

    Raises CardError that says which name was probably meant.
    """
    if path.resolve().parent == shipped.resolve():
        return
    known = _known(shipped)
    for kind in KINDS:
        there = data.get(kind, {})
        for key in there if isinstance(there, Mapping) else ():  # what is no table is refused where it is read
            if (meant := meant_by(key, known[kind])) is not None:
                raise CardError(
                    f"the card {path} has [{kind}.{key}], which no claim asks for: did you mean [{kind}.{meant}]? "
                    "Mend the name, or give it one that is less like it"
                )


def meant_by(name: str, known: Set[str]) -> str | None:
    """The known name that a name is probably meant for; None where it is known itself, or like none.

    Alike are names that differ in capitals and separators alone, or in one word that is misspelt: `name_movr`, `S_inhibition`.
    """
    if name in known:
        return None
    return next((other for other in sorted(known) if _alike(name, other)), None)


def _alike(name: str, other: str) -> bool:
    ours, theirs = _words(name), _words(other)
    if "".join(ours) == "".join(theirs):
        return True
    apart = [pair for pair in zip(ours, theirs, strict=False) if pair[0] != pair[1]]
    if len(ours) != len(theirs) or len(apart) != 1:
        return False
    word, meant = apart[0]
    # Numbers are told apart by their digits: the second prompt is no slip for the first.
    if min(len(word), len(meant)) < SHORTEST or re.search(r"\d", word + meant):
        return False
    return SequenceMatcher(None, word, meant).ratio() >= ALIKE


def _words(name: str) -> list[str]:
    return re.split(r"[-_ ]+", name.casefold())


@cache
def _known(shipped: Path) -> dict[str, frozenset[str]]:
    """The names on the cards that ship, by kind."""
    files = [tomllib.loads(file.read_text(encoding="utf-8")) for file in sorted(shipped.rglob("*.toml"))]
    return {kind: frozenset(key for file in files for key in file.get(kind, {})) for kind in KINDS}
