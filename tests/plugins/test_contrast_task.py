"""Pairs of one's own in a project of claims: the fixture, what it refuses, and the control that a true claim fails under."""

import csv
import json

import pytest

from tests.tasks.contrast.capitals import capitals

CLAIM = '''
def test_capitals_are_known(contrast_task, expect):
    """The right capital is clearly ahead of another one."""
    expect(contrast_task("pairs.csv").logit_difference(), source="mine").above(3)
'''


def run(pytester: pytest.Pytester, claim: str, *arguments: str, content: str | None = None):
    """Run a claim that lies beside pairs.csv, and give the result with the rows."""
    pytester.makeconftest('pytest_plugins = ["circuit_claims.plugin"]\n')
    folder = pytester.mkdir("mine")
    (folder / "test_mine.py").write_text(claim, encoding="utf-8")
    with (folder / "pairs.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["clean", "corrupted", "answer", "foil"])
        writer.writeheader()
        writer.writerows(capitals())
    if content is not None:
        (folder / "pairs.csv").write_text(content, encoding="utf-8")
    options = ("--subject", "mini", "--report-dir", "out", "-p", "no:cacheprovider")
    result = pytester.runpytest_subprocess("mine", *options, *arguments)
    return result, json.loads((pytester.path / "out" / "claims.json").read_text(encoding="utf-8"))["rows"]


def test_a_claim_reads_the_pairs_beside_it(pytester):
    result, (row, half) = run(
        pytester,
        CLAIM
        + f'''
def test_half(contrast_task, expect):
    """A list in the claim, one half of it, another metric."""
    task = contrast_task({capitals()!r}, half="verdict", metric="probability")
    expect(task.baseline(), source="mine").above(0.5)
''',
    )
    assert result.ret == 0 and row["verdict"] == half["verdict"] == "holds"
    assert (row["n"], row["unit"], half["n"], half["unit"]) == (46, "logits", 23, "probability")


@pytest.mark.parametrize("option", ["--shuffle-pairs", "--cc-shuffle-pairs"])
def test_a_true_claim_turns_false_where_answers_are_dealt_out_anew(pytester, option):
    result, (row,) = run(pytester, CLAIM, option)
    assert row["verdict"] == "refuted" and result.ret == 1
    assert row["quantity"] == "logit difference, answers dealt out anew among pairs of other clusters"
    assert row["counterexample"]["population"].startswith("46 pairs of pairs.csv, answers dealt out anew")
    result.stdout.fnmatch_lines(["*a control: the answers of pairs of your own are dealt out anew*"])


def test_what_is_wrong_with_the_pairs_is_one_sentence(pytester):
    result, (row,) = run(pytester, CLAIM, content="clean,corrupted,answer\na b,a c,d\n")
    assert row["verdict"] == "invalid" and row["reason"].startswith("pairs.csv has no column 'foil' (its columns: ")
    assert "Traceback" not in result.stdout.str() and "contrasts.py" not in result.stdout.str()
