"""Cards: what is published about one model's circuits, as data.

A card is a TOML file: the families of heads with the position at which they act, and the published values, each with its
source; further tables of values, readings that contradict each other, circuits chosen from the families, and the heads that
are knocked out together. A claim asks the card and never spells a coordinate, so that it runs on every model that has a card.

The file itself is of the IOI circuit. What is said of other circuits stands in chapters: `gpt2-small/induction.toml` beside
`gpt2-small.toml`, whose families are read with the rest and add no head to the IOI circuit.
"""

import tomllib
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from circuit_claims.cards.bases import MEASURED_ELSEWHERE, PUBLISHED_ELSEWHERE, RE_MEASURED, with_bases
from circuit_claims.cards.names import refuse_misspelt
from circuit_claims.cards.schema import (
    CardError,
    Circuit,
    CompanionSets,
    Entry,
    Family,
    Published,
    PublishedTable,
    Reading,
    read_circuits,
    read_companions,
    read_contested,
    read_families,
    sorted_nodes,
)
from circuit_claims.cards.settings import CardSettings, read_settings
from circuit_claims.cards.values import read_tables, read_values
from circuit_claims.embedded import embedded
from circuit_claims.heads import Head
from circuit_claims.renamed_claims import current_id
from circuit_claims.untested import Untested

CARD_DIR = embedded("cards")

_CARD_KEYS = frozenset(
    {
        "title",
        "models",
        "basis",
        "settings",
        "shape",
        "families",
        "values",
        "tables",
        "contested",
        "circuits",
        "companions",
        "known_false",
        "unfinished",
    }
)
#: What a chapter, a file of its own, may add.
_CHAPTER_KEYS = frozenset({"settings", "families", "values", "tables", "contested", "known_false"})
#: What `--card` is told for no card, and what the card of a model that has none is called.
NONE = "none"
#: Where a card's numbers come from: the literature, or measurements of that very model, as discovery's are.
PUBLISHED, MEASURED = "published", "measured"


