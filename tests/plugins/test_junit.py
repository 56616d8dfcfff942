"""JUnit's XML has every row once, with its claim, as JSON that equals the row in claims.json."""

import json
import xml.etree.ElementTree as ElementTree

import pytest

from circuit_claims.verdicts.rows import COLUMNS, Row, as_property, rows_of
from tests.support.claim_projects import CLAIMS, claimed, run, write

#: What XML cannot hold or holds otherwise, JSON has not, or a terminal obeys; a lone surrogate, as a tokenizer can produce.
AWKWARD = "NUL \0, ESC \x1b, DEL \x7f, C1 \x85, \ud800, \uffff, \u202e, ü 名 🙂, \" ' < & > ]]> \\ \r\n\t #x00 end"

ODD = f"""
TEXT = {AWKWARD!r}

def test_odd(expect):
    expect(sizes(float("inf"), 1.0, 2.0, prompts=[TEXT] * 3), TEXT).above(3)

def test_refuted(expect):
    expect(sizes(2.0, 2.0, 2.0, prompts=[TEXT] * 3, quantity=TEXT), TEXT, because=TEXT).above(3)

def test_crashes(expect):
    raise ValueError(TEXT.replace(chr(0xD800), ''))  # pytest itself cannot send a traceback with it

@pytest.mark.parametrize("name", [TEXT])
def test_named(expect, name):
    "Of {{name}}."
    expect(sizes(2.0, 2.0), TEXT).above(1)
"""


def of_junit(project):
    """Of each test case in the XML, its rows."""
    cases = ElementTree.parse(project.path / "junit.xml").iter("testcase")
    return [
        [json.loads(entry.get("value", "")) for entry in case.iter("property") if entry.get("name") == "claim"]
        for case in cases
    ]


@pytest.mark.parametrize("processes", [(), ("-n", "1")], ids=["one process", "a worker"])
def test_the_junit_file_has_every_row_as_json(project, processes):
    """Of every way to end, and of odd texts and numbers."""
    write(project, CLAIMS)
    write(project, ODD, "claims/odd/test_y.py")
    _, rows = run(project, "--junitxml=junit.xml", *processes)
    assert {row["chapter"] for row in rows} == {"demo", "odd"}
    cases = of_junit(project)
    assert all(set(row) == set(COLUMNS) for case in cases for row in case)
    assert [row for case in cases for row in case] == rows
    for case in cases:
        assert len({row["claim_id"].partition("#")[0] for row in case}) == 1


def test_the_odd_texts_arrive_as_they_were(project):
    """So that the equality above is of the texts themselves, and no number that JSON has not stands in a row."""
    rows = {row["claim_id"].rpartition("/")[2]: row for row in claimed(project, ODD)[1]}
    assert rows["refuted"]["counterexample"]["prompt"] == AWKWARD
    assert rows["refuted"]["source"] == f"{AWKWARD}; the bound: {AWKWARD}"
    assert rows["odd"]["verdict"] == "invalid" and rows["odd"]["observed"] is None


def test_a_property_is_ascii_that_xml_can_hold():
    name, text = as_property(Row("a/b", AWKWARD, "a", observed=float("nan"), ci_low=float("-inf")))
    assert name == "claim" and text.isascii() and text.isprintable()
    (row,) = rows_of([("other", "no JSON"), (name, text)])
    assert row["statement"] == AWKWARD and row["observed"] is None and row["ci_low"] is None


def test_rows_of_a_users_own_plugin_may_be_dicts():
    assert rows_of([("claim", {"claim_id": "a/b"})]) == [{"claim_id": "a/b"}]
