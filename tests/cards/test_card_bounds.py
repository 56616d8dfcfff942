"""Numbers on a card: what their unit allows, and bounds that nothing could miss."""

import math
from pathlib import Path

import pytest

from circuit_claims.cards.card import Card, CardError, read_card
from circuit_claims.cards.ranges import RANGES

HEAD = 'title = "A model"\n[shape]\nlayers = 4\nheads = 3\n'
SOURCE = 'source = "a paper, section 1"\n'


@pytest.fixture
def read(tmp_path: Path):
    """Read a card with one value called `x`, or with what is given besides."""

    def from_lines(lines: str, table: str = "[values.x]") -> Card:
        path = tmp_path / "mine.toml"
        path.write_text(f"{HEAD}{table}\n{lines}\n{SOURCE if table == '[values.x]' else ''}", encoding="utf-8")
        return read_card(path)

    return from_lines


@pytest.mark.parametrize(
    ("lines", "says"),
    {
        "a rate below 0": ('value = -0.1\nunit = "rate"', "says -0.1, and a rate lies between 0 and 1"),
        "a rate above 1": ('value = 1.2\nunit = "rate"', "says 1.2, and a rate lies between 0 and 1"),
        "a probability in percent": ('value = 49\nunit = "probability"', "says 49, and a probability"),
        "a lower end below 0": ('value = 0.1\nlow = -0.053\nunit = "rate"', "says -0.053"),
        "a higher end above 1": ('value = 0.9\nhigh = 1.1\nunit = "rate"', "says 1.1"),
        "a lower end of 0": ('value = 0.1\nlow = 0.0\nunit = "rate"', "cannot fail"),
        "a higher end of 1": ('value = 0.9\nhigh = 1.0\nunit = "probability"', "cannot fail"),
        "all of a rate's range": ('value = 0.5\nwithin = 0.5\nunit = "rate"', "cannot fail"),
        "more than a rate's range": ('value = 0.9\nwithin = 2\nunit = "rate"', "cannot fail"),
        "all correlations": ('value = 0.1\nwithin = 1.2\nunit = "correlation"', "cannot fail"),
        "a correlation above 1": ('value = 1.01\nunit = "correlation"', "says 1.01"),
        "a layer that is not there": ('value = 4\nunit = "layer"', "says 4, and a layer lies between 0 and 3"),
        "a layer below 0": ('value = -1\nunit = "layer"', "says -1"),
        "all layers": ('value = 2\nwithin = 2\nunit = "layer"', "cannot fail"),
        "a rank of 0": ('value = 0\nunit = "rank"', "says 0"),
        "the last rank": ('value = 12\nunit = "rank"', "counts 12 of 12 heads"),
        "more heads than there are": ('value = 13\nunit = "heads"', "says 13"),
        "a negative tolerance": ("value = 3.5\nwithin = -0.1", "negative 'within'"),
        "a tolerance and an end": ("value = 3.5\nwithin = 0.1\nlow = 3.0", "'within' and an end besides"),
        "ends the wrong way round": ("value = 3.5\nlow = 4.0\nhigh = 3.0", "outside of its own ends"),
        "a value beyond its end": ("value = 3.5\nhigh = 3.0", "outside of its own ends"),
        "not a number": ("value = nan", "no number (nan)"),
        "an infinite value": ("value = inf", "no number (inf)"),
        "an infinite tolerance": ("value = 3.5\nwithin = inf", "no number (inf)"),
        "an end that is not a number": ("value = 3.5\nlow = nan", "no number (nan)"),
        "a number as a text": ('value = "3"', "no number ('3')"),
        "a tolerance as a text": ('value = 3\nwithin = "1"', "no number ('1')"),
        "true": ("value = true", "no number (True)"),
        "true as an end": ("value = 1\nlow = true", "no number (True)"),
        "a unit that is no text": ("value = 1\nunit = 3", "'unit' that is no text"),
    }.values(),
)
def test_a_number_that_cannot_be_and_a_bound_that_cannot_fail_are_refused(read, lines, says):
    with pytest.raises(CardError) as caught:
        read(lines)
    message = str(caught.value)
    assert says in message and "[values.x]" in message and "mine.toml" in message and "\n" not in message
    assert len(message.rpartition(": ")[2].split()) >= 2, f"{message!r} does not say what to do"


