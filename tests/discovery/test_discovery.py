"""Discovery: the rules on made-up numbers, the card as it is written and refused, and the embedded model's committed card."""

import math
import re
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuit_claims.cards.card import CARD_DIR, Card, read_card
from circuit_claims.cards.find import find_card
from circuit_claims.cards.settings import CardSettings
from circuit_claims.discovery import card_text, families, family_search, tables, values
from circuit_claims.discovery.__main__ import main
from circuit_claims.discovery.families import HeadScores, propose
from circuit_claims.discovery.findings import (
    Findings,
    Table,
    Value,
    at_most_twice,
    half_way_to_one,
    near,
    rate,
    rounded,
    rounded_up,
)
from circuit_claims.discovery.survey import Survey
from circuit_claims.heads import Head
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.induction.repeated_tokens import SCORES
from tests.support.tiny_models import save_tiny_gpt2

ROOT = Path(__file__).parents[2]
SHAPE = (3, 4)
ROLES = [("END", "IO"), ("END", "S1"), ("END", "S2"), *families.LOOKS.values()]


# The rules, on made-up numbers.


def scores(**cells: dict[tuple[int, int], float]) -> HeadScores:
    """Numbers of heads that do nothing at all, but for these cells: END_IO={(2, 1): 0.5}, direct={(2, 1): 0.1}, ..."""

    def grid(name: str) -> np.ndarray:
        made = np.zeros(SHAPE)
        for place, value in cells.pop(name, {}).items():
            made[place] = value
        return made

    made = HeadScores(
        attention={(of, to): grid(f"{of}_{to}".replace("+1", "n")) for of, to in ROLES},
        random={score: grid(score.replace(" ", "_")) for score in SCORES},
        direct=grid("direct"),
        recovery=grid("recovery"),
        into_movers=grid("into_movers"),
        direct_without=grid("direct_without"),
    )
    assert not cells, f"there is nothing called {set(cells)}"
    return made


def heads_of(**cells: dict[tuple[int, int], float]) -> dict[str, list[str]]:
    """What the rules find, by family."""
    return {name: [str(head) for head in found.heads] for name, found in propose(scores(**cells)).items()}


A, B = (2, 1), (1, 0)


def test_where_no_head_does_anything_no_family_is_found():
    assert heads_of() == {}


@pytest.mark.parametrize(
    ("name", "cells"),
    {
        "name mover": {"END_IO": {A: 0.3}, "END_S1": {A: 0.11}, "direct": {A: 0.06}},
        "negative name mover": {"END_IO": {A: 0.41}, "direct": {A: -0.06}},
        "S-inhibition": {"END_S2": {A: 0.41}, "recovery": {A: 0.06}},
        "relay": {"into_movers": {A: 0.06}},
        "backup name mover": {"END_S1": {A: 0.41}, "direct": {A: 0.01}, "direct_without": {A: 0.031}},
        "duplicate token": {"S2_S1": {A: 0.41}},
        "induction": {"induction": {A: 0.41}},
        "previous token": {"previous_token": {A: 0.41}},
    }.items(),
)
def test_a_head_that_meets_a_rule_is_found_and_one_that_falls_short_of_any_part_of_it_is_not(name, cells):
    assert heads_of(**cells)[name] == ["L2H1"]
    for part in cells:
        if (name, part) not in {("name mover", "END_S1"), ("backup name mover", "direct")}:
            short = {key: {A: value[A] * (0.8 if key == part else 1)} for key, value in cells.items()}
            assert name not in heads_of(**short), f"although {part} is too small"
    assert propose(scores(**cells))[name].position in ("END", "S2", "S1+1")


def test_an_S_inhibition_head_may_act_through_the_name_movers_or_otherwise():
    assert heads_of(END_S2={A: 0.5, B: 0.5}, into_movers={A: 0.1}, recovery={B: 0.1}) == {"S-inhibition": ["L1H0", "L2H1"]}


def test_a_relay_is_in_none_of_the_families_of_the_literature_that_act_at_END():
    found = heads_of(END_S2={A: 0.5}, END_IO={B: 0.5}, direct={B: 0.1}, into_movers={A: 0.1, B: 0.1, (0, 3): 0.1})
    assert found == {"name mover": ["L1H0"], "S-inhibition": ["L2H1"], "relay": ["L0H3"]}
    assert propose(scores(into_movers={A: 0.1}))["relay"].note.startswith("not a class of the literature")


def test_a_backup_that_does_as_much_with_the_name_movers_is_none():
    cells = {"END_IO": {A: 0.5}, "direct": {A: 0.04}, "direct_without": {A: 0.05}}
    assert heads_of(**cells) == {}
    assert heads_of(**cells | {"direct_without": {A: 0.061}}) == {"backup name mover": ["L2H1"]}