@dataclass(frozen=True, repr=False)
class Card:
    """One model's circuits: as published, or (`basis` is "measured") as they were measured with this suite.

    `of_another`: the model under test is not the one that it is of, so that nothing on it is what is expected of this one.
    `missing` is the sentence with which whatever is asked of it is untested, where it stands for no card at all: see `none`.
    `unfinished` is what discovery had not measured yet when it was stopped.
    """

    name: str
    title: str
    models: tuple[str, ...]
    n_layers: int
    n_heads: int
    families: dict[str, Family]
    values: dict[str, Published]
    known_false: dict[str, str] = field(default_factory=dict)
    tables: dict[str, PublishedTable] = field(default_factory=dict)
    readings: dict[str, tuple[Reading, ...]] = field(default_factory=dict)
    circuits: dict[str, Circuit] = field(default_factory=dict)
    companion_sets: CompanionSets = field(default_factory=CompanionSets)
    settings: CardSettings = field(default_factory=CardSettings)
    basis: str = PUBLISHED
    of_another: bool = field(default=False, compare=False)
    missing: str = ""
    unfinished: tuple[str, ...] = ()

    @classmethod
    def none(cls, n_layers: int, n_heads: int, missing: str) -> "Card":
        """What stands for the card of a model that has none: it names no heads and no values.

        missing: why there is none, and what to do, in one sentence.
        """
        return cls(NONE, "no card", (), n_layers, n_heads, families={}, values={}, missing=missing)

    def _untested(self, what: str) -> Untested:
        """That something is not on the card; of no card at all, that there is none."""
        return Untested(self.missing or what)

    def __repr__(self) -> str:
        """Short: hypothesis prints a claim's arguments with a counterexample."""
        return f"the card {self.name}"

    @property
    def measured(self) -> bool:
        """Whether its numbers were measured on that very model, and are no published ones."""
        return self.basis == MEASURED

    @property
    def basis_of_values(self) -> str:
        """The basis of what is expected by it: one of `circuit_claims.cards.bases.BASES`; of no card at all, ""."""
        if self.missing:
            return ""
        if self.of_another:
            return MEASURED_ELSEWHERE if self.measured else PUBLISHED_ELSEWHERE
        return RE_MEASURED if self.measured else PUBLISHED

    def family(self, name: str) -> Family:
        """The family of that name.

        Raises Untested where the card has none.
        """
        if name not in self.families:
            raise self._untested(
                f"the card {self.name!r} names no {name!r} heads: add [families.{name.replace(' ', '_')}] to it to test this"
            )
        return self.families[name]

    def heads(self, name: str) -> tuple[Head, ...]:
        """The heads of one family, in the card's order.

        Raises Untested where the card has no such family.
        """
        return self.family(name).heads

    def __getitem__(self, key: str) -> Published:
        """The published value under `key`; spaces stand for underscores, as in the names of families.

        Raises Untested where the card has none.
        """
        key = key.replace(" ", "_")
        if key not in self.values:
            raise self._untested(
                f"the card {self.name!r} has no value {key!r}{_elsewhere('values', key)}: add [values.{key}] with its source"
            )
        return self.values[key]

    def get(self, key: str) -> Published | None:
        """The published value under `key`; None where there is no card at all, for claims that a word's own bound is left to.

        Raises Untested where there is a card, and it has none: what discovery finds short of the word, it leaves out.
        """
        return None if self.missing else self[key]

    def table(self, key: str) -> PublishedTable:
        """The published table under `key`; spaces stand for underscores, but its rows and columns are named as on the card.

        Raises Untested where the card has none.
        """
        key = key.replace(" ", "_")
        if key not in self.tables:
            raise self._untested(
                f"the card {self.name!r} has no table {key!r}{_elsewhere('tables', key)}: add [tables.{key}] with its source"
            )
        return self.tables[key]

    def contested(self, key: str) -> tuple[Reading, ...]:
        """What different sources say of one quantity (spaces stand for underscores); empty where they do not disagree."""
        return self.readings.get(key.replace(" ", "_"), ())

    def nodes(self, circuit: str = "full") -> tuple[tuple[Head, str], ...]:
        """A circuit as (head, position) pairs, sorted, each once.

        "full" is all families but those that are role_only, unless the card lists [circuits.full] itself.

        Raises Untested where the card has no such circuit.
        """
        circuit = circuit.replace("_", " ")
        if circuit in self.circuits:
            return self.circuits[circuit].nodes
        families = [family for family in self.families.values() if not family.role_only]
        nodes = sorted_nodes((head, family.position) for family in families for head in family.heads)
        if circuit == "full" and nodes:
            return nodes
        table = "[families.*] with heads" if circuit == "full" else f"[circuits.{circuit.replace(' ', '_')}] with its source"
        raise self._untested(f"the card {self.name!r} has no circuit {circuit!r}: add {table} to it to test this")

    def nodes_of(self, family_name: str) -> tuple[tuple[Head, str], ...]:
        """The (head, position) pairs of one family, in the card's order.

        Raises Untested where the card has no such family.
        """
        family = self.family(family_name)
        return tuple((head, family.position) for head in family.heads)

    def companion_nodes(self, node: tuple[Head, str]) -> frozenset[tuple[Head, str]]:
        """The nodes of the full circuit that are knocked out before a node's own contribution is looked at: minimality's K.

        Those of the heads that the card lists as its companions, or else the fellows of the node's own families.
        """
        nodes = self.nodes()
        if node[0] in self.companion_sets.sets:
            return frozenset(other for other in nodes if other[0] in self.companion_sets.sets[node[0]])
        families = [f for f in self.families.values() if not f.role_only and node in self.nodes_of(f.name)]
        fellows = {fellow for family in families for fellow in self.nodes_of(family.name)}
        return frozenset(fellows & set(nodes) - {node})

    def companions(self, head: Head) -> tuple[Head, ...]:
        """The heads that are knocked out together with this one: those that the card lists, or else the rest of its family.

        A head of several families goes with the first that is not role_only.

        Raises Untested where the card lists none and has the head in no family.
        """
        if head in self.companion_sets.sets:
            return self.companion_sets.sets[head]
        for family in self.families.values():
            if head in family.heads and not family.role_only:
                return tuple(fellow for fellow in family.heads if fellow != head)
        raise self._untested(
            f"the card {self.name!r} has {head} in no family: add it to one, or list its [companions], to test this"
        )

    @cached_property
    def named_heads(self) -> tuple[Head, ...]:
        """All heads of all families but those of further chapters, sorted."""
        families = (family for family in self.families.values() if not family.chapter)
        return tuple(sorted({head for family in families for head in family.heads}))


def _elsewhere(kind: str, key: str) -> str:
    """For which other models a value or a table is published, in a sentence."""
    titles = [card.title for card in _published(CARD_DIR) if key in getattr(card, kind)]
    return f" (it is published for {', '.join(titles)})" if titles else ""


@cache
def _published(folder: Path) -> tuple[Card, ...]:
    """The cards with published numbers, read once: many claims miss a value on a small card."""
    cards = (card for card in map(read_card, sorted(folder.glob("*.toml"))) if not card.measured)
    return tuple(with_bases(card, ()) for card in cards)


def held_against(card: Card, *, of_another: bool = False) -> Card:
    """The card with the basis of each number on it, for its own model or for another; see `circuit_claims.cards.bases`."""
    card = replace(card, of_another=of_another)
    return with_bases(card, _published(CARD_DIR) if card.measured else ())


