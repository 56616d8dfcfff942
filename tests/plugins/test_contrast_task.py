"""Pairs of one's own in a project of claims: the fixture, what it refuses, and the control that a true claim fails under."""

import csv
import io
import re

import numpy as np
import pytest

from circuit_claims.heads import Head
from tests.docs.pages import PAGES, blocks, page, section
from tests.support import claim_projects
from tests.tasks.contrast.capitals import capitals, task

CLAIM = '''
def test_capitals_are_known(contrast_task, expect):
    """The right capital is clearly ahead of another one."""
    expect(contrast_task("pairs.csv").logit_difference(), source="mine").above(3)
'''


def run(project: pytest.Pytester, claim: str, *arguments: str, content: str | None = None):
    """Run a claim that lies beside pairs.csv, and give the result with the rows."""
    folder = project.mkdir("mine")
    (folder / "test_mine.py").write_text(claim, encoding="utf-8")
    with (folder / "pairs.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["clean", "corrupted", "answer", "foil"])
        writer.writeheader()
        writer.writerows(capitals())
    if content is not None:
        (folder / "pairs.csv").write_text(content, encoding="utf-8")
    return claim_projects.run(project, "mine", *arguments)


def test_a_claim_reads_the_pairs_beside_it(project):
    result, (row, half) = run(
        project,
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
def test_a_true_claim_turns_false_where_answers_are_dealt_out_anew(project, option):
    result, (row,) = run(project, CLAIM, option)
    assert row["verdict"] == "refuted" and result.ret == 1
    assert row["quantity"] == "logit difference, answers dealt out anew among pairs of other clusters"
    assert row["counterexample"]["population"].startswith("46 pairs of pairs.csv, answers dealt out anew")
    result.stdout.fnmatch_lines(["*a control: the answers of pairs of your own are dealt out anew*"])


def test_the_claim_on_pairs_that_the_readme_shows_holds(project):
    """On all capitals that mini knows: the README has one line of them."""
    (claim,) = blocks(section(PAGES["README.md"], "Your own behaviour"), "python")
    result, (row,) = run(project, claim.replace("capitals.csv", "pairs.csv"))
    assert claim.count("capitals.csv") == 1 and result.ret == 0 and row["verdict"] == "holds"


def test_the_tutorial_on_pairs_can_be_followed_to_the_letter(project):
    text = page("tutorial/own-behaviour.md")
    (claim,), (pairs,) = blocks(text, "python"), blocks(text, "csv")
    result, (row,) = run(project, claim.replace("capitals.csv", "pairs.csv"), content=pairs)
    assert result.ret == 0 and row["verdict"] == "holds" and row["n"] == 12


def test_what_is_wrong_with_the_pairs_is_one_sentence(project):
    result, (row,) = run(project, CLAIM, content="clean,corrupted,answer\na b,a c,d\n")
    assert row["verdict"] == "invalid" and row["reason"].startswith("pairs.csv has no column 'foil' (its columns: ")
    assert "Traceback" not in result.stdout.str() and "contrasts.py" not in result.stdout.str()


def test_the_calls_that_the_documentation_shows_are_there(mini):
    """Each is made on its pairs and taken; a call in a backquote begins with a dot or with the fixture."""
    text = page("how-to/pairs.md")
    (pair,) = csv.DictReader(io.StringIO(blocks(text, "csv")[0]))
    known = {row["clean"]: row["answer"] for row in capitals()}
    assert (known[pair["clean"]], known[pair["corrupted"]]) == (pair["answer"], pair["foil"])
    calls = re.findall(r"`(?:contrast_task\(\"capitals.csv\"\))?(\.\w+\(.*?)`", text)
    assert len(calls) == 10
    given = {"task": task(mini), "heads": [Head(0, 6)], "nodes": [(Head(0, 6), "END")]}
    for call in calls:
        measured = eval(f"task{call}", given)  # what the page says, and nothing else
        if call == ".direct_attribution()":
            measured = measured.heads()
        if call == ".probes()":
            continue
        assert np.isfinite(measured.take(8).estimate).all(), call
