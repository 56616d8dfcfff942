"""Names on a card that are nearly the ones that claims ask for, and cards that are not there."""

import re
from pathlib import Path

import pytest

from circuit_claims.cards.card import CARD_DIR, CardError, read_card
from circuit_claims.cards.find import find_card
from circuit_claims.cards.names import KINDS, _known, meant_by

ROOT = Path(__file__).parents[2]
HEAD = "[shape]\nlayers = 4\nheads = 3\n"
FAMILY = 'heads = ["L0H1"]\nposition = "END"\nsource = "a paper, section 1"\n'
VALUE = 'value = 0.5\nsource = "a paper, section 1"\n'
TABLE = 'columns = ["a"]\nunit = "logits"\nsource = "a paper, section 1"\nrows = { "b" = [1.0] }\n'


@pytest.mark.parametrize(
    ("table", "lines", "meant"),
    [
        ("families.name_movr", FAMILY, "families.name_mover"),
        ("families.name_movers", FAMILY, "families.name_mover"),
        ("families.S_inhibition", FAMILY, "families.S-inhibition"),
        ("families.Name_Mover", FAMILY, "families.name_mover"),
        ("families.prevoius_token", FAMILY, "families.previous_token"),
        ("values.logit_diference", VALUE, "values.logit_difference"),
        ("values.name_mover_atention", VALUE, "values.name_mover_attention"),
        ("tables.minimalty", TABLE, "tables.minimality"),
    ],
)
def test_a_name_that_is_nearly_one_that_claims_ask_for_is_refused(tmp_path, table, lines, meant):
    path = tmp_path / "mine.toml"
    path.write_text(f"{HEAD}[{table}]\n{lines}", encoding="utf-8")
    with pytest.raises(CardError, match=re.escape(f"[{table}], which no claim asks for: did you mean [{meant}]?")) as caught:
        read_card(path)
    assert "mine.toml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_name_in_a_chapter_is_held_to_the_same(tmp_path):
    (tmp_path / "mine.toml").write_text(HEAD, encoding="utf-8")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "induction.toml").write_text(f"[families.strong_inducton]\n{FAMILY}", encoding="utf-8")
    with pytest.raises(CardError, match=r"did you mean \[families\.strong_induction\]"):
        read_card(tmp_path / "mine.toml")


@pytest.mark.parametrize("name", ["my_heads", "copying", "name_mover_2", "second_name_mover", "gender", "ov", "mover"])
def test_a_name_of_ones_own_is_let_be(tmp_path, name):
    path = tmp_path / "mine.toml"
    path.write_text(f"{HEAD}[families.{name}]\n{FAMILY}", encoding="utf-8")
    assert read_card(path).heads(name.replace("_", " "))


@pytest.mark.parametrize("name", ["demo_prompt_9", "demo_prompt_12", "extra_s_prefers_s", "two_sentence_prefers_io", "sae_L1"])
def test_numbers_and_letters_that_tell_names_apart_are_no_slips(name):
    known = _known(CARD_DIR)
    assert meant_by(name, known["values"] | known["tables"]) is None


def test_what_claims_ask_for_by_name_is_known():
    asked: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for path in (ROOT / "claims").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        asked["families"] |= set(re.findall(r'card\.(?:heads|family)\("([^"{}]+)"\)', text))
        asked["values"] |= set(re.findall(r'card(?:\[|\.get\()"([^"{}]+)"[\])]', text))
        asked["tables"] |= set(re.findall(r'card\.table\("([^"{}]+)"\)', text))
    for kind, names in asked.items():
        assert len(names) > 10, f"the pattern finds no {kind}"
        assert {name.replace(" ", "_") for name in names} <= _known(CARD_DIR)[kind]


def test_a_card_that_begins_with_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbf" + f'title = "Mine"\n{HEAD}'.encode())
    assert read_card(path).title == "Mine"


@pytest.mark.parametrize("given", ["nope.toml", "./nope.toml", "some/folder/nope", "~/nope.toml"])
def test_a_path_with_no_file_is_called_a_path_with_no_file(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CardError, match=re.escape(f"there is no file at {given!r}: ") + ".*gpt2-small, mini.*--card"):
        find_card(given)


def test_a_folder_is_no_card(tmp_path):
    (tmp_path / "nope.toml").mkdir()
    with pytest.raises(CardError, match="there is a folder at"):
        find_card(str(tmp_path / "nope.toml"))


def test_a_name_with_no_card_lists_those_there_are():
    with pytest.raises(CardError, match="there is no card 'nope': name one of gpt2-small, mini, smollm2-135m, or the path"):
        find_card("nope")