def test_a_name_mover_is_no_backup_and_an_early_head_may_be_one():
    found = heads_of(END_IO={A: 0.5, B: 0.5}, direct={A: 0.1}, direct_without={A: 0.3, B: 0.3}, induction={B: 0.9})
    assert found["name mover"] == ["L2H1"] and found["backup name mover"] == found["induction"] == ["L1H0"]


def test_validated_are_those_of_a_family_that_show_it_on_random_tokens():
    found = heads_of(S2_S1={A: 0.5, B: 0.5}, duplicate_token={B: 0.5, (0, 0): 0.9})
    assert found == {"duplicate token": ["L1H0", "L2H1"], "validated duplicate token": ["L1H0"]}


@pytest.mark.parametrize(("change", "says"), [(0.0101, ""), (-0.0101, ""), (0.0099, "by 0.99%"), (None, "no logit difference")])
def test_an_early_family_is_in_the_circuit_where_its_knock_out_changes_more_than_one_percent(change, says):
    note = family_search._outside_the_circuit(change)
    assert says in note if says else note == ""


# Tolerances and bounds.


class OneValue:
    """A survey that found one value with one interval."""

    def __init__(self, value: float, *ends: float) -> None:
        self.value, self.ends = value, ends

    def told(self, *_) -> tuple[float, float, tuple[float, ...]]:
        """The value, its noise and its interval."""
        return self.value, math.sqrt(2) * max(self.value - self.ends[0], self.ends[1] - self.value), self.ends

    logit_difference, shows_the_task = 7.589, True


#: A survey of one value, and a measurement that it does not look at: both stand in for more than they are.
Measured: Any = OneValue
ANYTHING: Any = None


def test_a_value_is_known_to_within_a_tenth_or_its_noise():
    assert near(Measured(7.589, 7.4, 7.8), ANYTHING, "logits") == Value(7.59, "logits", within=0.76)
    assert near(Measured(7.589, 7.4, 8.589), ANYTHING, "logits").within == 1.5, "√2 · 1, rounded up"
    assert near(Measured(0.5, 0.49, 0.51), ANYTHING, "probability", 0.05).within == 0.05


def test_a_rate_is_known_to_within_a_point_unless_a_verdicts_interval_reaches_further():
    assert rate(Measured(0.998, 0.99, 1.0), ANYTHING).within == 0.01
    assert rate(Measured(0.99, 0.975, 0.999), ANYTHING).within == rate(Measured(0.004, 0.0, 0.02), ANYTHING).within == 0.05
    assert rate(Measured(0.002, 0.0, 0.009), ANYTHING).within == 0.01
    assert rate(Measured(0.5, 0.4, 0.6), ANYTHING).within == pytest.approx(0.1, abs=0.01)


def test_bounds_ask_for_half_of_what_was_found():
    assert half_way_to_one(0.012).value == 0.506
    assert at_most_twice(0.07, 0.01, "share").value == 0.14 and at_most_twice(0.01, 0.05, "share").value == 0.06


@pytest.mark.parametrize(("value", "kept"), [(7.594, 7.59), (-7.594, -7.59), (0.4266, 0.427), (-0.0001, 0.0), (14, 14.0)])
def test_numbers_are_rounded(value, kept):
    assert rounded(value) == kept and str(rounded(value)) == str(kept), "and zero has no sign"


@given(st.floats(min_value=1e-6, max_value=1e4))
def test_a_tolerance_is_rounded_up_and_by_little(tolerance):
    assert tolerance * (1 - 1e-6) <= rounded_up(tolerance) <= tolerance * 1.1 + 1e-9


# The card as it is written.


def written(**given) -> str:
    """A card's text, with some parts given."""
    parts: dict[str, Any] = {"title": "t", "models": ["m"], "shape": SHAPE, "found": {}, "findings": {}}
    parts |= {"source": "a source", "provenance": "", "settings": CardSettings()}
    parts |= given
    return card_text.card_text(**parts)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_title_reads_back_as_it_was(title):
    read = tomllib.loads(written(title=title, models=[title, "m"], source=title, provenance=title))
    assert read["title"] == title and read["models"] == [title, "m"]


def test_a_title_that_is_no_text_at_all_is_written_as_well_as_it_can_be():
    assert tomllib.loads(written(title="a\udc80b"))["title"] == "a?b"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_key_reads_back_as_it_was(key):
    assert tomllib.loads(f"{card_text.key(key)} = 1") == {key: 1}


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(min_value=-(2**60), max_value=2**60))
def test_any_number_reads_back_as_it_was(number):
    assert tomllib.loads(f"x = {card_text.number(number)}")["x"] == number


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_is_not_written(number):
    with pytest.raises(FloatingPointError):
        card_text.number(number)


