"""What stands on a card, and how each entry is read from TOML and checked; numbers are read in `circuit_claims.cards.values`.

Every mistake is a CardError of one sentence: which card and which table, what is wrong, and what to write instead.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from circuit_claims.heads import Head
from circuit_claims.untested import Untested

_FAMILY_KEYS = {"heads", "position", "source", "note", "role_only"}
_CONTESTED_KEYS = {"unit", "readings", "note"}
_READING_KEYS = {"value", "setup", "source", "note"}
_CIRCUIT_KEYS = {"heads", "source", "note"}
#: Tables whose rows are numbered templates, the same for every model; elsewhere a number names a layer.
_BY_TEMPLATE = ("faithfulness_without_BOS", "faithfulness_with_BOS")


class CardError(ValueError):
    """A card that cannot be read; the message is one sentence for the user."""


@dataclass(frozen=True)
class Family:
    """Heads that share a role: `heads` act at `position` (a role in the prompt, such as END).

    `role_only`: it adds no head to the circuit: a part that heads of other families play besides, or, where a note on the
    card says why, heads that the circuit does without.
    `chapter`: the further chapter that it stands in, "" for the IOI circuit's.
    """

    name: str
    heads: tuple[Head, ...]
    position: str
    source: str
    role_only: bool = False
    chapter: str = ""


@dataclass(frozen=True)
class Reading:
    """One of several published numbers for the same quantity, with the set-up (data set, BOS, size) that it was found in."""

    value: float
    setup: str
    source: str


@dataclass(frozen=True)
class Beside:
    """What is published for another model (`model`, the title of its card) under the same name."""

    value: float
    low: float | None
    high: float | None
    model: str
    source: str


@dataclass(frozen=True)
class Published:
    """A published number, with the tolerance it came with and its source.

    `value` is the number; `low` and `high` are bounds where the source states a range or where a tolerance was given.
    `readings` are what different sources say where they disagree about it.
    `among` is what such a number can be at all, where its unit says so.
    `basis` is one of `circuit_claims.cards.bases.BASES`, for the model under test, and `card` the title of the card that it
    stands on; both are empty where it stands on none. `beside` is what is published for other models.
    """

    key: str
    value: float
    low: float | None
    high: float | None
    unit: str
    source: str
    readings: tuple[Reading, ...] = ()
    among: tuple[float, float] | None = field(default=None, compare=False)
    basis: str = field(default="", compare=False)
    card: str = field(default="", compare=False)
    beside: tuple[Beside, ...] = field(default=(), compare=False)

    def __float__(self) -> float:
        return self.value

    def __int__(self) -> int:
        return int(self.value)

    def bound(self, number: float) -> "Published":
        """A number that follows from this one, such as a count of the heads up to it: of the same source and basis."""
        return Published("", float(number), None, None, self.unit, self.source, basis=self.basis, card=self.card)


@dataclass(frozen=True)
class PublishedTable:
    """A published table of numbers in one unit: `values[row][column]`, `within` the tolerance of each."""

    key: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    unit: str
    within: float | None
    source: str
    basis: str = field(default="", compare=False)
    card: str = field(default="", compare=False)
    #: The tables of that key on the published cards of other models.
    beside: "tuple[PublishedTable, ...]" = field(default=(), compare=False)

    def bound(self, number: float) -> Published:
        """A number that follows from the table, such as its tolerance: of the same source and basis."""
        return Published("", float(number), None, None, self.unit, self.source, basis=self.basis, card=self.card)

    def tolerance(self) -> Published:
        """How far a cell may be off.

        Raises Untested where the card does not say.
        """
        if self.within is None:
            raise Untested(f"the card's table {self.key!r} has no tolerance: add within to [tables.{self.key}] to test this")
        return self.bound(self.within)

    def __getitem__(self, place: tuple[str, str]) -> Published:
        """The number at (row, column), both named as the card writes them.

        Raises Untested where the table has no such row or column.
        """
        row, column = place
        for name, kind, there in ((row, "row", self.rows), (column, "column", self.columns)):
            if name not in there:
                raise Untested(
                    f"the card's table {self.key!r} has no {kind} {name!r} (it has {', '.join(map(repr, there))}): "
                    f"add it to [tables.{self.key}] to test this"
                )
        value = self.values[self.rows.index(row)][self.columns.index(column)]
        low, high = (None, None) if self.within is None else (value - self.within, value + self.within)
        source = f"{self.source}: row {row}, column {column}"
        beside = tuple(
            Beside(cell.value, cell.low, cell.high, table.card, cell.source)
            for table in self.beside
            if row in table.rows and column in table.columns and not self._is_coordinate(row, column)
            for cell in [table[row, column]]
        )
        key = f"{self.key}[{row}, {column}]"
        return Published(key, value, low, high, self.unit, source, basis=self.basis, card=self.card, beside=beside)

    def _is_coordinate(self, *names: str) -> bool:
        """Whether a row or column is a place in one model: its L9H6 is no other model's, nor its layer 9."""
        numbered = self.key not in _BY_TEMPLATE
        return any(re.match(r"L\d|H\d|\d+_", name) or (numbered and name.isdecimal()) for name in names)


