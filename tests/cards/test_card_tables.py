"""Cards beyond families and values: tables, contested numbers, circuits, companions; and the mistakes that are refused."""

from pathlib import Path

import pytest

from circuit_claims.cards.card import CARD_DIR, Card, CardError, Family, Published, Reading, read_card
from circuit_claims.cards.find import find_card
from circuit_claims.heads import Head
from circuit_claims.untested import Untested

GOOD = """
title = "A model"

[shape]
layers = 4
heads = 2

[families.name_mover]
heads = ["L3H1", "L2H0", "L3H0"]
position = "END"
source = "a paper, section 1"

[families.induction]
heads = ["L1H1", "L2H0"]
position = "S2"
source = "a paper, section 2"

[families.first_mover]
heads = ["L3H0"]
position = "S1+1"
role_only = true
source = "a paper, section 3"

[values.logit_difference]
value = 3.5
within = 0.25
unit = "logits"
source = "a paper, section 4"

[values.agreed]
value = 1
source = "a paper, section 5"

[tables.the_signals]
columns = ["original position", "inverted position"]
unit = "logits"
within = 0.25
source = "a paper, table 1"
note = "a note"

[tables.the_signals.rows]
"original S" = [3.5, -1]
"random_S" = [1.5, 0.5]

[tables.bare]
columns = ["x"]
unit = ""
source = "a paper, table 2"
rows = { "r" = [2] }

[contested.logit_difference]
unit = "logits"

[[contested.logit_difference.readings]]
value = 3.5
setup = "without BOS"
source = "a paper"

[[contested.logit_difference.readings]]
value = 4
setup = "with BOS"
source = "another paper"
note = "a note"

[circuits.naive]
source = "a paper, section 6"

[circuits.naive.heads]
induction = ["L2H0"]
name_mover = ["L3H1", "L2H0", "L3H1"]

[companions]
source = "a paper, section 7"
L3H1 = ["L2H0", "L1H1"]
L3H0 = []
"""


@pytest.fixture
def read(tmp_path: Path):
    """Read a card from a text."""

    def from_text(text: str) -> Card:
        path = tmp_path / "a-model.toml"
        path.write_text(text, encoding="utf-8")
        return read_card(path)

    return from_text


@pytest.fixture
def card(read) -> Card:
    return read(GOOD)


# Tables.


def test_a_table_reads_as_it_is_written(card):
    table = card.table("the_signals")
    assert (table.key, table.unit, table.within, table.source) == ("the_signals", "logits", 0.25, "a paper, table 1")
    assert table.rows == ("original S", "random_S") and table.columns == ("original position", "inverted position")
    assert table.values == ((3.5, -1.0), (1.5, 0.5))
    assert card.table("the signals") is table, "spaces stand for underscores in the table's name"


def test_a_cell_is_a_published_number_that_says_where_it_stands(card):
    assert card.table("the signals")["original S", "inverted position"] == Published(
        "the_signals[original S, inverted position]",
        -1.0,
        -1.25,
        -0.75,
        "logits",
        "a paper, table 1: row original S, column inverted position",
    )
    bare = card.table("bare")["r", "x"]
    assert (bare.value, bare.low, bare.high, bare.unit) == (2.0, None, None, "")


def test_a_missing_table_is_untested_and_says_what_to_add(card):
    with pytest.raises(Untested, match=r"'a-model' has no table 'no_such': add \[tables\.no_such\] with its source"):
        card.table("no such")


@pytest.mark.parametrize(
    ("place", "says"),
    [
        (("original_S", "original position"), "no row 'original_S' (it has 'original S', 'random_S')"),
        (("random S", "original position"), "no row 'random S'"),
        (("original S", "original_position"), "no column 'original_position' (it has 'original position', "),
    ],
)
def test_a_missing_cell_is_untested_and_names_are_matched_as_written(card, place, says):
    with pytest.raises(Untested) as caught:
        card.table("the signals")[place]
    assert says in str(caught.value) and "add it to [tables.the_signals]" in str(caught.value)


# Contested numbers.


def test_a_contested_value_carries_its_readings(card):
    readings = (Reading(3.5, "without BOS", "a paper"), Reading(4.0, "with BOS", "another paper"))
    assert card["logit_difference"].readings == card["logit difference"].readings == readings
    assert card.contested("logit_difference") == card.contested("logit difference") == readings
    assert card["agreed"].readings == card.contested("agreed") == card.contested("no such") == ()