def test_families_values_and_tables_read_back_as_they_were(tmp_path):
    found = propose(scores(END_IO={A: 0.5}, direct={A: 0.1}, into_movers={B: 0.1}, previous_token={B: 0.9}))
    found["previous token"] = replace(found["previous token"], note="not in the circuit", evidence={Head(*B): "odd\nevidence"})
    findings = {
        "one part": Findings(
            {"x": Value(1, "layer", within=0), "y": Value(0.7, "rate", low=0.6, note='a "note"')},
            {"grid": Table(("a column",), {'a "row"': (1.5,), "L0H1@END": (-0.25,)}, 0.1, "logits")},
            {"z": "there is\nnone"},
        )
    }
    text = written(title='"odd" \\ title', found=found, findings=findings)
    path = tmp_path / "mine.toml"
    card_text.write(path, text)
    card = read_card(path)
    assert card.title == '"odd" \\ title' and (card.n_layers, card.n_heads) == SHAPE
    assert {name: family.heads for name, family in card.families.items()} == {n: f.heads for n, f in found.items()}
    assert card.nodes() == ((Head(*A), "END"),), "relays and what the circuit does without add nothing to it"
    assert (card["x"].low, card["x"].high, card["y"].low, card["y"].high, card["y"].unit) == (1, 1, 0.6, None, "rate")
    assert card.table("grid")['a "row"', "a column"].value == 1.5 and card.table("grid")["L0H1@END", "a column"].low == -0.35
    assert "# L1H0: odd evidence\n" in text and "# Left out, z: there is none\n" in text and "# One part.\n" in text


TAIL = '\n# What is known to be false\n[known_false]\n"ioi/a/claim" = "a reason"\n'


