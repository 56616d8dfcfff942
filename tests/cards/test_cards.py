"""Cards: what ships reads and names its sources, and a card with a mistake is refused in one sentence that says where."""

import math
from pathlib import Path
from unittest import SkipTest

import pytest

from circuit_claims.cards.card import CARD_DIR, Card, CardError, Published, read_card
from circuit_claims.cards.find import find_card
from circuit_claims.heads import Head
from circuit_claims.subjects.card_choice import card_for
from circuit_claims.untested import Untested

SHIPPED = sorted(path.stem for path in CARD_DIR.glob("*.toml"))

GOOD = """
title = "A model"
models = ["somebody/a-model"]

[shape]
layers = 4
heads = 2

[families.name_mover]
heads = ["L3H1", "L2H0"]
position = "END"
source = "a paper, section 1"
note = "a note"

[families.previous_token]
heads = ["L0H1"]
position = "S1+1"
source = "a paper, section 2"

[values.logit_difference]
value = 3.5
within = 0.25
unit = "logits"
source = "a paper, section 3"

[values.share]
value = 0.5
low = 0.25
high = 1.0
source = "a paper, section 4"

[values.bare]
value = 14
source = "a paper, section 5"

[known_false]
"demo/chapter/claim" = "a reason"
"""


@pytest.fixture
def read(tmp_path: Path):
    """Read a card from a text."""

    def from_text(text: str) -> Card:
        path = tmp_path / "a-model.toml"
        path.write_text(text, encoding="utf-8")
        return read_card(path)

    return from_text


def refusal(read, text: str) -> str:
    """The message with which a card is refused: one line that names the file, and says what to do."""
    with pytest.raises(CardError) as caught:
        read(text)
    message = str(caught.value)
    assert "\n" not in message and "a-model.toml" in message
    assert len(message.rpartition(": ")[2].split()) >= 2, f"{message!r} does not say what to do"
    return message


# What ships.


def test_the_card_of_gpt2_small_ships():
    assert "gpt2-small" in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_card_reads_and_every_entry_names_its_source(name):
    card = find_card(name)
    assert card.name == name and card.title != name and card.families and card.values
    entries = {**card.families, **card.values}
    assert len(entries) == len(card.families) + len(card.values)
    assert not [key for key, entry in entries.items() if not (isinstance(entry.source, str) and len(entry.source.split()) > 1)]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_card_names_no_head_twice_within_a_family_and_no_empty_family(name):
    for family in find_card(name).families.values():
        assert family.heads and len(set(family.heads)) == len(family.heads), family.name


@pytest.mark.parametrize("name", SHIPPED)
def test_a_value_of_a_shipped_card_lies_within_its_own_tolerance(name):
    for value in find_card(name).values.values():
        low = -math.inf if value.low is None else value.low
        high = math.inf if value.high is None else value.high
        assert low <= value.value <= high, value.key


# What a card says.


def test_a_card_reads_as_it_is_written(read):
    card = read(GOOD)
    assert (card.name, card.title, card.models, card.n_layers, card.n_heads) == (
        "a-model",
        "A model",
        ("somebody/a-model",),
        4,
        2,
    )
    assert card.heads("name mover") == (Head(3, 1), Head(2, 0)), "in the card's order"
    assert card.family("previous token").position == "S1+1" and card.family("name mover").source == "a paper, section 1"
    assert card.named_heads == (Head(0, 1), Head(2, 0), Head(3, 1)), "sorted"
    assert card.known_false == {"demo/chapter/claim": "a reason"}


def test_within_becomes_a_lower_and_an_upper_end(read):
    assert read(GOOD)["logit_difference"] == Published("logit_difference", 3.5, 3.25, 3.75, "logits", "a paper, section 3")


def test_low_and_high_are_kept_and_a_bare_value_has_neither(read):
    card = read(GOOD)
    assert (card["share"].low, card["share"].high) == (0.25, 1.0)
    assert (card["bare"].low, card["bare"].high) == (None, None)
    assert float(card["bare"]) == 14.0 and isinstance(card["bare"].value, float)