def test_a_quantity_may_be_contested_without_a_value_of_its_own(read):
    card = read(GOOD.replace("contested.logit_difference", "contested.other"))
    assert len(card.contested("other")) == 2 and card["logit_difference"].readings == ()


# Circuits.


def test_the_full_circuit_is_all_families_but_those_that_only_name_a_role(card):
    assert card.nodes() == (
        (Head(1, 1), "S2"),
        (Head(2, 0), "END"),
        (Head(2, 0), "S2"),
        (Head(3, 0), "END"),
        (Head(3, 1), "END"),
    )
    assert card.family("first mover").role_only and not card.family("induction").role_only
    assert card.heads("first mover") == (Head(3, 0),)
    assert card.nodes("full") == card.nodes()


def test_another_circuit_is_the_heads_it_lists_each_at_the_position_of_its_family(card):
    assert card.nodes("naive") == ((Head(2, 0), "END"), (Head(2, 0), "S2"), (Head(3, 1), "END"))
    assert card.circuits["naive"].source == "a paper, section 6"


def test_a_full_circuit_that_the_card_lists_itself_wins(read):
    card = read(GOOD.replace("circuits.naive", "circuits.full"))
    assert card.nodes() == ((Head(2, 0), "END"), (Head(2, 0), "S2"), (Head(3, 1), "END"))


def test_spaces_stand_for_underscores_in_the_name_of_a_circuit(read):
    card = read(GOOD.replace("circuits.naive", "circuits.very_naive"))
    assert card.nodes("very naive") == card.nodes("very_naive") != card.nodes()


def test_a_missing_circuit_is_untested_and_says_what_to_add(card):
    with pytest.raises(Untested, match=r"'a-model' has no circuit 'no such': add \[circuits\.no_such\] with its source"):
        card.nodes("no such")


def test_a_card_without_families_has_no_full_circuit():
    with pytest.raises(Untested, match=r"no circuit 'full': add \[families"):
        Card("bare", "", (), 4, 2, {}, {}).nodes()


def test_the_nodes_of_a_family_come_in_the_cards_order(card):
    assert card.nodes_of("name mover") == ((Head(3, 1), "END"), (Head(2, 0), "END"), (Head(3, 0), "END"))
    assert card.nodes_of("first mover") == ((Head(3, 0), "S1+1"),)
    with pytest.raises(Untested, match=r"names no 'copy' heads"):
        card.nodes_of("copy")


# Companions.


def test_listed_companions_win_even_where_there_are_none(card):
    assert card.companions(Head(3, 1)) == (Head(2, 0), Head(1, 1))
    assert card.companions(Head(3, 0)) == ()
    assert card.companion_sets.source == "a paper, section 7"


def test_without_a_list_a_heads_companions_are_its_fellows_in_its_first_family(card):
    assert card.companions(Head(2, 0)) == (Head(3, 1), Head(3, 0)), "and not its fellow in the second"
    assert card.companions(Head(1, 1)) == (Head(2, 0),)


def test_a_family_that_only_names_a_role_gives_no_companions(read):
    role_first = GOOD[GOOD.index("[families.first_mover]") : GOOD.index("[values.logit")]
    text = GOOD.replace(role_first, "").replace("[families.name_mover]", role_first + "[families.name_mover]")
    card = read(text.replace("L3H0 = []\n", ""))
    assert next(iter(card.families)) == "first mover"
    assert card.companions(Head(3, 0)) == (Head(3, 1), Head(2, 0))


def test_the_companions_of_a_head_of_no_family_are_untested(card):
    with pytest.raises(Untested, match=r"'a-model' has L0H0 in no family: add it"):
        card.companions(Head(0, 0))


# A card without any of it, and cards made by hand.


@pytest.mark.parametrize("name", sorted(path.stem for path in CARD_DIR.glob("*.toml")))
def test_a_shipped_card_has_a_full_circuit_of_the_heads_that_it_names(name):
    card = find_card(name)
    assert {head for head, _ in card.nodes()} <= set(card.named_heads)
    assert all(head not in card.companions(head) for head, _ in card.nodes())


def test_what_a_card_lacks_is_empty():
    card = Card("made-up", "", (), 4, 2, {"f": Family("f", (Head(1, 0),), "END", "a source")}, {})
    assert card.contested("x") == () and card.companions(Head(1, 0)) == () and card.nodes() == ((Head(1, 0), "END"),)
    assert Published("k", 1.0, None, None, "", "a source").readings == ()


