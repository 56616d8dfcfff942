"""The single numbers of a card, `[values.*]`, and the tables of them, `[tables.*]`: read, and held against what they can be."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from circuit_claims.cards.ranges import COUNTS_HEADS, cannot_fail, range_of
from circuit_claims.cards.schema import Entry, Published, PublishedTable, Reading

_VALUE_KEYS = {"value", "low", "high", "within", "unit", "source", "note"}
_TABLE_KEYS = {"columns", "rows", "unit", "within", "source", "note"}
#: What to write in place of a bound that every model would meet.
EXCLUDE = "write ends that exclude something, or leave the value out"


def read_values(
    path: Path, tables: dict[str, Any], readings: Mapping[str, tuple[Reading, ...]], shape: tuple[int, int]
) -> dict[str, Published]:
    """[values.*]: by key, each with the readings where its number is contested; `shape` is (layers, heads a layer).

    Raises CardError where one is not as it should be, lies outside what its unit allows, or bounds nothing.
    """
    return {
        key: read_value(Entry(path, f"[values.{key}]", table, _VALUE_KEYS), key, readings.get(key, ()), shape)
        for key, table in tables.items()
    }


def read_value(entry: Entry, key: str, readings: tuple[Reading, ...], shape: tuple[int, int]) -> Published:
    """One number with its ends: `within` is a tolerance either way, cut off at what the unit allows.

    Raises CardError as `read_values` does.
    """
    value, unit = entry.number("value"), entry.unit()
    among = range_of(unit, shape)
    low, high = (entry.number(end) if end in entry.table else None for end in ("low", "high"))
    if "within" in entry.table:
        if low is not None or high is not None:
            raise entry.wrong("has 'within' and an end besides", "write within = 0.1, or low and high")
        within = _tolerance(entry)
        low, high = value - within, value + within
        if among is not None:
            low, high = max(low, among[0]), min(high, among[1])
    if (low is not None and low > value) or (high is not None and high < value):
        raise entry.wrong(f"has the value {value:g} outside of its own ends", "mend the value, low or high")
    _possible(entry, [at for at in (value, low, high) if at is not None], unit, among)
    open_low, open_high = (float("-inf") if low is None else low), (float("inf") if high is None else high)
    if among is not None and (low is not None or high is not None) and cannot_fail(open_low, open_high, among):
        raise entry.wrong(f"is a bound that cannot fail: a {unit} lies between {among[0]:g} and {among[1]:g}", EXCLUDE)
    if unit in COUNTS_HEADS and among is not None and not 1 <= value < among[1]:
        raise entry.wrong(f"counts {value:g} of {among[1]:g} heads, which excludes none of them", EXCLUDE)
    return Published(key, value, low, high, unit, entry.text("source"), readings, among)


def read_tables(path: Path, tables: dict[str, Any], shape: tuple[int, int]) -> dict[str, PublishedTable]:
    """[tables.*]: by key.

    Raises CardError where one is not as it should be, a row that has not one number a column and a cell that its unit does not
    allow included.
    """
    return {key: read_table(Entry(path, f"[tables.{key}]", table, _TABLE_KEYS), key, shape) for key, table in tables.items()}


def read_table(entry: Entry, key: str, shape: tuple[int, int]) -> PublishedTable:
    """One table.

    Raises CardError as `read_tables` does.
    """
    columns = entry.required("columns")
    if not isinstance(columns, list) or not columns or not all(isinstance(name, str) and name for name in columns):
        raise entry.wrong("has no list of names as 'columns'", 'write columns = ["first", "second"]')
    if len(set(columns)) < len(columns):
        raise entry.wrong("names a column twice", "give each column a name of its own")
    rows = Entry(entry.path, f"[tables.{key}.rows]", entry.required("rows")).table
    if not rows:
        raise entry.wrong("has no rows", f'write [tables.{key}.rows] with "a name" = [one number a column]')
    values = []
    for name, numbers in rows.items():
        if not isinstance(numbers, list) or len(numbers) != len(columns):
            raise entry.wrong(
                f"has the row {name!r} with other than {len(columns)} numbers", "give it one number for each of its columns"
            )
        values.append(tuple(entry.as_number(number, f"a cell in the row {name!r}") for number in numbers))
    entry.required("unit")
    unit, within = entry.unit(), _tolerance(entry) if "within" in entry.table else None
    # A unit may be that of some columns alone, as of a feature's number beside its F1.
    among = range_of(unit, shape) if len(columns) == 1 or "feature" not in columns else None
    for row, numbers in zip(rows, values, strict=True):
        _possible(entry, numbers, unit, among, f" in the row {row!r}")
        if among is None or within is None:
            continue
        for number in numbers:
            if cannot_fail(number - within, number + within, among):
                raise entry.wrong(f"has in the row {row!r} a bound that cannot fail ({number:g} to within {within:g})", EXCLUDE)
    return PublishedTable(key, tuple(rows), tuple(columns), tuple(values), unit, within, entry.text("source"))


def _tolerance(entry: Entry) -> float:
    within = entry.number("within")
    if within < 0:
        raise entry.wrong("has a negative 'within'", "write the tolerance as a distance, such as 0.1")
    return within


def _possible(
    entry: Entry, numbers: tuple[float, ...] | list[float], unit: str, among: tuple[float, float] | None, where: str = ""
) -> None:
    """Raise CardError where a number is one that its unit does not allow."""
    for number in numbers:
        if among is not None and not among[0] <= number <= among[1]:
            what = f"says {number:g}{where}, and a {unit} lies between {among[0]:g} and {among[1]:g}"
            raise entry.wrong(what, "mend the number or the unit")
