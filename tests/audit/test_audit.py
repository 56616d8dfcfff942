"""The audit: a claim that no control refutes is found, and verdicts on models whose truth is known are right."""

import json
import re
from pathlib import Path

import pytest

from circuit_claims.audit import __main__ as audit_command
from circuit_claims.audit.accuracy import accuracy
from circuit_claims.audit.controls import BASES, NO_CONTROL_CAN, NO_CONTROL_SPEAKS, OWN_CARD, WITH_KNOWN_TRUTH
from circuit_claims.audit.table import Audited, controls_by_claim, table
from circuit_claims.audit.truth import NEVER, STATEMENTS, jobs_of, truth
from circuit_claims.controls.planted import MUTILATIONS, version
from circuit_claims.heads import Head
from circuit_claims.reports.compare import FELL, change_of
from circuit_claims.subjects.find import find_folder
from circuit_claims.verdicts.rows import HOLDS, INCONCLUSIVE, KNOWN_FALSE, REFUTED, UNTESTED

ROOT = Path(__file__).parents[2]
LATEST = json.loads((ROOT / "fixtures/audit.json").read_text(encoding="utf-8"))
AUDIT = [Audited(claim, "", verdicts) for claim, verdicts in LATEST["verdicts"].items()]
PAGE = (ROOT / "docs" / "explanation" / "controls-and-audit.md").read_text(encoding="utf-8")


def row(claim_id: str, verdict: str) -> dict:
    return {"claim_id": claim_id, "statement": f"{claim_id} is so.", "verdict": verdict, "weights_sha256": "0" * 64}


# The table.


def test_a_claim_has_the_controls_that_refute_it():
    reports = {"mini": [row("a", HOLDS)], "random:mini": [row("a", REFUTED)], "shuffled:mini": [row("a", KNOWN_FALSE)]}
    (claim,) = table(reports)
    assert claim.holds_on == ["mini"] and claim.refuted_by == ["random:mini", "shuffled:mini"]
    assert not claim.vacuous and controls_by_claim([claim]) == {"a": ["random:mini", "shuffled:mini"]}


@pytest.mark.parametrize(("on_control", "vacuous"), [(HOLDS, True), (INCONCLUSIVE, True), (REFUTED, False), (UNTESTED, False)])
def test_what_no_control_refutes_is_toothless(on_control, vacuous):
    """Unless the controls could not test it at all; that it is refuted of the model itself is no help."""
    (claim,) = table({"mini": [row("a", REFUTED)], "random:mini": [row("a", on_control)]})
    assert claim.vacuous == vacuous and claim.audited == (on_control != UNTESTED)


def test_what_a_control_says_of_heads_on_its_own_card_is_not_asked_of_the_others():
    own = f"random:mini{OWN_CARD}"
    assert not Audited("a[L0H0]", "a", {own: HOLDS}).vacuous
    assert Audited("a[L0H0]", "a", {own: HOLDS, "random:mini": HOLDS}).vacuous


def test_of_a_claim_with_several_rows_one_refuted_row_is_enough():
    (claim,) = table({"random:mini": [row("a", HOLDS), row("a#2", REFUTED), row("a#3", INCONCLUSIVE)]})
    assert claim.verdicts == {"random:mini": REFUTED}


# The command.


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """Finished runs of every model, in which one claim has teeth and, on every model alike, another has none."""
    monkeypatch.setattr(audit_command, "LATEST", tmp_path / "latest.json")
    for base in BASES:
        for subject in (base.subject, *base.controls):
            folder = tmp_path / audit_command.as_folder(subject)
            folder.mkdir()
            rows = [row("ioi/sharp", HOLDS if subject == base.subject else REFUTED), row("ioi/blunt", HOLDS)]
            (folder / "claims.json").write_text(json.dumps({"rows": rows}))
    return tmp_path


def test_a_toothless_claim_is_named_and_the_command_fails(runs, capsys):
    assert audit_command.main(["--runs", str(runs), "--reuse"]) == 1
    said = capsys.readouterr().out
    assert "vacuous: ioi/blunt: ioi/blunt is so." in said and "vacuous: ioi/sharp" not in said
    kept = json.loads((runs / "latest.json").read_text())
    assert kept["controls"]["ioi/blunt"] == [] and set(kept["weights"]) == set(kept["verdicts"]["ioi/sharp"])
    assert set(kept["controls"]["ioi/sharp"]) == {control for base in BASES for control in base.controls}