# What a card may not say.

ROWS = GOOD[GOOD.index("[tables.the_signals.rows]") : GOOD.index("[tables.bare]")]
READINGS = GOOD[GOOD.index("[[contested") : GOOD.index("[circuits.naive]")]
NAIVE = GOOD[GOOD.index("[circuits.naive]") : GOOD.index("[companions]")]
COMPANIONS = GOOD[GOOD.index("[companions]") :]
BARE = GOOD[GOOD.index("[tables.bare]") : GOOD.index("[contested.logit")]

#: What is replaced by what in the good card, and what the message then has to say.
MISTAKES = {
    "role_only in words": ("role_only = true", 'role_only = "yes"', "[families.first_mover], has a 'role_only'"),
    "a role of nobody": ('heads = ["L3H0"]', 'heads = ["L0H0"]', "is role_only, but L0H0 is in no other family"),
    "a family's source as a number": ('source = "a paper, section 2"', "source = 2", "[families.induction], has a 'source'"),
    "unknown key of a table": ("within = 0.25\nsource", "wihtin = 0.25\nsource", "[tables.the_signals] in"),
    "a table as a number": (BARE, "[tables]\nbare = 3\n", "[tables.bare] in"),
    "a table without source": ('source = "a paper, table 1"\n', "", "[tables.the_signals], lacks 'source'"),
    "a table with an empty source": ('"a paper, table 1"', '" "', "[tables.the_signals], has a 'source' that is no text"),
    "a table without unit": ('unit = ""\n', "", "[tables.bare], lacks 'unit'"),
    "a table's unit as a number": ('unit = ""', "unit = 1", "[tables.bare], has a 'unit' that is no text"),
    "a table without columns": ('columns = ["x"]\n', "", "[tables.bare], lacks 'columns'"),
    "columns as a text": ('columns = ["x"]', 'columns = "x"', "no list of names as 'columns'"),
    "columns as numbers": ('columns = ["x"]', "columns = [1]", "no list of names as 'columns'"),
    "no column": ('columns = ["x"]', "columns = []", "no list of names as 'columns'"),
    "a column twice": ('"inverted position"', '"original position"', "[tables.the_signals], names a column twice"),
    "a table without rows": (ROWS, "", "[tables.the_signals], lacks 'rows'"),
    "no row": ('rows = { "r" = [2] }', "rows = {}", "[tables.bare], has no rows"),
    "rows as a list": ('rows = { "r" = [2] }', "rows = [[2]]", "[tables.bare.rows] in"),
    "a row too short": ('"random_S" = [1.5, 0.5]', '"random_S" = [1.5]', "the row 'random_S' with other than 2 numbers"),
    "a row too long": ('"random_S" = [1.5, 0.5]', '"random_S" = [1, 2, 3]', "the row 'random_S' with other than 2 numbers"),
    "a row as a number": ('"random_S" = [1.5, 0.5]', '"random_S" = 1.5', "the row 'random_S' with other than 2 numbers"),
    "a cell in words": ('"random_S" = [1.5, 0.5]', '"random_S" = [1.5, "x"]', "a cell in the row 'random_S' that is no number"),
    "a cell that is true": ('"random_S" = [1.5, 0.5]', '"random_S" = [1.5, true]', "that is no number (True)"),
    "a cell that is not finite": ('"random_S" = [1.5, 0.5]', '"random_S" = [1.5, nan]', "that is no number (nan)"),
    "a table's tolerance in words": ("within = 0.25\nsource", 'within = "x"\nsource', "a 'within' that is no number ('x')"),
    "a table's negative tolerance": ("within = 0.25\nsource", "within = -0.25\nsource", "a negative 'within'"),
    "unknown key of a contested number": (
        'unit = "logits"\n\n[[contested',
        'colour = "red"\n\n[[contested',
        "unknown key 'colour'",
    ),
    "contested without readings": (READINGS, "", "[contested.logit_difference], lacks 'readings'"),
    "contested with no readings": (READINGS, "readings = []\n", "[contested.logit_difference], has no readings"),
    "readings as one table": (READINGS, "readings = { value = 1 }\n", "has no readings"),
    "a reading as a number": (READINGS, "readings = [3]\n", "[[contested.logit_difference.readings]] number 1 in"),
    "a reading without value": ("value = 4\n", "", "number 2, lacks 'value'"),
    "a reading in words": ("value = 4\n", 'value = "4"\n', "number 2, has a 'value' that is no number ('4')"),
    "a reading without set-up": ('setup = "with BOS"\n', "", "number 2, lacks 'setup'"),
    "a reading's set-up as a number": ('setup = "with BOS"', "setup = 3", "number 2, has a 'setup' that is no text"),
    "a reading without source": ('source = "another paper"\n', "", "number 2, lacks 'source'"),
    "unknown key of a reading": ('setup = "with BOS"', 'set-up = "with BOS"', "unknown key 'set-up'"),
    "a reading in another unit": (
        'unit = "logits"\n\n[[contested',
        'unit = "nats"\n\n[[contested',
        "is in 'nats', but [values.logit_difference] in 'logits'",
    ),
    "a circuit without source": ('source = "a paper, section 6"\n', "", "[circuits.naive], lacks 'source'"),
    "a circuit without heads": (NAIVE, '[circuits.naive]\nsource = "a b"\n', "[circuits.naive], lacks 'heads'"),
    "a circuit of no heads": (
        NAIVE,
        '[circuits.naive]\nsource = "a b"\nheads = {}\n',
        "[circuits.naive.heads], names no heads",
    ),
    "a circuit's heads as a list": (NAIVE, '[circuits.naive]\nsource = "a b"\nheads = ["L3H1"]\n', "[circuits.naive.heads] in"),
    "unknown key of a circuit": ('source = "a paper, section 6"', 'source = "a b"\nsize = 3', "unknown key 'size'"),
    "a circuit's unknown family": (
        'induction = ["L2H0"]',
        'induktion = ["L2H0"]',
        "the family 'induktion', which the card has not",
    ),
    "a circuit's head of another family": (
        'induction = ["L2H0"]',
        'induction = ["L3H1"]',
        "L3H1, which is not in [families.ind",
    ),
    "a circuit's heads as a text": (
        'induction = ["L2H0"]',
        'induction = "L2H0"',
        "[circuits.naive.heads], has no list of heads",
    ),
    "a circuit's bad head": ('induction = ["L2H0"]', 'induction = ["2.0"]', "[circuits.naive.heads]: '2.0' is not a head"),
    "companions as a number": (COMPANIONS, "", "[companions] in"),
    "companions without source": ('source = "a paper, section 7"\n', "", "[companions], lacks 'source'"),
    "companions of no head": ("L3H0 = []", "name_mover = []", "[companions]: 'name_mover' is not a head"),
    "companions of a head that is not there": ("L3H0 = []", "L4H0 = []", "names L4H0, but its model has 4 layers"),
    "companions as a text": ("L3H0 = []", 'L3H0 = "L3H1"', "[companions], has no list of heads: write L3H0 ="),
    "a companion of no family": ("L3H0 = []", 'L3H0 = ["L0H0"]', "names L0H0, which is in no family"),
    "companions of a head of no family": ("L3H0 = []", "L0H1 = []", "names L0H1, which is in no family"),
    "its own companion": ("L3H0 = []", 'L3H0 = ["L3H0"]', "lists L3H0 as its own companion"),
    "tables as a number": (GOOD[GOOD.index("[tables.the") : GOOD.index("[contested.logit")], "", "'tables' is not a table"),
    "circuits as a number": (NAIVE, "", "'circuits' is not a table"),
    "contested as a list": (GOOD[GOOD.index("[contested.logit") : GOOD.index("[circuits.naive]")], "", "'contested' is not"),
}
#: A key that ought to be a table stands before the first one, or it would belong to it.
UP_FRONT = {
    "tables as a number": "tables = 3",
    "circuits as a number": "circuits = 3",
    "contested as a list": "contested = []",
    "companions as a number": "companions = 3",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_card_with_a_mistake_is_refused_in_one_sentence_that_says_where(read, mistake):
    right, wrong, says = MISTAKES[mistake]
    assert GOOD.count(right) == 1
    text = GOOD.replace(right, wrong)
    if mistake in UP_FRONT:
        text = f"{UP_FRONT[mistake]}\n{text}"
    with pytest.raises(CardError) as caught:
        read(text)
    message = str(caught.value)
    assert says in message and "\n" not in message and "a-model.toml" in message
    assert len(message.rpartition(": ")[2].split()) >= 2, f"{message!r} does not say what to do"


def test_a_card_key_for_a_table_that_nobody_reads_is_refused(read):
    with pytest.raises(CardError, match="unknown key 'companion'"):
        read(GOOD.replace("[companions]", "[companion]"))
