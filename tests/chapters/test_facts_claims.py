"""The claims about facts themselves: what they find on the embedded model, and that none holds of noise."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.claim_runs import run_claims

#: What GPT-2's words are needed for.
NOT_IN_MINIS_WORDS = ("paris", "london", "[language]", "[city in country]", "[landmark]", "[maker]", "[continent]")


def rows(folder: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    """Run the claims with these arguments, and give each claim's row."""
    found = run_claims(folder, "claims/facts", *arguments).rows
    return {row["claim_id"].removeprefix("facts/"): row for row in found}


@pytest.fixture(scope="module")
def on_mini(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return rows(tmp_path_factory.mktemp("mini"), "--subject=mini")


def test_on_mini_nothing_is_refuted_that_its_card_does_not_call_false(on_mini):
    verdicts = {claim: row["verdict"] for claim, row in on_mini.items()}
    assert set(verdicts.values()) <= {"holds", "inconclusive", "known false", "untested"}, verdicts
    assert sum(verdict == "known false" for verdict in verdicts.values()) == 5
    assert sum(verdict == "holds" for verdict in verdicts.values()) >= 14
    untested = {claim for claim, verdict in verdicts.items() if verdict == "untested"}
    assert untested == {claim for claim in verdicts if any(words in claim for words in NOT_IN_MINIS_WORDS)}


def test_rows_say_how_many_facts_they_are_of_and_draw_what_they_found(on_mini):
    kinds = {claim: (row["figure"] or {}).get("kind") for claim, row in on_mini.items() if row["verdict"] != "untested"}
    assert {kind for claim, kind in kinds.items() if claim.startswith("logit_lens/")} == {"curves"}
    traces = {claim: kind for claim, kind in kinds.items() if claim.startswith("causal_tracing/")}
    assert traces.pop("causal_tracing/interchange_and_noise_agree_on_where") == "scatter"
    assert set(traces.values()) == {"heatmap"}
    early = on_mini["causal_tracing/early_on_the_fact_is_on_the_subjects_last_token[noise]"]
    assert early["n"] > 100 and early["prepend_bos"] is False
    heat = early["figure"]
    assert (len(heat["values"]), len(heat["values"][0])) == (len(heat["rows"]), len(heat["columns"])) == (4, 6)


def test_none_holds_of_noise(tmp_path):
    """Noise answers next to no fact, and all that presupposes that it does is refuted, and says so."""
    found = rows(tmp_path / "noise", "--subject=random:mini")
    verdicts = {claim: row["verdict"] for claim, row in found.items()}
    assert set(verdicts.values()) <= {"refuted", "known false", "inconclusive", "untested"}, verdicts
    tested = [verdict for verdict in verdicts.values() if verdict != "untested"]
    assert sum(verdict in ("refuted", "known false") for verdict in tested) >= len(tested) - 1
    told = found["causal_tracing/on_the_subject_MLPs_matter_more_than_attention"]["reason"]
    assert "presupposes that it does" in told


def test_a_subject_without_these_words_is_untested(tmp_path):
    found = rows(tmp_path / "planted", "--subject=planted")
    assert {row["verdict"] for row in found.values()} == {"untested"}
    assert all(row["reason"] for row in found.values())
