"""Under `python -O` and `-OO`, which strip assertions and docstrings, claims find and say the same."""

import json
import subprocess
import sys

import pytest

from tests.claim_projects import CLAIMS, EXPECTED, write


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
