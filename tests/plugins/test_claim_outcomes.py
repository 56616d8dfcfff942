"""What becomes of a claim: its verdict, its row and pytest's outcome agree, whatever way the claim ends."""

import os
import subprocess
import sys

import pytest

from tests.support.claim_projects import CLAIMS, EXPECTED, ROOT, claimed, run, verdicts, write
from tests.support.tiny_models import save_tiny_card

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


# What a row says.


def test_a_row_says_what_was_claimed_of_what_and_what_was_found(project):
    _, [row] = claimed(
        project,
        'def test_big(expect):\n    """Sizes are big.\n\n    More."""\n'
        '    expect(sizes(4, 4, 4), "a paper", because="a word").above(2)\n',
        "--seed=3",
        "--weights=raw",
        "--bos=no",
    )
    said = {
        "claim_id": "demo/x/big",
        "chapter": "demo",
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
    assert row["reason"].startswith("size is 1 [") and row["reason"].endswith("expected above 3")
    assert row["counterexample"] == {"prompt": "r", "value": 0.5}
    assert row["margin"] < 0
    result.stdout.fnmatch_lines(["refuted: size is 1 *expected above 3", "prompt: r"])


def test_an_inconclusive_claim_says_how_many_prompts_would_decide_it(project):
    text = "def test_a(expect):\n    drawn = lambda n: sizes(*[-1, 1, -1, 1.5] * (n // 4))\n"
    text += "    expect(Measurement(drawn, prepend_bos=True)).above(0)\n"
    result, [row] = claimed(project, text, "--prompts=32", "--max-prompts=32", "-rs")
    assert row["reason"].startswith("the interval straddles the bound after 32 prompts: about ")
    assert row["ci_low"] < 0 < row["ci_high"]
    result.stdout.fnmatch_lines(["SKIPPED * inconclusive: *would decide it (--max-prompts)"])
    assert result.ret == pytest.ExitCode.OK


def test_an_inconclusive_claim_on_all_that_there_are_advises_no_more(project):
    result, [row] = claimed(project, CLAIMS, "-k", "inconclusive", "-rs")
    assert row["reason"].startswith("the interval straddles the bound after all 4 that there are")
    assert "--max-prompts" not in row["reason"] and row["ci_low"] < 0 < row["ci_high"]
    result.stdout.fnmatch_lines(["SKIPPED * inconclusive: *no more of them to decide it"])
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
    write(project, "def test_a(request):\n    request.getfixturevalue('expect')(sizes(2, 2)).above(1)\n", "tests/test_a.py")
    result, rows = run(project)
    assert not rows
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*expect() was called outside a claim: let the claim take it as an argument, or mark it*"])


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
