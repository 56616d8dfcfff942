"""The control that finds its own card: a model that does not do the task refutes the story, whatever bounds it is given."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from circuit_claims.audit import __main__ as audit_command
from circuit_claims.audit.controls import BASES, OWN_CARD, WITH_KNOWN_TRUTH
from circuit_claims.audit.task import BOTH_NAMES_ALIKE, NOISE, PRESUPPOSES_IT, SAYS_SO_OF_NOISE, falls_with_the_task
from circuit_claims.audit.truth import truth
from circuit_claims.discovery.__main__ import main as discover
from circuit_claims.verdicts.rows import HOLDS, INCONCLUSIVE, REFUTED
from tests.support.claim_runs import in_process, run_pytest

LATEST = json.loads((Path(__file__).parents[2] / "fixtures/audit.json").read_text(encoding="utf-8"))
OWN = f"random:mini{OWN_CARD}"
MOST_HEADS = "ioi/name_movers/most_heads_recover_next_to_nothing"
MEAN = "ioi/behaviour/mean_logit_difference_is_as_published"


@pytest.fixture
def in_this_process(monkeypatch):
    """The audit's commands run here; that it starts processes of their own for them is tested in `tests.audit.test_audit`."""

    def run(command: list[str]) -> subprocess.CompletedProcess[str]:
        python, dash_m, module, *arguments = command
        assert (python, dash_m) == (sys.executable, "-m")
        return {"pytest": run_pytest, "circuit_claims.discovery": found}[module](*arguments)

    def found(*arguments: str) -> subprocess.CompletedProcess[str]:
        return in_process(lambda: discover(list(arguments)) or 0)

    monkeypatch.setattr(audit_command, "_alone", run)


def test_a_model_of_noise_with_its_own_card_refutes_the_story(tmp_path, capsys, in_this_process):
    """What repeats a number of its own card is not refuted; what presupposes the task is."""
    claims = "mean_logit_difference_is or ABC_prompts or most_heads_recover or second_IO_hurts"
    few = ["--prompts", "30", "--max-prompts", "96", "--runs", str(tmp_path)]
    audit_command.main(["--on", OWN, "-k", f"ioi and ({claims})", *few])
    verdicts = {claim: said[OWN] for claim, said in json.loads((tmp_path / "audit.json").read_text())["verdicts"].items()}
    story = {claim: verdict for claim, verdict in verdicts.items() if falls_with_the_task(claim, OWN)}
    assert len(story) == 3 and set(story.values()) == {REFUTED}
    assert verdicts[MEAN] in (HOLDS, INCONCLUSIVE) and not falls_with_the_task(MEAN, OWN)
    rows = json.loads((tmp_path / "random-mini-card-own" / "claims.json").read_text())["rows"]
    by_claim = {row["claim_id"]: row for row in rows}
    assert all("the model does not do the task" in by_claim[claim]["reason"] for claim in story)
    own = tomllib.loads((tmp_path / "random-mini-card-own" / "card.toml").read_text())["values"]["logit_difference"]
    assert by_claim[MEAN]["expected_low"] == pytest.approx(own["value"] - own["within"])
    assert f"{OWN}: discovery" in capsys.readouterr().err


def test_where_discovery_finds_no_card_the_audit_ends_with_its_words(tmp_path):
    with pytest.raises(SystemExit, match=r"own card of random:mini(.|\n)*at least 30"):
        audit_command.main(["--on", OWN, "--max-prompts", "4", "--runs", str(tmp_path)])


@pytest.mark.parametrize(
    ("claim", "subject", "expected"),
    [
        (MOST_HEADS, OWN, False),
        (MOST_HEADS, f"planted:without-S-inhibition{OWN_CARD}", False),
        (MOST_HEADS, "planted:without-S-inhibition", False),
        ("ioi/behaviour/IO_outranks_S_on_nearly_every_prompt", OWN, False),
        ("ioi/behaviour/IO_is_the_top_token_on_most_prompts", OWN, False),
        ("ioi/behaviour/IO_is_the_top_token_on_most_prompts", f"planted:without-S-inhibition{OWN_CARD}", None),
        # True of it, since the number is its own.
        (MEAN, OWN, None),
        ("ioi/early_heads/early_heads_look_where_they_should[induction]", OWN, None),
        ("ioi/early_heads/early_heads_look_where_they_should[induction]", "planted:without-S-inhibition", True),
    ],
)
def test_what_is_true_of_a_model_with_its_own_card(claim, subject, expected):
    assert truth(claim, subject) is expected


def test_models_that_do_the_task_are_not_spoken_of():
    does = [subject for base in BASES for subject in (base.subject, *base.controls)]
    does = [subject for subject in does if subject.removesuffix(OWN_CARD) not in (*NOISE, *BOTH_NAMES_ALIKE)]
    assert "shuffled:planted" in does and not [subject for subject in does if falls_with_the_task(MOST_HEADS, subject)]


def test_what_is_listed_is_there_and_the_controls_are_in_the_audit():
    for beginning in (*SAYS_SO_OF_NOISE, *PRESUPPOSES_IT):
        assert any(claim.startswith(beginning) for claim in LATEST["verdicts"]), beginning
    own = {control for base in BASES for control in base.controls if control.endswith(OWN_CARD)}
    assert own == {OWN, f"planted:without-S-inhibition{OWN_CARD}"} <= set(WITH_KNOWN_TRUTH)