@pytest.mark.parametrize(
    ("value", "within", "unit", "ends"),
    [
        (0.993, 0.01, "rate", (0.983, 1.0)),
        (0.067, 0.12, "rate", (0.0, 0.187)),
        (0.5, 0.1, "rate", (0.4, 0.6)),
        (-0.95, 0.1, "correlation", (-1.0, -0.85)),
        (0, 0, "layer", (0.0, 0.0)),
        (1.02, 0.1, "share", (0.92, 1.12)),
    ],
)
def test_a_tolerance_is_cut_off_at_what_the_unit_allows(read, value, within, unit, ends):
    found = read(f'value = {value}\nwithin = {within}\nunit = "{unit}"')["x"]
    assert (found.low, found.high) == pytest.approx(ends)
    assert found.among == (None if unit == "share" else (0.0, 3.0) if unit == "layer" else RANGES[unit])


@pytest.mark.parametrize("lines", ['value = 11\nunit = "rank"', 'value = 1\nunit = "heads"', 'value = 0\nunit = "rank from 0"'])
def test_a_count_of_heads_that_leaves_some_out_is_read(read, lines):
    assert math.isfinite(read(lines)["x"].value)


TABLE = 'columns = ["a"]\nunit = "{unit}"\nwithin = {within}\nsource = "a paper, section 1"\n[tables.t.rows]\n"one" = [{cell}]'


@pytest.mark.parametrize(
    ("unit", "within", "cell", "says"),
    [
        ("rate", 0.1, 1.5, "says 1.5 in the row 'one'"),
        ("probability", 0.1, -0.2, "says -0.2 in the row 'one'"),
        ("correlation", 1.5, 0.2, "in the row 'one' a bound that cannot fail (0.2 to within 1.5)"),
        ("rate", -0.1, 0.5, "negative 'within'"),
        ("rate", "true", 0.5, "no number (True)"),
        ("rate", 0.1, "nan", "no number (nan)"),
    ],
)
def test_a_tables_cells_are_held_to_the_same(read, unit, within, cell, says):
    with pytest.raises(CardError) as caught:
        read(TABLE.format(unit=unit, within=within, cell=cell), "[tables.t]")
    assert says in str(caught.value)


def test_a_table_within_its_units_range_is_read(read):
    cell = read(TABLE.format(unit="rate", within=0.1, cell=0.05), "[tables.t]").table("t")["one", "a"]
    assert (cell.value, cell.low, cell.high) == pytest.approx((0.05, -0.05, 0.15)), "a table's tolerance is one for all cells"


@pytest.mark.parametrize(
    ("shape", "says"),
    [("layers = true\nheads = 3", "shape"), ("layers = 4.5\nheads = 3", "shape"), ('layers = "4"\nheads = 3', "shape")],
)
def test_a_shape_is_of_whole_numbers(tmp_path, shape, says):
    path = tmp_path / "mine.toml"
    path.write_text(f"[shape]\n{shape}\n", encoding="utf-8")
    with pytest.raises(CardError, match=says):
        read_card(path)


@pytest.mark.parametrize("line", ['models = "gpt2"', "models = [3]", "title = 3", "basis = 'guessed'"])
def test_a_cards_own_lines_are_what_they_should_be(tmp_path, line):
    path = tmp_path / "mine.toml"
    path.write_text(f"{line}\n[shape]\nlayers = 4\nheads = 3\n", encoding="utf-8")
    with pytest.raises(CardError, match=line.partition(" ")[0]):
        read_card(path)


def test_a_reason_for_what_is_known_false_is_a_text(read):
    with pytest.raises(CardError, match=r"\[known_false\].*'a/claim'"):
        read('"a/claim" = 3', "[known_false]")
