"""Claims about paths: their rows say between which families, and lose nothing by it."""

import pytest

from circuit_claims.verdicts.rows import REFUTED
from tests.support.claim_runs import run_claims

FEW = ("--prompts", "30", "--max-prompts", "30")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Of a model of noise with mini's card, which refutes them all."""
    folder = tmp_path_factory.mktemp("paths")
    return run_claims(folder, "claims/ioi/test_direct_paths.py", "--subject", "random:mini", "--card", "mini", *FEW).rows


def test_rows_name_the_families_of_the_card(rows):
    assert [(list(row["edge"]["from"]), list(row["edge"]["to"]), row["edge"]["into"]) for row in rows] == [
        (["name mover"], ["logits"], ""),
        (["negative name mover"], ["logits"], ""),
        (["S-inhibition"], ["negative name mover"], "q"),
    ]
    assert rows[2]["edge"] == {
        "senders": ["L0H4"],
        "receivers": ["L3H2"],
        "into": "q",
        "at": "END",
        "corruption": "ABC",
        "from": {"S-inhibition": ["L0H4"]},
        "to": {"negative name mover": ["L3H2"]},
    }


def test_a_refuted_path_shows_what_the_model_says_to_the_prompt(rows):
    """A row whose facts name another model has no likeliest tokens; that of a path is about the run's subject."""
    assert {row["verdict"] for row in rows} == {REFUTED}
    assert all(len(row["counterexample"]["top_tokens"]) == 5 and row["subject"] == "random:mini" for row in rows)