def test_a_reason_why_none_can_is_an_answer(runs, capsys, monkeypatch):
    monkeypatch.setitem(NO_CONTROL_CAN, "ioi/blunt", "it is about arithmetic")
    assert audit_command.main(["--runs", str(runs), "--reuse"]) == 0
    assert "none can: it is about arithmetic" in " ".join(capsys.readouterr().out.split())


def test_a_part_of_the_audit_leaves_the_controls_of_reports_alone(runs, capsys):
    assert audit_command.main(["--runs", str(runs), "--reuse", "--base", "mini"]) == 1
    assert not (runs / "latest.json").exists() and "stays as it was" in capsys.readouterr().out


def test_claims_can_be_added_to_the_audit_that_is_kept(runs, capsys):
    assert audit_command.main(["--runs", str(runs), "--reuse"]) == 1
    for base in BASES:
        for subject in (base.subject, *base.controls):
            rows = [row("weights/new", HOLDS if subject == base.subject else REFUTED), row("ioi/blunt", REFUTED)]
            (runs / audit_command.as_folder(subject) / "claims.json").write_text(json.dumps({"rows": rows}))
    assert audit_command.main(["--runs", str(runs), "--reuse", "-k", "new or blunt", "--add"]) == 0
    kept = json.loads((runs / "latest.json").read_text())
    assert set(kept["verdicts"]) == {"ioi/sharp", "ioi/blunt", "weights/new"}
    assert kept["controls"]["ioi/sharp"] and kept["controls"]["ioi/blunt"] and kept["controls"]["weights/new"]


def test_a_control_that_is_new_is_added_with_its_claims(runs):
    assert audit_command.main(["--runs", str(runs), "--reuse"]) == 1
    latest = json.loads((runs / "latest.json").read_text())
    del latest["weights"]["mini --sae shuffled"]
    (runs / "latest.json").write_text(json.dumps(latest))
    audit_command.main(["--runs", str(runs), "--reuse", "-k", "blunt", "--add"])
    assert "mini --sae shuffled" in json.loads((runs / "latest.json").read_text())["weights"]
    assert audit_command.as_folder("mini --sae shuffled") == "mini-sae-shuffled"


def test_claims_can_be_audited_on_some_models_alone(runs):
    assert audit_command.main(["--runs", str(runs), "--reuse"]) == 1
    (runs / "planted" / "claims.json").write_text(json.dumps({"rows": [row("ioi/other", REFUTED)]}))
    (runs / "random" / "claims.json").write_text(json.dumps({"rows": [row("ioi/other", REFUTED)]}))
    chosen = ["--on", "planted", "--on", "random"]
    assert audit_command.main(["--runs", str(runs), "--reuse", *chosen]) == 0
    assert "ioi/other" not in json.loads((runs / "latest.json").read_text())["verdicts"], "a part is not kept by itself"
    assert audit_command.main(["--runs", str(runs), "--reuse", *chosen, "-k", "other", "--add"]) == 0
    kept = json.loads((runs / "latest.json").read_text())["verdicts"]
    assert set(kept["ioi/other"]) == {"planted", "random"} and set(kept["ioi/sharp"]) > {"planted", "mini"}
    (runs / "random" / "claims.json").write_text(json.dumps({"rows": [row("ioi/sharp", HOLDS)]}))
    audit_command.main(["--runs", str(runs), "--reuse", "--on", "random", "-k", "sharp", "--add"])
    latest = json.loads((runs / "latest.json").read_text())
    assert latest["verdicts"]["ioi/sharp"] == kept["ioi/sharp"] | {"random": HOLDS}, "elsewhere it is as it was"
    assert "random" not in latest["controls"]["ioi/sharp"] and "shuffled:planted" in latest["controls"]["ioi/sharp"]


def test_claims_are_not_added_to_an_audit_of_other_models(runs):
    assert audit_command.main(["--runs", str(runs), "--reuse"]) == 1
    latest = json.loads((runs / "latest.json").read_text())
    (runs / "latest.json").write_text(json.dumps(latest | {"weights": latest["weights"] | {"mini": "another"}}))
    with pytest.raises(SystemExit, match="the latest audit has other weights"):
        audit_command.main(["--runs", str(runs), "--reuse", "-k", "blunt", "--add"])


def test_planted_models_of_another_machine_are_told_by_their_version(runs):
    """Each machine writes them anew, with its own rounding."""
    assert audit_command.main(["--runs", str(runs), "--reuse"]) == 1
    latest = json.loads((runs / "latest.json").read_text())
    (runs / "latest.json").write_text(json.dumps(latest | {"weights": latest["weights"] | {"planted": "another"}}))
    audit_command.main(["--runs", str(runs), "--reuse", "-k", "blunt", "--add"])
    latest = json.loads((runs / "latest.json").read_text())
    (runs / "latest.json").write_text(json.dumps(latest | {"planted": "an earlier one"}))
    with pytest.raises(SystemExit, match="the latest audit has other planted"):
        audit_command.main(["--runs", str(runs), "--reuse", "-k", "blunt", "--add"])


