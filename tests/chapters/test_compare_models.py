"""Did my pruning, my quantisation, my fine-tune keep the circuit? On `mini`: what was taken out falls, and nothing else."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from circuit_claims.heads import Head
from circuit_claims.models.folder import EMBEDDED
from circuit_claims.verdicts.rows import HOLDS, REFUTED
from tests.support.claim_runs import ClaimRun, run_claims
from tests.support.model_variants import fine_tuned, pruned, quantised

ORIGINAL = EMBEDDED["mini"]
CLAIMS = "knockouts or heads_attend_to or copies or behaviour"
TEXTS = ["Paris is the capital of France .", "Then , Mary and John went to the store ."]
NEGATIVE, S_INHIBITION = [Head(3, 2)], [Head(0, 4)]


def claims_on(subject: str | Path, folder: Path, *options: str) -> ClaimRun:
    """Some of the claims on a model."""
    return run_claims(folder, "claims", "-k", CLAIMS, "--subject", str(subject), "--prompts=40", "--max-prompts=160", *options)


def verdicts(run: ClaimRun) -> dict[str, str]:
    """The verdict of each claim."""
    return {row["claim_id"].removeprefix("ioi/"): row["verdict"] for row in run.rows}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ClaimRun:
    """`mini` as it is."""
    run = claims_on("mini", tmp_path_factory.mktemp("base"))
    assert run.status == 0 and list(verdicts(run).values()).count(HOLDS) > 20
    return run


def against(base: ClaimRun, tmp_path: Path, make: Callable[[Path, Path], Path]) -> tuple[ClaimRun, set[str]]:
    """The changed model's run against the original's, and the claims that fell."""
    run = claims_on(make(ORIGINAL, tmp_path / "mini-changed"), tmp_path / "report", f"--against={base.report}")
    before = verdicts(base)
    return run, {claim for claim, verdict in verdicts(run).items() if verdict == REFUTED and before[claim] == HOLDS}


def test_without_its_negative_name_mover_only_what_is_said_of_it_falls(base, tmp_path):
    run, fell = against(base, tmp_path, lambda original, folder: pruned(original, folder, NEGATIVE))
    assert run.status == 1
    raises = "knockouts/knocking_out_the_negative_name_movers_raises_the_logit_difference"
    assert fell and {claim.partition("[")[0] for claim in fell} == {raises}
    assert "fell" in run.said and "negative name movers" in run.said


def test_without_S_inhibition_what_rests_on_it_falls_and_where_heads_look_stands(base, tmp_path):
    run, fell = against(base, tmp_path, lambda original, folder: pruned(original, folder, S_INHIBITION))
    assert run.status == 1
    assert "knockouts/S_inhibition_acts_at_END" in fell
    assert {
        f"knockouts/knocking_out_a_helpful_family_costs_what_it_should[S-inhibition-{by}]" for by in ("mean", "zero")
    } <= fell
    stands = {claim for claim, verdict in verdicts(run).items() if verdict == HOLDS}
    assert "S_inhibition/S_inhibition_heads_attend_to_S2_as_published" in stands, "it still looks: it only writes no more"
    assert {f"name_movers/each_name_mover_copies_and_an_average_head_does_not[L3H{head}]" for head in (0, 3, 4)} <= stands


@pytest.mark.parametrize(
    "make",
    [quantised, lambda original, folder: fine_tuned(original, folder, TEXTS, steps=5, learning_rate=1e-5)],
    ids=["8 bits and back", "fine-tuned for five steps"],
)
def test_what_leaves_the_circuit_alone_lets_nothing_fall(base, tmp_path, make):
    run, fell = against(base, tmp_path, make)
    assert run.status == 0 and not fell
    weights = [json.loads(report.read_text())["rows"][0]["weights_sha256"] for report in (base.report, run.report)]
    assert weights[0] != weights[1], "it is another model"


def test_two_bits_are_too_few(base, tmp_path):
    """The control of the test above."""
    run, fell = against(base, tmp_path, lambda original, folder: quantised(original, folder, bits=2))
    assert run.status == 1 and len(fell) > 10
