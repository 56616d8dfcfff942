"""How the numbers of a card were measured: `[settings]`, and in which of it a run differs.

    [settings]
    prepend_bos = false        # prompts without BOS
    weights = "processed"      # or "raw"
    dtype = "float32"
    names = "default"          # the list that is built in, or how many and the checksum of another
    prompts = 960
    seed = 0
    weights_sha256 = "0f81..." # the checksum of the files that the weights were loaded from

Every key may be left out: of what a card does not say, nothing is said of a run. A chapter's own settings are those of its own
prompts, which its claims fix whatever the run asks for: they are not compared.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from circuit_claims.cards.schema import Entry
from circuit_claims.prompts.words import NAMES

#: What `names` says of the list that is built in.
DEFAULT = "default"
_CHOICES = {"weights": ("raw", "processed"), "dtype": ("float32", "float64", "bfloat16", "float16")}
_KEYS = frozenset({"prepend_bos", "weights", "dtype", "names", "prompts", "seed", "weights_sha256"})


@dataclass(frozen=True)
class CardSettings:
    """The settings that a card's numbers were measured with, or those of a run; None is what nothing is known of."""

    prepend_bos: bool | None = None
    weights: str | None = None
    dtype: str | None = None
    names: str | None = None
    prompts: int | None = None
    seed: int | None = None
    weights_sha256: str | None = None


def read_settings(path: Path, table: dict[str, Any]) -> CardSettings:
    """[settings] of a card or of a chapter.

    Raises CardError where a key is unknown, or its value is none that the command line could have had.
    """
    entry = Entry(path, "[settings]", table, _KEYS)
    if not isinstance(table.get("prepend_bos", False), bool):
        raise entry.wrong("has a 'prepend_bos' that is neither true nor false", "write prepend_bos = false, or leave it out")
    for key, choices in _CHOICES.items():
        if key in table and table[key] not in choices:
            raise entry.wrong(f"has {key} = {table[key]!r}", f"write one of {', '.join(choices)}, or leave it out")
    for key in table.keys() & {"names", "weights_sha256"}:
        entry.text(key)
    for key, least in (("prompts", 1), ("seed", 0)):
        if key in table and (type(table[key]) is not int or table[key] < least):
            raise entry.wrong(f"has a {key!r} that is no count ({table[key]!r})", f"write {key} = 960, or leave it out")
    return CardSettings(**table)


def names_in_short(names: Sequence[str]) -> str:
    """A list of names as a card's settings say it: "default", or how many they are and the beginning of their checksum."""
    if tuple(names) == NAMES:
        return DEFAULT
    return f"{len(names)} names, sha256 {hashlib.sha256(chr(10).join(names).encode()).hexdigest()[:12]}"


def difference(card: str, of_card: CardSettings, of_run: CardSettings) -> str:
    """In what a run differs from the settings that its card was measured with, in one sentence; empty where in nothing.

    Prompts and seed are not compared: another sample is what a tolerance is for. Of weights, see `other_weights`.
    """
    there, here = [], []
    for key, say in _SAID.items():
        measured, run = getattr(of_card, key), getattr(of_run, key)
        if measured is not None and run is not None and measured != run:
            there.append(say(measured))
            here.append(say(run))
    if not there:
        return ""
    return f"the card {card} was measured {_listed(there)}, and this run is {_listed(here)}: its values may not apply"


def other_weights(card: str, of_card: CardSettings, weights_sha256: str) -> str:
    """That a card was measured on other weights than the run's, in one sentence; empty where not, or where nothing is known."""
    measured = of_card.weights_sha256
    if measured is None or measured == weights_sha256:
        return ""
    return (
        f"the card {card} was measured on other weights (sha256 {measured[:12]}) than these ({weights_sha256[:12]}): its "
        "values are those of another revision or copy of the model"
    )


_SAID = {
    "prepend_bos": lambda value: "with BOS" if value else "without BOS",
    "weights": lambda value: f"with {value} weights",
    "dtype": lambda value: f"in {value}",
    "names": lambda value: "with the names that are built in" if value == DEFAULT else f"with other names ({value})",
}


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
