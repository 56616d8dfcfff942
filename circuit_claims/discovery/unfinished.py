"""A card that is not finished: what of it is done and what is missing, so that the same command takes it up again.

It is a card like any other, with a table `[unfinished]` at its end: what is `missing`, what is `done` and by which `versions`,
and the numbers of every head from which the families are told (`[unfinished.known]`). Whoever runs claims with it is told.
"""

import shutil
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from circuit_claims.cards.card import CardError, chapter_files, read_card
from circuit_claims.cards.settings import CardSettings, difference
from circuit_claims.discovery import card_text


@dataclass
class Done:
    """What has been found: of every head by name, and the texts of the card's parts and of its chapters by theirs."""

    known: dict[str, np.ndarray] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)
    chapters: dict[str, str] = field(default_factory=dict)

    def names(self) -> list[str]:
        """What there is, in words."""
        return [*self.known, *self.parts, *self.chapters]

    def __len__(self) -> int:
        return len(self.known) + len(self.parts) + len(self.chapters)


def place(path: Path) -> Path:
    """Where an unfinished card is written that is to be `path`: there, unless a finished card is, which stays until then."""
    return path if not path.exists() or _table(path) is not None else path.with_suffix(".unfinished.toml")


def text(done: Done, missing: Sequence[str], versions: str) -> str:
    """The table `[unfinished]`."""
    lines = ["", "# This card is not finished: the command that it was found with takes it up again where it was stopped."]
    lines += ["[unfinished]", f"missing = [{', '.join(map(card_text.text, missing))}]"]
    lines += [f"done = [{', '.join(map(card_text.text, [*done.parts, *done.chapters]))}]"]
    lines += [f"versions = {card_text.text(versions)}", "[unfinished.known]"]
    lines += [f"{card_text.key(name)} = {_array(numbers)}" for name, numbers in done.known.items()]
    return "\n".join(lines) + "\n"


def take_over(path: Path, settings: CardSettings, versions: str) -> tuple[Done, str]:
    """What an unfinished card at `path` has, and why nothing is taken over from it, in a sentence; neither where none is there.

    settings, versions: those of the run that would take it up.
    """
    table = _table(path)
    if table is None:
        return Done(), ""
    try:
        card = read_card(path)
        known = {name: np.array(numbers, dtype=float) for name, numbers in table.get("known", {}).items()}
        names = [str(name) for name in table["done"]]
    except (CardError, KeyError, TypeError, ValueError, AttributeError) as error:
        return Done(), f"{path.name} is unfinished and cannot be taken up again ({error}): everything is measured anew"
    if why := _unlike(path, card.settings, settings, table.get("versions"), versions):
        return Done(), f"{why}: everything is measured anew"
    chapters = {file.stem: card_text.without_tail(file.read_text(encoding="utf-8-sig")) for file in chapter_files(path)}
    parts = {name: part for name, part in _parts(path, names).items() if name not in chapters}
    return Done(known, parts, {name: text for name, text in chapters.items() if name in names}), ""


def remove(path: Path) -> None:
    """Take away an unfinished card with its chapters, now that the finished one is written; a person's own words stay."""
    files = [path, *chapter_files(path)]
    if all(card_text.without_tail(text := file.read_text(encoding="utf-8-sig")) == text for file in files):
        path.unlink()
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)


def _unlike(path: Path, there: CardSettings, here: CardSettings, by: Any, versions: str) -> str:
    """In what an unfinished card differs from the run, in a sentence; empty where it may be taken up."""
    card = f"{path.name} is unfinished, and"
    if there.weights_sha256 != here.weights_sha256:
        return f"{card} was found on other weights"
    if there != here:
        said = difference(path.name, there, here).partition(" was measured ")[2].partition(": its values")[0]
        numbers = f"on {there.prompts} prompts with seed {there.seed}, and this run on {here.prompts} with {here.seed}"
        return f"{card} was measured {said or numbers}"
    return f"{card} was found by {by}, and this is {versions}" if by != versions else ""


def _parts(path: Path, names: Sequence[str]) -> dict[str, str]:
    """The texts of these parts of a card as they stand there; of a part that found nothing, an empty one."""
    before = card_text.without_tail(path.read_text(encoding="utf-8-sig")).partition("\n# This card is not finished")[0]
    heads = {card_text.part_head(name): name for name in names}
    found: dict[str, list[str]] = {name: [] for name in names}
    current: list[str] | None = None
    for line in before.splitlines():
        if line in heads:
            current = found[heads[line]]
        if current is not None:
            current.append(line)
    return {name: "\n".join(lines).strip("\n") for name, lines in found.items()}


def _table(path: Path) -> Mapping[str, Any] | None:
    """`[unfinished]` of the card at `path`; None where there is no such card, or it is finished."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig")).get("unfinished")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return None
    return table if isinstance(table, dict) else None


def _array(numbers: np.ndarray) -> str:
    if numbers.ndim == 0:
        return card_text.number(float(numbers))
    return f"[{', '.join(map(_array, numbers))}]"
