"""Which weights a claim without a model is put to, and what its rows say of them."""

import json
import os
from pathlib import Path

import pytest

from circuit_claims.subjects.find import find_folder
from tests.support.claim_projects import claimed, verdicts
from tests.support.tiny_weights import TWELVE, save_attention

CLAIMS = '''
def test_sweep(weights, expect):
    """Of so many heads, none is the last."""
    grid = weights.copying_sweep()
    expect(grid, "made up").top(grid.values[0].size - 1).contains(weights.card.heads("name mover"))

@pytest.mark.each_head("name mover")
def test_score(weights, expect, head):
    """{head} has a score."""
    expect(weights.best_copying_rank([head], "it"), "made up").between(1, 1000)

@pytest.mark.each_row("ov copying score")
def test_layer(weights, expect, row):
    """Layer {row} has published scores."""
    expect(weights.copying_difference(weights.card.table("ov copying score")), "made up").below(2.0)
'''


@pytest.fixture
def own(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """The project, and no GPT2_SMALL_DIR."""
    monkeypatch.delenv("GPT2_SMALL_DIR", raising=False)
    # Whatever this machine's cache holds, `auto` finds no GPT-2 there.
    monkeypatch.setattr("circuit_claims.subjects.find.cached", lambda name: None)
    return project


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Weights with as many layers and heads as GPT-2 small has."""
    return save_attention(tmp_path / "some-weights", shape=TWELVE)


def test_without_more_the_weights_are_the_subjects(own):
    result, rows = claimed(own, CLAIMS)
    assert {row["subject"] for row in rows if row["verdict"] == "holds"} == {"mini"}
    assert {row["weights_sha256"] for row in rows if row["verdict"] == "holds"} == {find_folder("mini").sha256()}
    assert verdicts(rows) == ["holds"] * 6 + ["untested"] and "or set GPT2_SMALL_DIR" in rows[-1]["reason"]
    result.assert_outcomes(passed=6, skipped=1)


def test_where_no_subject_is_named_the_folder_of_the_variable_stands_in(own, folder, monkeypatch):
    monkeypatch.setenv("GPT2_SMALL_DIR", str(folder))
    result, rows = claimed(own, CLAIMS, "--subject=auto")
    assert verdicts(rows) == ["holds"] * (1 + 3 + 12), "three name movers and twelve layers on the card of GPT-2 small"
    for row in rows:
        assert (row["subject"], row["weights_sha256"]) == ("some-weights", find_folder(str(folder)).sha256())
        assert (row["mode"], row["prepend_bos"]) == ("processed", None)
        assert row["ci_low"] == row["observed"] == row["ci_high"], "nothing was sampled"
    result.stdout.fnmatch_lines(
        ["subject: mini *", "claims of weights and tokenizer alone: GPT-2 small's own, from GPT2_SMALL_DIR"]
    )
    meta = json.loads((own.path / "report" / "claims.json").read_text())["meta"]
    assert (meta["subject"], meta["card"]) == ("some-weights", "gpt2-small"), "no other model had a part in this run"
    assert meta["weights_sha256"] == rows[0]["weights_sha256"]


def test_where_the_subject_has_a_part_in_the_run_the_report_is_its_own(own, folder, monkeypatch):
    monkeypatch.setenv("GPT2_SMALL_DIR", str(folder))
    claims = CLAIMS + "\ndef test_names(subject, expect):\n    expect(sizes(len(subject.names)), 'made up').above(8)\n"
    _, rows = claimed(own, claims, "--subject=auto", "-k", "sweep or names")
    assert [(row["subject"], row["verdict"]) for row in rows] == [("some-weights", "holds"), ("mini", "holds")]
    meta = json.loads((own.path / "report" / "claims.json").read_text())["meta"]
    assert meta["subject"] == "mini" and meta["weights_sha256"] == rows[1]["weights_sha256"]
    assert meta["weights_alone"] == {"subject": "some-weights", "sha256": rows[0]["weights_sha256"]}
    assert "demo · on some-weights, mini" not in (own.path / "report" / "report.md").read_text()


@pytest.mark.parametrize("options", [["--subject=mini"], ["--subject=auto", "--card=mini"]])
def test_a_subject_or_card_that_is_named_is_what_is_meant(own, folder, monkeypatch, options):
    monkeypatch.setenv("GPT2_SMALL_DIR", str(folder))
    _, rows = claimed(own, CLAIMS, "-k", "sweep", *options)
    assert [row["subject"] for row in rows] == ["mini"]


def test_a_checkpoint_of_ones_own_is_read_by_the_card_that_is_named(own, folder):
    _, rows = claimed(own, CLAIMS, "-k", "layer", f"--subject={folder}", "--card=gpt2-small")
    assert verdicts(rows) == ["holds"] * 12 and rows[0]["subject"] == "some-weights"


def test_a_variable_that_names_no_folder_is_a_usage_error(own, monkeypatch):
    monkeypatch.setenv("GPT2_SMALL_DIR", os.path.join("no", "such", "folder"))
    result, rows = claimed(own, CLAIMS, "--subject=auto")
    assert result.ret == pytest.ExitCode.USAGE_ERROR and rows == []
    result.stderr.fnmatch_lines(
        ["ERROR: GPT2_SMALL_DIR names no/such/folder, and there is no such folder: mend it, or unset it"]
    )


def test_a_variable_that_names_the_wrong_folder_is_one_too(own, monkeypatch, tmp_path):
    monkeypatch.setenv("GPT2_SMALL_DIR", str(tmp_path))
    result, _ = claimed(own, CLAIMS, "--subject=auto")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: GPT2_SMALL_DIR names *: * has no config.json: *"])


def test_it_is_of_no_concern_to_claims_that_ask_for_no_weights(own, monkeypatch):
    monkeypatch.setenv("GPT2_SMALL_DIR", "no such folder")
    _, rows = claimed(own, "def test_a(expect):\n    expect(sizes(2, 2), 'made up').above(1)\n", "--subject=auto")
    assert verdicts(rows) == ["holds"] and rows[0]["subject"] == "mini"


def test_another_architecture_is_untested_with_the_reason(own, folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))
    _, rows = claimed(own, CLAIMS, "-k", "sweep", f"--subject={folder}", "--card=gpt2-small")
    assert verdicts(rows) == ["untested"] and "some-weights is a llama: take a subject of GPT-2's" in rows[0]["reason"]


def test_weights_that_are_not_whole_are_invalid_and_say_so(own, tmp_path):
    folder = save_attention(tmp_path / "half", lambda found: dict(list(found.items())[:-3]), shape=TWELVE)
    _, rows = claimed(own, CLAIMS, "-k", "sweep", f"--subject={folder}", "--card=gpt2-small")
    assert verdicts(rows) == ["invalid"] and "lack h.11.attn" in rows[0]["reason"]


def test_a_card_of_another_shape_is_said(own, tmp_path):
    folder = save_attention(tmp_path / "small")
    _, rows = claimed(own, CLAIMS, "-k", "sweep", f"--subject={folder}", "--card=gpt2-small")
    assert verdicts(rows) == ["invalid"] and "is of 12 layers and 12 heads, and small has 3 and 4" in rows[0]["reason"]