def test_a_missing_value_is_untested_and_says_what_to_add(read):
    with pytest.raises(Untested, match=r"'a-model' has no value 'missing': add \[values\.missing\] with its source"):
        read(GOOD)["missing"]


@pytest.mark.parametrize("asked", ["heads", "family"])
def test_a_missing_family_is_untested_and_says_what_to_add(read, asked):
    with pytest.raises(Untested, match=r"'a-model' names no 'copy suppressor' heads: add \[families\.copy_suppressor\]"):
        getattr(read(GOOD), asked)("copy suppressor")


def test_untested_is_a_skip_and_no_assertion():
    assert issubclass(Untested, SkipTest) and not issubclass(Untested, AssertionError)


# What a card may not say.

#: What is replaced by what in the good card, and what the message then has to say.
MISTAKES = {
    "not TOML": (GOOD, "not TOML", "cannot be read"),
    "unknown key": ("[shape]", "colour = 'red'\n[shape]", "unknown key 'colour'"),
    "unknown table": ("[known_false]", "[knwon_false]", "unknown key 'knwon_false'"),
    "unknown key of a family": ('note = "a note"', "layer = 3", "[families.name_mover] in"),
    "unknown key of a value": ("within = 0.25", "wihtin = 0.25", "unknown key 'wihtin'"),
    "no shape": ("[shape]\nlayers = 4\nheads = 2\n", "", "lacks its shape"),
    "half a shape": ("layers = 4\n", "", "lacks its shape"),
    "a shape in words": ("layers = 4", 'layers = "four"', "lacks its shape"),
    "layer out of range": ('"L3H1"', '"L4H1"', "names L4H1, but its model has 4 layers of 2 heads"),
    "head out of range": ('"L3H1"', '"L3H2"', "names L3H2, but its model has 4 layers of 2 heads"),
    "bad head": ('"L3H1"', '"3.1"', "'3.1' is not a head"),
    "head as numbers": ('"L3H1"', "[3, 1]", "[3, 1] is not a head"),
    "heads as one text": ('["L3H1", "L2H0"]', '"L3H1"', "[families.name_mover]"),
    "heads as a number": ('["L3H1", "L2H0"]', "31", "[families.name_mover]"),
    "family without heads": ('heads = ["L0H1"]\n', "", "[families.previous_token], lacks 'heads'"),
    "family without position": ('position = "END"\n', "", "[families.name_mover], lacks 'position'"),
    "family without source": ('source = "a paper, section 1"\n', "", "[families.name_mover], lacks 'source'"),
    "family as a number": ("[families.name_mover]", "[families]\nodd = 3\n[families.name_mover]", "[families.odd]"),
    "families as a number": (GOOD[GOOD.index("[families.name") : GOOD.index("[values.logit")], "", None),
    "value without number": ("value = 3.5\n", "", "[values.logit_difference], lacks 'value'"),
    "value in words": ("value = 3.5", 'value = "three"', "[values.logit_difference], has a 'value' that is no number"),
    "value without source": ('source = "a paper, section 3"\n', "", "[values.logit_difference], lacks 'source'"),
    "tolerance in words": ("within = 0.25", 'within = "a bit"', "[values.logit_difference]"),
    "lower end in words": ("low = 0.25", 'low = "a bit"', "[values.share]"),
    "known false as a text": (GOOD[GOOD.index("[known_false]") :], "", None),
}
#: A key that ought to be a table stands before the first one, or it would belong to it.
UP_FRONT = {"families as a number": "families = 3", "known false as a text": 'known_false = "demo/chapter/claim"'}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_card_with_a_mistake_is_refused_in_one_sentence_that_says_where(read, mistake):
    right, wrong, says = MISTAKES[mistake]
    assert GOOD.count(right) == 1
    text = GOOD.replace(right, wrong)
    if mistake in UP_FRONT:
        text = f"{UP_FRONT[mistake]}\n{text}"
    message = refusal(read, text)
    assert says is None or says in message


