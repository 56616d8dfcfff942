"""What becomes of a claim: its verdict, its row and pytest's outcome agree, whatever way the claim ends."""

import ast
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Imported here, since an inner run in this process forgets the modules that it was the first to import.
import fixtures.expect  # noqa: F401
import reports.render  # noqa: F401
from tests.tiny_models import save_tiny_card

ROOT = Path(__file__).parents[1]

PLUGINS = 'pytest_plugins = ["fixtures.options", "fixtures.subject_under_test", "fixtures.claiming", "reports.plugin"]\n'
HEAD = """
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.card import Card
from fixtures.measurement import Measurement
from fixtures.samples import Samples
from fixtures.untested import Untested

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


@pytest.fixture(autouse=True)
def same_profile() -> Iterator[None]:
    """An inner run in this process loads its own hypothesis profile: take it back."""
    name = settings.get_current_profile_name()
    yield
    settings.load_profile(name)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
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


# All ways to end, in one run.


def test_every_way_to_end_has_its_verdict_and_its_outcome(project):
    result, rows = claimed(project, CLAIMS)
    assert [(row["claim_id"], row["verdict"]) for row in rows] == [(f"demo/x/{name}", verdict) for name, verdict, _ in EXPECTED]
    outcomes = [outcome for *_, outcome in EXPECTED if outcome]
    counts = {outcome: outcomes.count(outcome) for outcome in ("passed", "failed", "skipped", "xfailed")}
    result.assert_outcomes(errors=outcomes.count("error"), **counts)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_two_processes_give_the_rows_of_one(project):
    write(project, CLAIMS)
    write(project, CLAIMS, "claims/other/test_y.py")
    one = run(project, folder="one")[1]
    two = run(project, "-n", "2", folder="two")[1]
    both = [sorted(rows, key=lambda row: row["claim_id"]) for rows in (one, two)]
    for rows in both:
        for row in rows:
            assert row.pop("duration_s") >= 0
    assert len(both[0]) == 2 * len(EXPECTED) and both[0] == both[1]


def test_the_junit_file_has_every_row_once_with_its_claim(project):
    _, rows = claimed(project, CLAIMS, "--junitxml=junit.xml")
    found = {}
    for case in ElementTree.parse(project.path / "junit.xml").iter("testcase"):
        values = [entry.get("value") for entry in case.iter("property") if entry.get("name") == "claim"]
        found[case.get("name")] = [ast.literal_eval(value)["verdict"] for value in values]
    expected: dict[str, list[str]] = {}
    for row in rows:
        expected.setdefault("test_" + row["claim_id"].split("/")[-1].partition("#")[0], []).append(row["verdict"])
    assert found == expected


# What a row says.


def test_a_row_says_what_was_claimed_of_what_and_what_was_found(project):
    _, [row] = claimed(
        project,
        'def test_big(expect):\n    """Sizes are big.\n\n    More."""\n'
        '    expect(sizes(4, 4, 4), "a paper", because="a word").above(2)\n',
        "--seed=3",
        "--weights=raw",
    )
    said = {
        "claim_id": "demo/x/big",
        "circuit": "demo",
        "statement": "Sizes are big.",
        "subject": "mini",
        "mode": "raw",
        "prepend_bos": False,
        "seed": 3,
        "profile": "default",
        "kind": "magnitude",
        "quantity": "size",
        "unit": "units",
        "op": ">",
        "expected_low": 2.0,
        "expected_high": None,
        "observed": 4.0,
        "ci_low": 4.0,
        "ci_high": 4.0,
        "n": 3,
        "margin": 1.0,
        "verdict": "holds",
        "source": "a paper; the bound: a word",
    }
    assert {key: row[key] for key in said} == said
    assert row["duration_s"] > 0


def test_the_statement_is_the_first_line_of_the_docstring_with_the_parameters_filled_in(project):
    _, rows = claimed(project, CLAIMS, "-k", "between or says_nothing")
    assert [row["statement"] for row in rows] == [
        "What expects nothing.",
        "Twos lie between 1 and 3.",
        "Twos lie between 2.5 and 3.",
    ]


def test_without_a_docstring_the_statement_is_the_name(project):
    _, [row] = claimed(project, "def test_twos_are_big(expect):\n    expect(sizes(2, 2)).above(1)\n")
    assert row["statement"] == "twos are big"


def test_a_refuted_claim_says_what_was_found_and_what_expected_and_on_which_prompt(project):
    text = 'def test_a(expect):\n    expect(sizes(1, 1.5, 0.5, prompts=["p", "q", "r"])).above(3)\n'
    result, [row] = claimed(project, text)
    assert row["reason"].startswith("size is 1 [0.") and row["reason"].endswith("expected above 3")
    assert row["counterexample"] == {"prompt": "r", "value": 0.5}
    assert row["margin"] < 0
    result.stdout.fnmatch_lines(["refuted: size is 1 *expected above 3", "prompt: r"])


def test_an_inconclusive_claim_says_how_many_prompts_would_decide_it(project):
    result, [row] = claimed(project, CLAIMS, "-k", "inconclusive", "-rs")
    assert row["reason"].startswith("the interval straddles the bound after 4 prompts: about ")
    assert row["ci_low"] < 0 < row["ci_high"]
    result.stdout.fnmatch_lines(["SKIPPED * inconclusive: *would decide it (--max-prompts)"])
    assert result.ret == pytest.ExitCode.OK


def test_an_untested_claim_says_what_to_do(project):
    result, rows = claimed(project, CLAIMS, "-k", "card or untested", "-rs")
    assert [row["reason"] for row in rows] == [
        "the card 'made-up' has no value 'missing': add [values.missing] with its source",
        "there is no such thing here: bring one",
    ]
    result.stdout.fnmatch_lines(["SKIPPED * the card 'made-up' has no value 'missing': add *", "SKIPPED *: bring one"])
    assert result.ret == pytest.ExitCode.OK


def test_an_invalid_claim_says_what_went_wrong(project):
    _, rows = claimed(project, CLAIMS, "-k", "crashes or not_a_number or says_nothing")
    assert [row["reason"] for row in rows] == [
        "ZeroDivisionError: integer division or modulo by zero",
        "FloatingPointError: size is NaN or infinite on 1 of 2 prompts",
        "this claim ended without expecting anything: end it with expect(...)",
    ]


def test_a_bare_assertion_gives_its_message_as_the_reason(project):
    _, [row] = claimed(project, CLAIMS, "-k", "bare_assertion")
    assert row["verdict"] == "refuted" and row["reason"].startswith("one is not two")


# What is known to be false.


def test_a_claim_that_is_known_to_be_false_says_why_and_does_not_fail_the_run(project):
    result, [row] = claimed(project, CLAIMS, "-k", "known_false")
    assert row["verdict"] == "known false" and row["reason"].endswith("known: it was never so")
    assert result.ret == pytest.ExitCode.OK


def test_a_claim_known_to_be_false_that_holds_fails_the_run_and_is_called_now_true(project):
    result, [row] = claimed(project, CLAIMS, "-k", "now_true")
    assert row["verdict"] == "now true" and result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*XPASS(strict)*it was never so*", "*now true*"])


@pytest.mark.parametrize(
    ("body", "verdict", "outcomes"),
    [
        ("expect(sizes(-1, 1, -1, 1.5)).above(0)", "inconclusive", {"skipped": 1}),
        ('BARE_CARD.heads("nobody")', "untested", {"skipped": 1}),
        ("1 // 0", "invalid", {"errors": 1}),
        ("pass", "invalid", {"errors": 1}),
    ],
    ids=["inconclusive", "untested", "crashes", "says nothing"],
)
def test_known_to_be_false_excuses_a_refutation_alone(project, body, verdict, outcomes):
    result, rows = claimed(project, f"@known_false\ndef test_a(expect):\n    {body}\n")
    assert verdicts(rows) == [verdict]
    result.assert_outcomes(**outcomes)


def test_the_part_that_holds_of_a_claim_known_to_be_false_is_not_called_now_true(project):
    text = "@known_false\ndef test_a(expect):\n    expect(sizes(2, 2)).above(1)\n    expect(sizes(2, 2)).above(3)\n"
    result, rows = claimed(project, text)
    assert verdicts(rows) == ["holds", "known false"]
    result.assert_outcomes(xfailed=1)


def test_what_the_card_calls_known_false_is_an_expected_refutation(project):
    more = '[known_false]\n"demo/x/refuted" = "the model is too small"'
    card = save_tiny_card(project.path / "card.toml", n_layer=2, n_head=2, more=more)
    result, rows = claimed(project, CLAIMS, "-k", "holds or refuted", f"--card={card}")
    assert verdicts(rows) == ["holds", "known false"] and rows[1]["reason"].endswith("known: the model is too small")
    result.assert_outcomes(passed=1, xfailed=1, deselected=len(EXPECTED) - 3)


# Universal claims: many examples, one row.


@pytest.mark.parametrize(("profile", "examples"), [("fast", 3), ("default", 15)])
def test_a_universal_claim_that_holds_has_one_row_that_counts_all_prompts(project, profile, examples):
    _, [row] = claimed(project, CLAIMS, "-k", "test_always", f"--hypothesis-profile={profile}")
    assert (row["verdict"], row["kind"], row["op"], row["profile"]) == ("holds", "universal", "always >", profile)
    assert row["n"] == examples * 16
    assert row["prepend_bos"] is True, "the measurement's, not the command line's"
    assert row["ci_low"] == row["observed"] <= row["ci_high"], "from the lowest population to the highest; the worst is shown"


def test_a_universal_claim_that_fails_has_one_row_with_the_smallest_counterexample(project):
    result, [row] = claimed(project, CLAIMS, "-k", "not_always")
    assert row["verdict"] == "refuted" and row["n"] > 0 and row["n"] % 16 == 0
    assert row["counterexample"] == {"prompt": "prompt of -1.0", "value": -1.0, "batch_mean": -1.0}
    assert row["reason"] == "size is -1 on average over 16 prompts of one population, expected above 0 on every one"
    assert row["ci_low"] < 0 and row["margin"] < 0
    result.assert_outcomes(failed=1, deselected=len(EXPECTED) - 2)


UNIVERSAL = "@given(x=st.integers(0, 10**6))\ndef test_a(expect, x):\n"


def test_of_two_universal_sentences_the_first_can_be_refuted_without_a_third_row(project):
    text = UNIVERSAL + "    expect(batch(5.0 - x)).always_above(0)\n    expect(batch(1.0, quantity='other')).always_above(0)\n"
    _, rows = claimed(project, text)
    assert [(row["claim_id"], row["quantity"], row["verdict"]) for row in rows] == [
        ("demo/x/a", "size", "refuted"),
        ("demo/x/a#2", "other", "holds"),
    ]


def test_a_universal_claim_that_is_known_to_be_false_is_expected_to_fail(project):
    result, rows = claimed(project, "@known_false\n" + UNIVERSAL + "    expect(batch(5.0 - x)).always_above(0)\n")
    assert verdicts(rows) == ["known false"]
    result.assert_outcomes(xfailed=1)


def test_a_universal_claim_that_asks_for_what_is_missing_is_untested(project):
    result, rows = claimed(project, UNIVERSAL + "    expect(batch(1.0)).always_above(BARE_CARD['missing'])\n")
    assert verdicts(rows) == ["untested"]
    result.assert_outcomes(skipped=1)


@pytest.mark.parametrize("crash", ["1 // (x < 6)", "sizes(1.0 if x < 6 else float('nan'))"], ids=["exception", "nan"])
def test_a_universal_claim_of_which_an_example_crashes_is_invalid_and_does_not_hold(project, crash):
    result, rows = claimed(project, UNIVERSAL + f"    expect(batch(1.0)).always_above(0)\n    {crash}\n")
    assert set(verdicts(rows)) == {"invalid"}
    result.assert_outcomes(errors=1)


def test_a_universal_claim_that_expects_nothing_is_invalid(project):
    result, rows = claimed(project, UNIVERSAL + "    pass\n")
    assert verdicts(rows) == ["invalid"]
    result.assert_outcomes(errors=1)


# Several sentences in one claim.


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        ("expect(sizes(2, 2)).below(3)", ["holds", "holds"]),
        ("expect(sizes(2, 2)).above(3)", ["holds", "refuted"]),
        ("1 // 0", ["holds", "invalid"]),
        ("assert not expect", ["holds", "refuted"]),
        ("BARE_CARD['missing']", ["holds", "untested"]),
    ],
    ids=["holds", "refuted", "crashes", "bare assertion", "untested"],
)
def test_what_follows_a_sentence_that_holds_has_a_row_with_an_id_of_its_own(project, then, expected):
    _, rows = claimed(project, f"def test_a(expect):\n    expect(sizes(2, 2)).above(1)\n    {then}\n")
    assert verdicts(rows) == expected
    assert [row["claim_id"] for row in rows] == ["demo/x/a", "demo/x/a#2"]


@pytest.mark.parametrize(
    ("first", "second", "outcomes"),
    [
        ("sizes(2, 2)", "sizes(-1, 1, -1, 1.5)", {"skipped": 1}),
        ("sizes(-1, 1, -1, 1.5)", "sizes(2, 2)", {"skipped": 1}),
        ("sizes(-1, 1, -1, 1.5)", "sizes(-2, -2)", {"failed": 1}),
    ],
    ids=["holds, inconclusive", "inconclusive, holds", "inconclusive, refuted"],
)
def test_the_weaker_of_two_verdicts_is_the_outcome(project, first, second, outcomes):
    text = f"def test_a(expect):\n    expect({first}).above(0)\n    expect({second}).above(0)\n"
    result, rows = claimed(project, text)
    assert len(rows) == 2
    result.assert_outcomes(**outcomes)


def test_a_claim_that_catches_its_own_refutation_fails_all_the_same(project):
    text = "def test_a(expect):\n    with pytest.raises(AssertionError):\n        expect(sizes(2, 2)).above(3)\n"
    result, rows = claimed(project, text)
    assert verdicts(rows) == ["refuted"]
    result.assert_outcomes(failed=1)


def test_claims_of_one_name_in_two_classes_have_different_ids(project):
    text = "".join(f"class Test{name}:\n    def test_a(self, expect):\n        expect(sizes(2, 2)).above(1)\n" for name in "AB")
    _, rows = claimed(project, text)
    assert len(rows) == 2 and rows[0]["claim_id"] != rows[1]["claim_id"]


# What goes wrong around a claim says nothing about it.


@pytest.mark.parametrize("fault", ["1 // 0", "assert False"], ids=["exception", "assertion"])
def test_a_fixture_that_fails_makes_a_claim_invalid_and_does_not_refute_it(project, fault):
    text = f"@pytest.fixture\ndef broken():\n    {fault}\n\ndef test_a(broken, expect):\n    expect(sizes(2, 2)).above(1)\n"
    result, rows = claimed(project, text)
    assert verdicts(rows) == ["invalid"]
    result.assert_outcomes(errors=1)


@pytest.mark.parametrize("fault", ["1 // 0", "assert False"], ids=["exception", "assertion"])
def test_a_fixture_that_fails_afterwards_leaves_the_verdict_and_adds_an_invalid_row(project, fault):
    text = f"@pytest.fixture\ndef broken():\n    yield\n    {fault}\n\n"
    result, rows = claimed(project, text + "def test_a(broken, expect):\n    expect(sizes(2, 2)).above(1)\n")
    assert verdicts(rows) == ["holds", "invalid"]
    assert rows[0]["claim_id"] != rows[1]["claim_id"]
    result.assert_outcomes(passed=1, errors=1)


def test_a_fixture_that_finds_something_missing_makes_a_claim_untested(project):
    text = "@pytest.fixture\ndef movers():\n    return BARE_CARD.heads('name mover')\n\ndef test_a(movers):\n    pass\n"
    result, [row] = claimed(project, text)
    assert row["verdict"] == "untested" and "add [families.name_mover]" in row["reason"]
    result.assert_outcomes(skipped=1)


def test_expect_outside_of_claims_says_where_claims_belong(project):
    write(project, "def test_a(expect):\n    expect(sizes(2, 2)).above(1)\n", "tests/test_a.py")
    result, rows = run(project)
    assert not rows
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*expect() was called outside a claim: put the test below claims/"])


# One claim for each head of a family.

EACH_HEAD = '''
@pytest.mark.each_head("{family}")
def test_head(expect, head):
    """{{head}} is one."""
    expect(sizes(2, 2)).above(1)
'''


def test_each_head_of_a_family_is_a_claim(project):
    card = save_tiny_card(project.path / "card.toml", n_layer=3, n_head=4)
    _, [row] = claimed(project, EACH_HEAD.format(family="name mover"), f"--card={card}")
    assert (row["claim_id"], row["statement"], row["verdict"]) == ("demo/x/head[L2H3]", "L2H3 is one.", "holds")


def test_a_family_that_the_card_has_not_is_one_untested_claim(project):
    card = save_tiny_card(project.path / "card.toml", n_layer=3, n_head=4)
    result, [row] = claimed(project, EACH_HEAD.format(family="nobody"), f"--card={card}")
    assert row["verdict"] == "untested" and "names no 'nobody' heads" in row["reason"]
    result.assert_outcomes(skipped=1)


# Collecting.

COLLECT = """
import sys
import pytest
code = pytest.main(["--collect-only", "-p", "no:cacheprovider", "--subject=mini", "claims"])
print("imported:", sorted({"torch", "transformer_lens", "transformers"} & set(sys.modules)))
sys.exit(code)
"""


def test_collecting_prints_what_the_claims_say_and_imports_no_model_code():
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COV_"))}
    environment |= {"HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    command = [sys.executable, "-c", COLLECT]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "  IO outranks S on average in every template, order, neutral prefix and choice of names." in done.stdout
    assert "imported: []" in done.stdout.splitlines()
