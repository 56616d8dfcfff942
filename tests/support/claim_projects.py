"""Small projects of claims, run inside a test: what the tests of verdicts, rows and outcomes stand on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import circuit_claims.reports.render

# Imported here, since an inner run in this process forgets the modules that it was the first to import.
import circuit_claims.verdicts.expect  # noqa: F401

ROOT = Path(__file__).parents[2]

PLUGINS = 'pytest_plugins = ["circuit_claims.plugin"]\n'
HEAD = """
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuit_claims.cards.card import Card
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Samples
from circuit_claims.untested import Untested

BARE_CARD = Card("made-up", "", (), 1, 1, {}, {})
known_false = pytest.mark.xfail(strict=True, raises=AssertionError, reason="it was never so")

def sizes(*values, quantity="size", **more):
    return Samples(np.array(values, dtype=float), quantity, "units", clusters=range(len(values)), **more)

def batch(value, **more):
    return Measurement(lambda n: sizes(*[value] * n, prompts=[f"prompt of {value}"] * n, **more), prepend_bos=True)
"""


#: One claim of each way to end, where the order is the order of the rows below.
CLAIMS = '''
def test_holds(expect):
    """Twos lie above one."""
    expect(sizes(2, 2, 2), "made up").above(1)

def test_refuted(expect):
    """Twos lie above three."""
    expect(sizes(2, 2, 2, prompts=["a", "b", "c"]), "made up").above(3)

def test_inconclusive(expect):
    """Some lie above zero, some below."""
    expect(sizes(-1, 1, -1, 1.5), "made up").above(0)

def test_value_not_on_the_card(expect):
    """What no card says."""
    expect(sizes(2), "made up").near(BARE_CARD["missing"])

def test_raises_untested(expect):
    """What needs a thing that is not here."""
    raise Untested("there is no such thing here: bring one")

def test_crashes(expect):
    """What cannot be computed."""
    expect(sizes(1 // 0), "made up").above(0)

def test_not_a_number(expect):
    """What is not a number."""
    expect(sizes(1, float("nan")), "made up").above(0)

def test_says_nothing(expect):
    """What expects nothing."""
    sizes(1)

def test_bare_assertion():
    """What is asserted without more."""
    assert sizes(1).n == 2, "one is not two"

@known_false
def test_known_false(expect):
    """What is known to be false, and is."""
    expect(sizes(2, 2), "made up").above(3)

@known_false
def test_now_true(expect):
    """What is known to be false, and is true."""
    expect(sizes(2, 2), "made up").above(1)

def test_two_sentences(expect):
    """Twos lie between one and three."""
    expect(sizes(2, 2), "made up").above(1)
    expect(sizes(2, 2), "made up").below(3)

@pytest.mark.parametrize(("low", "high"), [(1, 3), (2.5, 3)])
def test_between(expect, low, high):
    """Twos lie between {low} and {high}."""
    expect(sizes(2, 2), "made up").between(low, high)

@given(x=st.integers(0, 10**6))
def test_always(expect, x):
    """Whatever is drawn lies above minus one."""
    expect(batch(float(x)), "made up").always_above(-1)

@given(x=st.integers(0, 10**6))
def test_not_always(expect, x):
    """Whatever is drawn leaves something of five."""
    expect(batch(5.0 - x), "made up").always_above(0)
'''

#: Claim, verdict, and the outcome in pytest's own words ("" where the row is not its claim's last).
EXPECTED = [
    ("holds", "holds", "passed"),
    ("refuted", "refuted", "failed"),
    ("inconclusive", "inconclusive", "skipped"),
    ("value_not_on_the_card", "untested", "skipped"),
    ("raises_untested", "untested", "skipped"),
    ("crashes", "invalid", "error"),
    ("not_a_number", "invalid", "error"),
    ("says_nothing", "invalid", "error"),
    ("bare_assertion", "refuted", "failed"),
    ("known_false", "known false", "xfailed"),
    ("now_true", "now true", "failed"),
    ("two_sentences", "holds", ""),
    ("two_sentences#2", "holds", "passed"),
    ("between[1-3]", "holds", "passed"),
    ("between[2.5-3]", "refuted", "failed"),
    ("always", "holds", "passed"),
    ("not_always", "refuted", "failed"),
]


@pytest.fixture
def same_profile() -> Iterator[None]:
    """An inner run in this process loads its own hypothesis profile: take it back."""
    name = settings.get_current_profile_name()
    yield
    settings.load_profile(name)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, same_profile: None) -> pytest.Pytester:
    """A project with the suite's plugins, and no claim so far."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeini("[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider --subject=mini")
    pytester.makeconftest(PLUGINS)
    return pytester


def write(project: pytest.Pytester, text: str, name: str = "claims/demo/test_x.py") -> None:
    """Write a file of claims."""
    path = project.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD + text, encoding="utf-8")


def run(project: pytest.Pytester, *arguments: str, folder: str = "report") -> tuple[pytest.RunResult, list[dict[str, Any]]]:
    """Run the project, and give back the result with the rows of its report (none where no report was written)."""
    result = project.runpytest_inprocess("--report-dir", folder, *arguments)
    path = project.path / folder / "claims.json"
    return result, json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []


def claimed(project: pytest.Pytester, text: str, *arguments: str) -> tuple[pytest.RunResult, list[dict[str, Any]]]:
    """Run these claims alone."""
    write(project, text)
    return run(project, *arguments)


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """The verdicts, in the order of the rows."""
    return [row["verdict"] for row in rows]