def test_it_runs_the_claims_itself(tmp_path, capsys):
    few = ["-k", "outranks_S_on_nearly", "--prompts", "30", "--max-prompts", "120"]
    models = [option for model in ("mini", "random:mini") for option in ("--on", model)]
    assert audit_command.main(["--runs", str(tmp_path), *few, *models]) == 0
    audit = json.loads((tmp_path / "audit.json").read_text())
    (controls,) = audit["controls"].values()
    assert controls == ["random:mini"] and len(set(audit["weights"].values())) == 2
    assert "1 refuted by a control" in capsys.readouterr().out


def test_a_run_that_fails_ends_the_audit_with_its_words(tmp_path, capsys):
    with pytest.raises(SystemExit, match="could not be run on mini"):
        audit_command.main(["--runs", str(tmp_path), "--base", "mini", "--prompts", "-3"])


# The truth.


def claims_by_name() -> set[str]:
    """All claims, by folder, file and name."""
    return {
        f"{path.parent.name}/{path.stem.removeprefix('test_')}/{name.removeprefix('test_')}"
        for path in (ROOT / "claims").glob("*/test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), re.M)
    }


def test_every_statement_is_about_a_claim_that_there_is():
    named = {f"ioi/{key.partition('[')[0]}" for key in (*STATEMENTS, *NEVER)}
    assert named <= claims_by_name()
    parameters = {key for key in STATEMENTS if "[" in key}
    assert parameters <= {claim.removeprefix("ioi/") for claim in LATEST["verdicts"]}


MOVERS = "ioi/name_movers/name_movers_carry_the_answer"
NINE = "ioi/name_movers/each_name_mover_recovers_by_itself[L9H9]"
LOOKS = "ioi/early_heads/early_heads_look_where_they_should[{}]"


@pytest.mark.parametrize(
    ("claim", "subject", "expected"),
    [
        (MOVERS, "planted", True),
        (MOVERS, "planted:name-movers-moved", False),
        (MOVERS, "planted:without-negative", True),
        # There is nothing to carry a share of.
        (MOVERS, "planted:without-S-inhibition", False),
        (MOVERS, "random", False),
        (NINE, "planted:name-movers-moved", False),
        (LOOKS.format("induction"), "planted:without-induction", False),
        (LOOKS.format("induction"), "planted:without-duplicate-token", True),
        (LOOKS.format("induction"), "planted:without-previous-token", None),
        (LOOKS.format("duplicate token"), "planted:without-previous-token", True),
        ("ioi/behaviour/IO_outranks_S_on_nearly_every_prompt", "planted:name-movers-moved", True),
        ("ioi/behaviour/IO_outranks_S_on_nearly_every_prompt", "shuffled:planted", True),
        ("ioi/behaviour/IO_outranks_S_on_nearly_every_prompt", "planted:without-S-inhibition", False),
        ("ioi/knockouts/knocking_out_a_helpful_family_costs_what_it_should[induction-mean]", "planted", None),
        (
            "ioi/knockouts/knocking_out_a_helpful_family_costs_what_it_should[induction-mean]",
            "planted:without-induction",
            False,
        ),
        ("ioi/mlps/logit_difference_without_the_later_MLPs", "planted", False),
        ("ioi/faithfulness/overall_faithfulness[with_BOS]", "planted", None),
        ("ioi/faithfulness/overall_faithfulness[with_BOS]", "random", False),
    ],
)
def test_the_truth_of_some_by_hand(claim, subject, expected):
    assert truth(claim, subject) is expected


def test_what_a_shuffled_model_does_where():
    jobs = jobs_of("shuffled:planted")
    assert sorted(job.family for job in jobs.values()) == sorted(job.family for job in jobs_of("planted").values())
    assert all(jobs.get(head) != job for head, job in jobs_of("planted").items()), "nothing is where it was"


@pytest.mark.parametrize("mutilation", MUTILATIONS)
def test_a_mutilation_makes_claims_false_and_leaves_others_true(mutilation):
    before = {claim: truth(claim, "planted") for claim in LATEST["verdicts"] if "planted" in LATEST["verdicts"][claim]}
    after = {claim: truth(claim, f"planted:{mutilation}") for claim in before}
    assert any(after[claim] is False and before[claim] is not False for claim in before)
    assert not any(after[claim] and not before[claim] for claim in before), "taking away makes nothing true"


def test_an_account_of_verdicts_by_hand():
    audit = [
        Audited(MOVERS, "", {"planted": HOLDS, "random": REFUTED, "planted:name-movers-moved": HOLDS}),
        Audited(NINE, "", {"planted": INCONCLUSIVE, "random": REFUTED, "planted:name-movers-moved": UNTESTED}),
    ]
    held = accuracy(audit, ["planted", "random", "planted:name-movers-moved"])
    assert (held.sensitivity, held.specificity) == (0.5, pytest.approx(2 / 3))
    assert [(pair.claim_id, pair.subject) for pair in held.wrong] == [(MOVERS, "planted:name-movers-moved")]
    assert [pair.claim_id for pair in held.unclear] == [NINE]


# The latest audit, which is kept with the project.


def test_the_latest_audit_is_of_these_models():
    """Where this fails, a model has changed since: `make audit`."""
    assert set(LATEST["weights"]) == {subject for base in BASES for subject in (base.subject, *base.controls)}
    assert LATEST["planted"] == version(), "the code that writes the planted models"
    for subject in ("mini", "shuffled:mini"):
        assert LATEST["weights"][subject] == find_folder(subject).sha256(), subject


def test_the_latest_audit_is_of_these_claims():
    audited = {claim.partition("[")[0] for claim in LATEST["verdicts"]}
    assert audited == claims_by_name()


def test_every_claim_has_a_control_that_refutes_it_or_a_reason_why_none_can():
    assert [claim.claim_id for claim in AUDIT if claim.vacuous] == []
    for claim, reason in NO_CONTROL_CAN.items():
        assert len(reason.split()) > 5 and not LATEST["controls"][claim], claim
    # A head or a family that a card lacks has a row of its own, untested; each claim was tested all the same.
    tested = {claim.claim_id.partition("[")[0] for claim in AUDIT if claim.audited}
    missing = claims_by_name() - tested
    for claim in missing:
        assert any(claim.startswith(known) for known in NO_CONTROL_SPEAKS), claim
    for known, reason in NO_CONTROL_SPEAKS.items():
        assert any(claim.startswith(known) for claim in missing), f"{known} was tested after all"
        for path in re.findall(r"tests/\w+\.py", reason):
            assert (ROOT / path).exists(), path


def test_true_statements_hold_and_false_ones_are_refuted():
    held = accuracy(AUDIT, WITH_KNOWN_TRUTH)
    assert len(held.of(True)) > 100 and len(held.of(False)) > 400
    assert held.sensitivity >= 0.95 and held.specificity >= 0.95, held.wrong


@pytest.mark.parametrize("mutilation", MUTILATIONS)
def test_on_each_mutilation_too(mutilation):
    """Only what depends on the missing part falls: no true statement is refuted."""
    held = accuracy(AUDIT, [f"planted:{mutilation}"])
    assert not [pair for pair in held.wrong if pair.true]
    assert held.sensitivity >= 0.9 and held.specificity >= 0.9, held.wrong + held.unclear


@pytest.mark.parametrize("mutilation", MUTILATIONS)
def test_a_comparison_names_exactly_what_depends_on_the_missing_part(mutilation):
    """What held and is now false fell; nothing that is still true did."""
    subject = f"planted:{mutilation}"
    both = {claim.claim_id: claim.verdicts for claim in AUDIT if {"planted", subject} <= set(claim.verdicts)}
    fell = {claim for claim, verdicts in both.items() if change_of(verdicts["planted"], verdicts[subject]) == FELL}
    assert fell and not {claim for claim in fell if truth(claim, subject)}
    now_false = {claim for claim in both if both[claim]["planted"] == HOLDS and truth(claim, subject) is False}
    unclear = {claim for claim in now_false - fell if both[claim][subject] == INCONCLUSIVE}
    assert now_false - fell == unclear and len(unclear) <= 0.1 * len(now_false)


def test_the_documentation_says_what_was_measured():
    held = accuracy(AUDIT, WITH_KNOWN_TRUTH)
    assert str(held).partition(";")[0] in " ".join(PAGE.split())
    for subject in WITH_KNOWN_TRUTH:
        holds, refuted = held.on(subject).counts()
        assert f"| `{subject}` | {holds} | {refuted} |" in PAGE


def test_a_head_that_is_moved_does_elsewhere_what_it_did():
    assert Head(9, 9) not in jobs_of("planted:name-movers-moved") and Head(9, 3) in jobs_of("planted:name-movers-moved")
