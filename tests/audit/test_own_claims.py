"""The audit of anybody's claims: the one that cannot fail is named, and the others are not."""

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from circuit_claims.audit import own
from circuit_claims.audit.__main__ import main
from circuit_claims.audit.own import cannot_fail, conclusion, controls_of
from circuit_claims.audit.table import Audited
from tests.support.claim_runs import in_process
from tests.tasks.contrast.capitals import capitals

CLAIMS = '''
def test_the_answer_is_ahead(contrast_task, expect):
    """The right capital is clearly ahead of another one."""
    expect(contrast_task("pairs.csv").logit_difference(), source="mine").above(3)


def test_the_difference_is_some_number(contrast_task, expect):
    """The logit difference is above minus one thousand, as that of any model."""
    expect(contrast_task("pairs.csv").logit_difference(), source="mine").above(-1000)


def test_IO_is_ahead(ioi, expect):
    """IO is ahead of S by three logits."""
    expect(ioi.logit_difference(), source="mine").above(3)
'''


def folder_of_claims(folder: Path, claims: str = CLAIMS) -> Path:
    folder.mkdir()
    (folder / "test_mine.py").write_text(claims, encoding="utf-8")
    with (folder / "pairs.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["clean", "corrupted", "answer", "foil"])
        writer.writeheader()
        writer.writerows(capitals())
    return folder


@pytest.fixture
def controls_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_profile: None) -> None:
    """The run on the subject is made in a process of its own, as it is for users, and those on controls in the test's."""
    started = []

    def process(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if list(command[:3]) != [sys.executable, "-m", "pytest"]:
            return in_its_own(command, **options)
        started.append(command)
        if len(started) == 1:
            return in_its_own(command, **options)
        try:
            arguments = [*command[3:], "--import-mode=importlib", "--capture=sys"]
            return in_process(lambda: int(pytest.main(arguments)), tmp_path)
        finally:
            for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
                del sys.modules[name]

    in_its_own = subprocess.run
    monkeypatch.setattr(subprocess, "run", process)


@pytest.mark.usefixtures("controls_in_this_process")
def test_the_claim_that_cannot_fail_is_named(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of_claims(tmp_path / "mine")
    assert main(["mine", "--subject", "mini", "--prompts", "30", "--max-prompts", "30"]) == 1
    said = capsys.readouterr().out
    (named,) = (line for line in said.splitlines() if line.startswith("cannot fail: "))
    assert named.endswith(
        "the_difference_is_some_number: The logit difference is above minus one thousand, as that of any model."
    )
    audit = json.loads((tmp_path / "circuit-claims-audit" / "audit.json").read_text(encoding="utf-8"))
    claims = {claim["claim_id"].rpartition("/")[2]: claim for claim in audit["claims"]}
    assert audit["controls"] == ["random weights", "shuffled heads", "shuffled pairs"] and audit["not_run"] == {}
    assert claims["the_answer_is_ahead"]["verdicts"]["mini"] == "holds"
    assert claims["the_answer_is_ahead"]["verdicts"]["shuffled pairs"] == "refuted"
    assert claims["IO_is_ahead"]["verdicts"]["random weights"] == "refuted"
    assert "shuffled pairs" not in claims["IO_is_ahead"]["verdicts"], "answers of pairs say nothing of IOI"
    assert [claim["cannot_fail"] for claim in audit["claims"]] == [False, True, False]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "--subject", "mini"], "there is no nowhere"),
        (["here", "--subject", "mini", "--prompts", "5"], "--prompts must be at least 30"),
        (["here", "--subject", "mini"], "here has no claims"),
        (["here", "--subject", "./no-model"], "no-model"),
    ],
)
def test_what_cannot_be_audited_is_refused_in_one_sentence(tmp_path: Path, capsys, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    text = CLAIMS if "./no-model" in arguments else "def test_nothing():\n    pass\n"
    folder_of_claims(tmp_path / "here", text)
    assert main(arguments) == 2
    printed = [line for line in capsys.readouterr().err.splitlines() if not line.endswith(" ...")]
    assert said in printed[-1] and len(printed) == 1


@pytest.mark.parametrize(
    ("verdicts", "vacuous", "said"),
    [
        ({"m": "holds", "a": "holds", "b": "holds"}, True, "CANNOT FAIL"),
        ({"m": "holds", "a": "holds", "b": "untested"}, True, "CANNOT FAIL"),
        ({"m": "holds", "a": "holds", "b": "refuted"}, False, "can fail: refuted on b"),
        ({"m": "holds", "a": "inconclusive", "b": "holds"}, False, "not shown to fail"),
        ({"m": "holds", "a": "untested", "b": "untested"}, False, "not shown to fail"),
        ({"m": "refuted", "a": "refuted", "b": "holds"}, False, "refuted on a; refuted on the subject"),
        ({"m": "refuted", "a": "holds", "b": "holds"}, True, "CANNOT FAIL: holds on every control; refuted on the subject"),
    ],
)
def test_a_claim_cannot_fail_where_it_holds_on_every_control_that_ran_it(verdicts, vacuous: bool, said: str):
    claim = Audited("x", "y", verdicts)
    assert cannot_fail(claim, ["a", "b"]) is vacuous
    assert said in conclusion(claim, "m", ["a", "b"])


def test_a_control_has_no_control_but_its_pairs():
    assert [control.called for control in controls_of("planted")] == ["shuffled pairs"]
    assert [control.called for control in controls_of("mini")] == ["random weights", "shuffled heads", "shuffled pairs"]
    assert controls_of("./my-model")[0].arguments == ("--cc-subject", "random:./my-model")


def test_a_control_that_cannot_be_run_is_told_and_the_others_count(tmp_path: Path, capsys, monkeypatch):
    def ran(control, folder, args):
        folder.mkdir(parents=True, exist_ok=True)
        if control.called == "shuffled heads":
            return own.Ran([], "its heads cannot be told apart", missing=True)
        verdict = "holds" if control.called == "mini" else "refuted"
        return own.Ran([{"claim_id": "x", "statement": "y", "verdict": verdict}])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(own, "_run", ran)
    folder_of_claims(tmp_path / "mine")
    (tmp_path / "circuit-claims-audit").mkdir()
    assert main(["mine", "--subject", "mini"]) == 0
    assert "shuffled heads: could not be run (its heads cannot be told apart)" in capsys.readouterr().out


@pytest.mark.parametrize(("failure", "status"), [("", 0), ("it crashed", 1)])
def test_a_run_that_broke_off_is_no_clean_audit(tmp_path: Path, monkeypatch, failure: str, status: int):
    """A claim without a row on a control that ran is invalid there: neither untested nor true."""

    def ran(control, folder, args):
        folder.mkdir(parents=True, exist_ok=True)
        if control.called == "random weights":
            return own.Ran([], failure)
        verdict = "refuted" if failure and control.called != "mini" else "holds"
        return own.Ran([{"claim_id": "x", "statement": "y", "verdict": verdict}])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(own, "_run", ran)
    folder_of_claims(tmp_path / "mine")
    (tmp_path / "circuit-claims-audit").mkdir()
    assert main(["--subject", "mini", "mine"]) == status
    audit = json.loads((tmp_path / "circuit-claims-audit" / "audit.json").read_text(encoding="utf-8"))
    assert audit["claims"][0]["cannot_fail"] is False
    assert audit["claims"][0]["verdicts"].get("random weights") == (None if failure else "invalid")
