"""The claims about weights and tokenizer themselves: on the real ones, where they are there, and on noise."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from tests.support.claim_runs import run_claims
from tests.support.tiny_weights import TWELVE, save_attention


def rows(folder: Path, *arguments: str, real: Path | None = None) -> list[dict[str, Any]]:
    """Run claims with these arguments, on the weights that `real` names where no subject is.

    With an empty hub cache: a GPT-2 in it would be taken in place of these.
    """
    with pytest.MonkeyPatch.context() as changed:
        changed.delenv("GPT2_SMALL_DIR", raising=False)
        changed.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
        if real is not None:
            changed.setenv("GPT2_SMALL_DIR", str(real))
        return run_claims(folder, *arguments).rows


@pytest.fixture(scope="module")
def on_the_real_ones(gpt2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return rows(tmp_path_factory.mktemp("real"), "claims/weights", "claims/tokenizer", real=gpt2_folder)


def test_every_claim_holds_of_the_real_weights_and_says_so(on_the_real_ones, gpt2_folder):
    assert {row["claim_id"]: row["reason"] for row in on_the_real_ones if row["verdict"] != "holds"} == {}
    assert {row["subject"] for row in on_the_real_ones} == {gpt2_folder.resolve().name}
    assert len({row["weights_sha256"] for row in on_the_real_ones}) == 1
    assert {row["mode"] for row in on_the_real_ones} == {"processed"}


def test_the_report_has_the_copying_scores_of_all_heads(on_the_real_ones):
    (row,) = [row for row in on_the_real_ones if row["claim_id"] == "weights/copying/every_copying_score_is_as_published"]
    values = row["figure"]["values"]
    assert len(values) == 12 and all(len(layer) == 12 for layer in values)
    # From another source than the card: the catalogue of claims, from the same notebook's other output.
    for layer, head, published in ((11, 3, 0.9994), (10, 9, 0.9972), (1, 11, -0.9997), (8, 10, -0.9821), (9, 9, 0.119)):
        assert values[layer][head] == pytest.approx(published, abs=6e-4)


def test_none_holds_of_random_weights(tmp_path):
    """Noise with as many layers and heads as GPT-2 small has; one row of a claim may be undecided, or true by accident."""
    folder = save_attention(tmp_path / "noise", shape=TWELVE)
    found = rows(tmp_path / "report", "claims/weights", "--subject", str(folder), "--card", "gpt2-small")
    verdicts: dict[str, set[str]] = {}
    for row in found:
        verdicts.setdefault(row["claim_id"].partition("#")[0], set()).add(row["verdict"])
    assert len(verdicts) > 15 and "untested" not in set().union(*verdicts.values())
    assert {claim for claim, found in verdicts.items() if found == {"holds"}} == set()
    assert sum("refuted" in found for found in verdicts.values()) >= 0.9 * len(verdicts)