@dataclass(frozen=True)
class Circuit:
    """A circuit that was published as a choice of heads from the families: (head, position) pairs, sorted."""

    name: str
    nodes: tuple[tuple[Head, str], ...]
    source: str


@dataclass(frozen=True)
class CompanionSets:
    """For some heads, the heads that are knocked out with them to show that they matter (the sets K of minimality)."""

    sets: dict[Head, tuple[Head, ...]] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class Entry:
    """One table of the file, with what a message needs to say where it stands.

    Raises CardError, when made, where it is no table or has a key that nobody reads.
    """

    path: Path
    where: str
    table: Any
    known: frozenset[str] | set[str] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.table, dict):
            keys = f" {', '.join(sorted(self.known))}" if self.known else ""
            raise CardError(f"{self.where} in {self.path} is not a table: write it with its keys{keys}")
        for key in self.table:
            if self.known is not None and key not in self.known:
                raise CardError(
                    f"{self.where} in {self.path} has the unknown key {key!r}: use only {', '.join(sorted(self.known))}"
                )

    def wrong(self, what: str, remedy: str) -> CardError:
        """The error that says where, what, and what to do."""
        return CardError(f"the card {self.path}, {self.where}, {what}: {remedy}")

    def required(self, key: str) -> Any:
        """The value under a key.

        Raises CardError where there is none.
        """
        if key not in self.table:
            raise self.wrong(f"lacks {key!r}", "add it")
        return self.table[key]

    def text(self, key: str) -> str:
        """The text under a key, which must say something.

        Raises CardError where there is none.
        """
        value = self.required(key)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(f"has a {key!r} that is no text", f'write {key} = "..."')
        return value

    def unit(self) -> str:
        """The unit, "" where none is given.

        Raises CardError where it is no text.
        """
        value = self.table.get("unit", "")
        if not isinstance(value, str):
            raise self.wrong("has a 'unit' that is no text", 'write unit = "logits"')
        return value

    def number(self, key: str) -> float:
        """The finite number under a key.

        Raises CardError where there is none.
        """
        return self.as_number(self.required(key), f"a {key!r}")

    def as_number(self, value: Any, name: str) -> float:
        """A finite number; `name` is what the message calls it.

        Raises CardError where it is anything else; true and false are no numbers.
        """
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.wrong(f"has {name} that is no number ({value!r})", "write a number, such as 3.5")
        return float(value)

    def as_heads(self, value: Any, shape: tuple[int, int], name: str = "heads") -> tuple[Head, ...]:
        """A list of heads that a model of `shape` (layers, heads) has.

        Raises CardError where it is no list, names something that is no head, or one that the model has not.
        """
        if not isinstance(value, list):
            raise self.wrong("has no list of heads", f'write {name} = ["L9H6"]')
        return tuple(self.as_head(item, shape) for item in value)

    def as_head(self, value: Any, shape: tuple[int, int]) -> Head:
        """A head that a model of `shape` has.

        Raises CardError where it is no head, or one that the model has not.
        """
        try:
            head = Head.parse(value)
        except ValueError as error:
            raise CardError(f"the card {self.path}, {self.where}: {error}") from error
        layers, heads = shape
        if head.layer >= layers or head.head >= heads:
            raise CardError(
                f"the card {self.path}, {self.where}, names {head}, but its model has {layers} layers of {heads} heads: "
                "mend the head or the shape"
            )
        return head