def test_the_card_that_the_mistakes_are_made_in_is_right(read):
    assert len(read(GOOD).values) == 3


@pytest.mark.parametrize("contents", [None, b"title = '\xff'"], ids=["absent", "not text"])
def test_a_card_that_is_no_text_file_is_refused_in_one_sentence(tmp_path, contents):
    path = tmp_path / "a-model.toml"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(CardError, match=r"a-model\.toml cannot be read .*: mend the file or name another with --card$"):
        read_card(path)


# Which card goes with which subject.


@pytest.mark.parametrize(
    "named",
    [
        "gpt2",
        "gpt2-small",
        "openai-community/gpt2",
        "some/dir/my-gpt2-small-8bit",
        "my_gpt2_small_8bit",
        "./gpt2 small (mine)/../gpt2-small.quantised",
        "somebody/gpt2-small-finetuned",
    ],
)
def test_a_subject_called_like_gpt2_small_takes_its_card(named):
    card = card_for(named, None)
    assert card is not None and card.name == "gpt2-small"


@pytest.mark.parametrize("named", ["distilgpt2", "EleutherAI/pythia-70m", "some/dir/model", "gpt2-small/checkpoint", "small"])
def test_a_subject_with_an_unrelated_name_has_no_card(named):
    assert card_for(named, None) is None


def test_a_card_that_is_named_wins_over_the_name_of_the_subject(tmp_path):
    (tmp_path / "mine.toml").write_text(GOOD)
    assert card_for("gpt2", str(tmp_path / "mine.toml")).name == "mine"
    assert card_for("distilgpt2", "gpt2-small").name == "gpt2-small"


def test_a_card_that_is_named_and_not_there_is_refused_with_those_there_are():
    with pytest.raises(CardError, match=r"no card 'nonesuch': name one of .*gpt2-small.* --card$"):
        card_for("gpt2", "nonesuch")


CHAPTER = """
[families.strong_induction]
heads = ["L2H1"]
position = "the repeated token"
source = "another paper"

[values.gap]
value = 0.3
source = "another paper"

[known_false]
"demo/other/claim" = "another reason"
"""


@pytest.fixture
def with_chapter(tmp_path: Path, read):
    """Read a card with one chapter beside it."""

    def from_text(text: str) -> Card:
        (tmp_path / "a-model").mkdir()
        (tmp_path / "a-model" / "other.toml").write_text(text, encoding="utf-8")
        return read(GOOD)

    return from_text


def test_a_chapter_is_read_with_the_card_and_adds_nothing_to_the_circuit(with_chapter, read):
    card = with_chapter(CHAPTER)
    assert card.heads("strong induction") == (Head(2, 1),)
    assert card.family("strong induction").chapter == "other"
    assert float(card["gap"]) == 0.3
    assert set(card.known_false) == {"demo/chapter/claim", "demo/other/claim"}
    assert card.nodes() == ((Head(0, 1), "S1+1"), (Head(2, 0), "END"), (Head(3, 1), "END"))
    assert Head(2, 1) not in card.named_heads


@pytest.mark.parametrize(
    ("chapter", "said"),
    [
        ('[values.bare]\nvalue = 1\nsource = "x"', r"has \[values.bare\] twice, again in .*other.toml"),
        ("[shape]\nlayers = 1\nheads = 1", "unknown key 'shape'"),
        ('[families.x]\nheads = ["L9H9"]\nposition = "p"\nsource = "s"', r"other.toml.*names L9H9, but its model has 4"),
        ("[values", r"other.toml cannot be read"),
        ("values = 3", "'values' is not a table"),
    ],
)
def test_a_chapter_with_a_mistake_is_refused(with_chapter, chapter, said):
    with pytest.raises(CardError, match=said):
        with_chapter(chapter)