def read_card(path: Path) -> Card:
    """Read and check one card, with its chapters: the files in the folder beside it that is called as it is.

    Raises CardError with one sentence that says what is wrong and where.
    """
    data = _read_toml(path)
    whole = Entry(path, "the card", data, _CARD_KEYS)
    if data.get("basis", PUBLISHED) not in (PUBLISHED, MEASURED):
        raise whole.wrong(f"has basis = {data['basis']!r}", f"write basis = {PUBLISHED!r} or {MEASURED!r}, or leave it out")
    chapters = {chapter: _read_toml(chapter) for chapter in chapter_files(path)}
    of_chapters = {}
    for chapter, entries in chapters.items():
        Entry(chapter, "the card's chapter", entries, _CHAPTER_KEYS)
        of_chapters[chapter] = _table(chapter, entries, "families")
        read_settings(chapter, _table(chapter, entries, "settings"))  # what its own prompts fix: nothing compares it
        for kind in entries.keys() - {"settings"}:
            _add(path, data, chapter, kind, _table(chapter, entries, kind))
    refuse_misspelt(path, data, CARD_DIR)
    for key in (key for families in of_chapters.values() for key in families):
        del data["families"][key]  # each chapter's own are read by themselves
    shape = _shape(path, data)
    families = read_families(path, _table(path, data, "families"), shape)
    for chapter, tables in of_chapters.items():
        families |= read_families(chapter, tables, shape, chapter=chapter.stem)
    values = _table(path, data, "values")
    units = {key: value.get("unit", "") for key, value in values.items() if isinstance(value, dict)}
    readings = read_contested(path, _table(path, data, "contested"), units)
    return Card(
        name=path.stem,
        title=whole.text("title") if "title" in data else path.stem,
        models=_models(whole),
        n_layers=shape[0],
        n_heads=shape[1],
        families=families,
        values=read_values(path, values, readings, shape),
        known_false=_reasons(path, _table(path, data, "known_false")),
        tables=read_tables(path, _table(path, data, "tables"), shape),
        readings=readings,
        circuits=read_circuits(path, _table(path, data, "circuits"), families, shape),
        companion_sets=(
            read_companions(path, data["companions"], families, shape) if "companions" in data else CompanionSets()
        ),
        settings=read_settings(path, _table(path, data, "settings")),
        basis=data.get("basis", PUBLISHED),
        unfinished=_unfinished(whole),
    )


def _shape(path: Path, data: dict[str, Any]) -> tuple[int, int]:
    """Layers, and heads a layer."""
    shape = data.get("shape")
    given = [shape.get(key) if isinstance(shape, dict) else None for key in ("layers", "heads")]
    numbers = [number for number in given if type(number) is int and number >= 1]
    if len(numbers) < 2:
        raise CardError(f"the card {path} lacks its shape: add [shape] with layers = ... and heads = ..., whole numbers from 1")
    return numbers[0], numbers[1]


def _models(whole: Entry) -> tuple[str, ...]:
    """The hub ids and names that the card goes with."""
    models = whole.table.get("models", [])
    if not isinstance(models, list) or not all(isinstance(name, str) and name for name in models):
        raise whole.wrong("has 'models' that are no list of names", 'write models = ["somebody/a-model"]')
    return tuple(models)


def _unfinished(whole: Entry) -> tuple[str, ...]:
    """What discovery had not measured yet: [unfinished] is its own, and taken up by it alone."""
    table = whole.table.get("unfinished", {})
    missing = table.get("missing", []) if isinstance(table, dict) else None
    if not isinstance(missing, list) or not all(isinstance(step, str) for step in missing):
        raise whole.wrong("has an [unfinished] without a list of what is missing", "take it out, or find the card anew")
    return tuple(missing)


def _reasons(path: Path, table: dict[str, Any]) -> dict[str, str]:
    """[known_false]: for each claim's id in this version, why it is false."""
    entry = Entry(path, "[known_false]", table)
    return {current_id(identity): entry.text(identity) for identity in table}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors begin a file with a byte-order mark
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CardError(f"the card {path} cannot be read ({error}): mend the file or name another with --card") from error


def chapter_files(path: Path) -> list[Path]:
    """The files of a card's chapters, which need not be there."""
    return sorted(path.with_suffix("").glob("*.toml"))


def _add(path: Path, data: dict[str, Any], chapter: Path, kind: str, entries: dict[str, Any]) -> None:
    """What one chapter of a card says, put to the rest.

    Raises CardError where the same is said twice.
    """
    there = _table(path, data, kind)
    for key, entry in entries.items():
        if key in there:
            raise CardError(f"the card {path} has [{kind}.{key}] twice, again in {chapter}: keep one of them")
        there[key] = entry
    data[kind] = there


def _table(path: Path, data: dict[str, Any], key: str) -> dict[str, Any]:
    """A table of the card, empty where it has none."""
    if not isinstance(data.get(key, {}), dict):
        raise CardError(f"the card {path}: {key!r} is not a table: write [{key}] with its keys")
    return data.get(key, {})