def read_families(path: Path, tables: dict[str, Any], shape: tuple[int, int], chapter: str = "") -> dict[str, Family]:
    """[families.*]: by name, with spaces for underscores. Those of a further chapter are all outside the IOI circuit.

    Raises CardError where one is not as it should be.
    """
    families = {}
    for key, table in tables.items():
        entry = Entry(path, f"[families.{key}]", table, _FAMILY_KEYS)
        heads = entry.as_heads(entry.required("heads"), shape)
        role_only = entry.table.get("role_only", False)
        if not isinstance(role_only, bool):
            raise entry.wrong("has a 'role_only' that is neither true nor false", "write role_only = true, or leave it out")
        name = key.replace("_", " ")
        position, source = entry.text("position"), entry.text("source")
        families[name] = Family(name, heads, position, source, role_only or bool(chapter), chapter)
    if chapter:
        return families
    elsewhere = {head for family in families.values() if not family.role_only for head in family.heads}
    for key, table in tables.items():
        # A head that only role_only families named would silently be missing from the circuit.
        for head in families[key.replace("_", " ")].heads:
            if head not in elsewhere and not table.get("note"):
                raise Entry(path, f"[families.{key}]", table).wrong(
                    f"is role_only, but {head} is in no other family",
                    "add the head to one, leave role_only out, or say in a note why the circuit does without it",
                )
    return families


def read_contested(path: Path, tables: dict[str, Any], units: dict[str, str]) -> dict[str, tuple[Reading, ...]]:
    """[contested.*]: by key, in the card's order; `units` are those of the card's values.

    Raises CardError where one is not as it should be, or where its unit is another than the value's.
    """
    contested = {}
    for key, table in tables.items():
        entry = Entry(path, f"[contested.{key}]", table, _CONTESTED_KEYS)
        unit = entry.unit()
        if unit and units.get(key, "") not in ("", unit):
            raise entry.wrong(f"is in {unit!r}, but [values.{key}] in {units[key]!r}", "bring both to one unit")
        readings = entry.required("readings")
        if not isinstance(readings, list) or not readings:
            raise entry.wrong("has no readings", f"write each as a table [[contested.{key}.readings]]")
        contested[key] = tuple(
            _read_reading(Entry(path, f"[[contested.{key}.readings]] number {number}", reading, _READING_KEYS))
            for number, reading in enumerate(readings, start=1)
        )
    return contested


def _read_reading(entry: Entry) -> Reading:
    return Reading(entry.number("value"), entry.text("setup"), entry.text("source"))


def read_circuits(
    path: Path, tables: dict[str, Any], families: dict[str, Family], shape: tuple[int, int]
) -> dict[str, Circuit]:
    """[circuits.*]: by name, with spaces for underscores.

    Raises CardError where one is not as it should be, or names a head that is not in that family of the card.
    """
    circuits = {}
    for key, table in tables.items():
        entry = Entry(path, f"[circuits.{key}]", table, _CIRCUIT_KEYS)
        source = entry.text("source")
        chosen = Entry(path, f"[circuits.{key}.heads]", entry.required("heads"))
        nodes: list[tuple[Head, str]] = []
        for family_key, members in chosen.table.items():
            family = families.get(family_key.replace("_", " "))
            if family is None:
                raise chosen.wrong(f"names the family {family_key!r}, which the card has not", f"add [families.{family_key}]")
            for head in chosen.as_heads(members, shape, family_key):
                if head not in family.heads:
                    raise chosen.wrong(
                        f"names {head}, which is not in [families.{family_key}]", "add it there or take it out here"
                    )
                nodes.append((head, family.position))
        if not nodes:
            raise chosen.wrong("names no heads", 'write name_mover = ["L9H6"]')
        name = key.replace("_", " ")
        circuits[name] = Circuit(name, sorted_nodes(nodes), source)
    return circuits


def read_companions(path: Path, table: Any, families: dict[str, Family], shape: tuple[int, int]) -> CompanionSets:
    """[companions]: head by head, with one source for all of them.

    Raises CardError where it is not as it should be, names a head of no family, or a head as its own companion.
    """
    entry = Entry(path, "[companions]", table)
    named = {head for family in families.values() for head in family.heads}
    sets: dict[Head, tuple[Head, ...]] = {}
    for key, value in entry.table.items():
        if key in ("source", "note"):
            continue
        head = entry.as_head(key, shape)
        sets[head] = entry.as_heads(value, shape, key)
        if head in sets[head]:
            raise entry.wrong(f"lists {head} as its own companion", "take it out of its own list")
        for one in (head, *sets[head]):
            if one not in named:
                raise entry.wrong(f"names {one}, which is in no family of the card", "add it to a family or take it out here")
    return CompanionSets(sets, entry.text("source"))


def sorted_nodes(nodes: Iterable[tuple[Head, str]]) -> tuple[tuple[Head, str], ...]:
    """(head, position) pairs, each once, by layer, head and position."""
    return tuple(sorted(set(nodes)))
