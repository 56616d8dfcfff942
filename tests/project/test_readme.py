"""The README's promises that can be run."""

import json
import re
from pathlib import Path

import pytest

from tests.support.claim_runs import run_pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def example() -> str:
    """The complete claim in the section "Add a claim"."""
    section = README[README.index("## Add a claim") :]
    return re.search(r"```python\n(.*?)```", section, re.S)[1]


def test_the_example_claim_is_under_ten_lines():
    assert len(example().strip().splitlines()) < 10


def test_the_example_claim_runs_and_has_its_row(pytester: pytest.Pytester, same_profile: None):
    folder = pytester.mkdir("claims") / "ioi"
    folder.mkdir()
    (folder / "test_mine.py").write_text(example(), encoding="utf-8")
    pytester.makeconftest((ROOT / "conftest.py").read_text(encoding="utf-8"))
    pytester.makepyprojecttoml((ROOT / "pyproject.toml").read_text(encoding="utf-8").replace('["."]', f'["{ROOT}"]'))
    result = pytester.runpytest_inprocess("claims", "--subject", "mini", "-k", "one_name_mover", "--report-dir", "out")
    assert result.ret == 0, result.stdout.str()
    (row,) = json.loads((pytester.path / "out" / "claims.json").read_text(encoding="utf-8"))["rows"]
    assert row["verdict"] == "holds"
    assert row["claim_id"] == "ioi/mine/one_name_mover_can_be_spared"
    assert row["statement"].startswith("Without its first name mover")
    assert row["source"] == "my notebook, 21 November"
    assert row["n"] >= 30 and row["ci_low"] < row["observed"] < row["ci_high"]


def test_every_file_that_the_readme_names_exists():
    for path in re.findall(r"`((?:claims|fixtures|reports|tests|training|docs)/[\w./-]+)`", README):
        if not path.startswith("reports/out") and path != "claims/ioi/test_mine.py":
            assert (ROOT / path).exists(), path
    for path in re.findall(r"\]\(((?!http)[\w./-]+)\)", README):
        assert (ROOT / path).exists(), path


def test_every_option_that_the_readme_names_is_one(capsys: pytest.CaptureFixture[str]):
    from circuit_claims import cli

    helped = run_pytest("--help").stdout
    for command in ("train-sae", "audit", "discover"):
        with pytest.raises(SystemExit):
            cli.app([command, "--help"], prog_name="circuit-claims")
        helped += capsys.readouterr().out
    for option in set(re.findall(r"`(--[a-z-]+)", README)):
        assert option in helped, option


def test_every_expectation_that_the_readme_names_exists():
    """What can be measured is run, call by call, in tests/tasks/test_advertised_calls.py."""
    from circuit_claims.verdicts.expect import Expectation

    section = README[README.index("- **What can be expected**") : README.index("- **Coordinates and numbers")]
    names = set(re.findall(r"\.([a-z_]+)\(", section))
    assert len(names) >= 10
    for name in names - {"contains"}:
        assert hasattr(Expectation, name), name


def test_every_claim_of_the_coverage_table_exists():
    section = README[README.index("## What the suite covers") : README.index("## Use your own model")]
    named = re.findall(r"`(?:(\w+)/)?(test_\w+\.py)::(test_\w+)(?:\[[^`]*\])?`", section)
    folders = {path.name for path in (ROOT / "claims").iterdir() if list(path.glob("test_*.py"))}
    assert len(named) > 150 and {folder or "ioi" for folder, _, _ in named} - {"tests"} == folders
    for folder, file, test in named:
        path = ROOT / "tests" / file if folder == "tests" else ROOT / "claims" / (folder or "ioi") / file
        assert f"def {test}(" in path.read_text(encoding="utf-8"), f"{file}::{test}"


def test_the_coverage_table_has_every_number_of_the_catalogue():
    rows = re.findall(r"^\| (IOI-\d\d) \|", README, re.M)
    assert rows == [f"IOI-{i:02d}" for i in (*range(1, 23), *range(30, 38))]
    others = {"TLM": 33, "ARE": 7, "IND": 6, "GT": 8, "CS": 8, "SUC": 9, "SAE": 11}
    first_cells = " ".join(re.findall(r"^\| ([^|]*) \|", README, re.M))
    for prefix, last in others.items():
        there = set(re.findall(rf"{prefix}-\d\d", first_cells))
        assert there >= {f"{prefix}-{i:02d}" for i in range(1, last + 1)}, prefix
    assert {"S0", "S1", "S2", "S3", "S4"} <= set(re.findall(r"S\d", first_cells))


def test_the_statistical_test_that_the_readme_shows_runs(mini):
    """On mini, whose circuit is known to fall short of the model on nearly every prompt."""
    from circuit_claims.measure.circuit_tests import equivalence
    from circuit_claims.prompts.ioi import Population
    from circuit_claims.tasks.ioi.task import IOI

    (shown,) = re.findall(r"`(equivalence\(.+\)\.reject)`", README)
    ioi = IOI(subject=mini, seed=0, chunk=40, population=Population(), prepend_bos=False)
    assert eval(shown, {"equivalence": equivalence, "ioi": ioi, "card": mini.card}) is True
    assert (
        eval(
            shown.replace("ioi.circuit(card.nodes()).value()", "ioi.logit_difference()"),
            {"equivalence": equivalence, "ioi": ioi},
        )
        is False
    )
