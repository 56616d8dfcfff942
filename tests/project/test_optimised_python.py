"""Under `python -O` and `-OO`, which strip assertions and docstrings, claims find and say the same."""

import json
import subprocess
import sys

import pytest

from tests.support.claim_projects import CLAIMS, EXPECTED, claimed, write


@pytest.mark.parametrize("level", ["1", "2"])
def test_claims_find_and_say_the_same(project, monkeypatch, level):
    monkeypatch.setenv("PYTHONOPTIMIZE", level)
    write(project, CLAIMS)
    command = [sys.executable, "-m", "pytest", "--report-dir", "report"]
    done = subprocess.run(command, cwd=project.path, capture_output=True, text=True)
    rows = json.loads((project.path / "report" / "claims.json").read_text())["rows"]
    assert done.returncode == 1
    assert [(row["claim_id"].removeprefix("demo/x/"), row["verdict"]) for row in rows] == [
        (name, verdict) for name, verdict, _ in EXPECTED
    ]
    said = {row["claim_id"].removeprefix("demo/x/"): row["statement"] for row in rows}
    assert said["holds"] == "Twos lie above one." and said["between[1-3]"] == "Twos lie between 1 and 3."
    assert said["always"] == "Whatever is drawn lies above minus one."


#: Mistakes of a claim's author, which the library must not answer with an AssertionError: that would be a finding.
MISTAKES = '''
from circuit_claims.cards.schema import PublishedTable
from circuit_claims.measure.agreement import beside, two_sweeps

def test_no_sweeps(expect):
    """Two means are compared as if they were sweeps."""
    expect(two_sweeps(batch(1.0), batch(1.0), "agreement", "estimate"), "made up").above(0)

def test_no_sweep(expect):
    """A mean is held against a table."""
    expect(beside(batch(1.0), PublishedTable("", (), (), (), "", None, "")), "made up").above(0)
'''


def test_a_mistake_in_a_claim_refutes_nothing(project):
    _, rows = claimed(project, MISTAKES)
    assert [row["verdict"] for row in rows] == ["invalid"] * 2
    assert all("TypeError: " in row["reason"] and "sweep" in row["reason"] for row in rows)