def test_what_a_person_wrote_at_the_end_is_kept_and_what_stands_before_it_is_not(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(written(title="before") + TAIL)
    card_text.write(path, written(title="after"))
    assert read_card(path).known_false == {"ioi/a/claim": "a reason"} and read_card(path).title == "after"
    assert path.read_text() == written(title="after") + TAIL, "and it stays so, however often"
    assert list(tmp_path.iterdir()) == [path]


def test_a_card_that_would_not_read_back_is_not_written_over_one_that_does(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(before := written() + "\n# What is known\n[known_false\n")
    with pytest.raises(ValueError, match=r"mine\.toml cannot be read .*the card that was there is as it was"):
        card_text.write(path, written(title="after"))
    assert path.read_text() == before and list(tmp_path.iterdir()) == [path]


# The command.


@pytest.fixture(scope="module")
def nobody(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights."""
    folder = tmp_path_factory.mktemp("models") / "no body's (model)"
    return save_tiny_gpt2(folder, n_layer=SHAPE[0], n_head=SHAPE[1], n_embd=32)


def test_on_random_weights_nothing_is_found_and_a_card_is_written(nobody, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["--subject", str(nobody), "--prompts", "60", "--title", 'an "odd" one'])
    out = capsys.readouterr().out.splitlines()
    (path,) = tmp_path.glob("*.toml")  # its chapters stand in a folder beside it
    assert path.name == "no-body-s-model-card.toml"
    assert {entry.name for entry in tmp_path.iterdir()} <= {path.name, path.stem}, "and a folder for its chapters"
    assert "no family found: no head of this model meets the rules" in out and f"card to review: {path.name}" in out
    assert out[-1] == f"next: circuit-claims run -k ioi --subject {_quoted(nobody)} --card {path.name}"
    alone = tmp_path / "alone.toml"
    shutil.copy(path, alone)
    card = read_card(alone)  # a chapter may have something to say of noise: what it is like, and not that it is anything
    assert card.title == 'an "odd" one' and card.models == ("no body's (model)",)
    assert (card.n_layers, card.n_heads, card.families, card.tables) == (*SHAPE, {}, {})
    assert {"logit_difference", "io_probability", "extra_io_prefers_s"} <= card.values.keys()
    assert "prefers_io" not in card.values and "which is not nearly every one" in path.read_text(), "chance is not nearly all"
    sha256 = prepare(Settings(str(nobody), "none")).folder.sha256()
    assert card.measured and card.settings == CardSettings(False, "processed", "float32", "default", 60, 0, sha256)
    assert all("60 prompts of the discovery half" in value.source for value in card.values.values())
    first = path.read_text()
    path.write_text(first.replace("value", "# value", 1) + TAIL)
    main(["--subject", str(nobody), "--prompts", "60", "--title", 'an "odd" one'])
    assert path.read_text() == first + TAIL, "the same numbers, and what a person wrote at the end"


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "'\"'\"'") + "'"


def refused(capsys, *arguments: str) -> str:
    """The one sentence with which the command ends, with exit status 2."""
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    captured = capsys.readouterr()
    assert caught.value.code == 2 and captured.out == "" and captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize("there", ["a person's notes\n", "", 'title = "somebody else\'s card"\n', b"\xff\xfe"])
def test_what_discovery_did_not_write_is_not_overwritten(nobody, tmp_path, capsys, there):
    path = tmp_path / "mine.toml"
    path.write_bytes(there if isinstance(there, bytes) else there.encode())
    before = path.read_bytes()
    assert "is no card that discovery wrote: name another file" in refused(
        capsys, "--subject", str(nobody), "--out", str(path), "--prompts", "60"
    )
    assert path.read_bytes() == before


def test_what_discovery_did_not_write_is_overwritten_by_force(nobody, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("a person's notes\n")
    main(["--subject", str(nobody), "--out", str(path), "--prompts", "30", "--force", "--prepend-bos"])
    assert read_card(path).values and "notes" not in path.read_text() and "with BOS" in path.read_text()


def test_the_embedded_models_card_may_be_found_anew_whoever_wrote_it_and_no_other_shipped_card():
    card_text.refuse_to_overwrite(CARD_DIR / "mini.toml")
    with pytest.raises(card_text.NotOurs):
        card_text.refuse_to_overwrite(CARD_DIR / "gpt2-small.toml")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--subject", "./nowhere"], "there is no folder ./nowhere"),
        (["--subject", "mini", "--prompts", "29"], "--prompts must be at least 30"),
        (["--subject", "mini", "--seed", "-1"], "--seed must not be negative"),
        (["--subject", "mini", "--device", "toaster"], "'toaster' is not a device"),
        (["--subject", "mini", "--names", "nowhere.txt"], "nowhere.txt"),
        (["--subject", "mini", "--out", "nowhere/mine.toml"], "is a folder or in none: name a file with --out"),
        (["--subject", "mini", "--out", "."], "name "),
    ],
    ids=lambda given: " ".join(given[2:]) if isinstance(given, list) else "",
)
def test_bad_input_is_refused_in_one_sentence(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert says in refused(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


# The embedded model.

#: The parts that are measured again: those that take longest are left out.
MEASURED_AGAIN = {"behaviour", "name movers", "negative name movers", "S-inhibition", "backups", "knock-outs of families"}
MEASURED_AGAIN |= {"early heads on random tokens", "signals", "faithfulness"}


def test_the_committed_card_of_the_embedded_model_is_what_discovery_finds(mini: Subject):
    """At the settings that the card names: its families, and half of its values to within rounding."""
    card = find_card("mini")
    settings = re.search(r"(\d+) prompts of the discovery half, seed (\d+), without BOS", card["logit_difference"].source)
    assert settings, "the card says how it was found"
    survey = Survey.of(mini, n=int(settings[1]), seed=int(settings[2]), prepend_bos=False)
    begun: list[str] = []
    found = family_search.find(survey, begun.append)
    assert begun == list(family_search.STEPS)
    assert {name: (family.heads, family.position, bool(family.note)) for name, family in found.items()} == {
        name: (family.heads, family.position, family.role_only) for name, family in card.families.items() if not family.chapter
    }
    blank = Card("mini", card.title, ("mini",), card.n_layers, card.n_heads, families={}, values={})
    circuit = families.circuit_card(blank, found, "found")
    assert circuit.nodes() == card.nodes()
    findings = Findings()
    for name, part in (values.PARTS | tables.PARTS).items():
        if name in MEASURED_AGAIN:
            findings = findings | part(survey, circuit)
    assert len(findings.values) > 20 and {"signals"} == findings.tables.keys()
    for key, value in findings.values.items():
        low = value.value - value.within if value.within is not None else value.low
        assert (card[key].value, card[key].low) == (pytest.approx(value.value, abs=0.011), pytest.approx(low, abs=0.02)), key
    for key, table in findings.tables.items():
        there = card.table(key)
        assert (there.columns, there.rows) == (table.columns, tuple(table.rows)), key
        np.testing.assert_allclose(there.values, list(table.rows.values()), atol=0.011, err_msg=key)


def test_every_number_that_the_ioi_claims_ask_for_by_its_name_is_one_that_discovery_looks_for():
    """Published prompts and the naive circuit are somebody's choice, and cannot be found by measuring."""
    asked = set()
    for path in sorted((ROOT / "claims" / "ioi").glob("*.py")):
        asked |= set(re.findall(r'card(?:\[|\.table\(|\.get\()"([^"{}]+)"[\])]', path.read_text(encoding="utf-8")))
    asked = {key.replace(" ", "_") for key in asked if not key.startswith(("s0_", "demo_", "milk_", "naive_"))}
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "circuit_claims" / "discovery").glob("*.py"))
    card = (CARD_DIR / "mini.toml").read_text(encoding="utf-8")
    assert len(asked) > 30
    looked_for = {key for key in asked if f'"{key}"' in source or re.search(rf"^(\[\w+\.|# Left out, ){key}\b", card, re.M)}
    assert asked == looked_for
