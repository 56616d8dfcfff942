"""The claims of the four tasks that come as pairs: on noise with GPT-2's own tokenizer, and where they are of a made-up model.

A model that has learnt nothing prefers an answer on half of the pairs, so no claim holds of it.
"""

from pathlib import Path

import numpy as np
import pytest

from circuit_claims.embedded import embedded
from circuit_claims.prompts.contrasts.population import Contrasts
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.contrast.task import ContrastTask
from tests.support.claim_runs import run_claims
from tests.support.gpt2_tokens import save_narrow_gpt2

CHAPTERS = ("subject_verb_agreement", "gendered_pronouns", "docstrings", "two_digit_addition")


@pytest.fixture(scope="module")
def folder(gpt2_folder, tmp_path_factory) -> Path:
    return save_narrow_gpt2(tmp_path_factory.mktemp("narrow") / "model", gpt2_folder)


@pytest.fixture(scope="module")
def pronouns(folder) -> ContrastTask:
    subject = Subject(prepare(Settings(name=str(folder), card="gpt2-small")))
    return ContrastTask.of(subject, Contrasts.of(embedded("pairs", "gendered_pronouns.csv")), chunk=8)


def test_every_claim_runs_with_gpt2s_tokenizer_and_none_holds_of_noise(folder, tmp_path, cache):
    files = [f"claims/{chapter}" for chapter in CHAPTERS]
    options = ["--subject", str(folder), "--card", "gpt2-small", "--prompts", "60", "--max-prompts", "120"]
    rows = run_claims(tmp_path / "report", *files, *options).rows
    assert {row["chapter"] for row in rows} == set(CHAPTERS) and len(rows) == 25
    assert {row["verdict"] for row in rows} <= {"refuted", "inconclusive"}, {row["claim_id"]: row["verdict"] for row in rows}


def test_on_mini_whose_words_are_others_they_are_untested_with_the_reason(tmp_path, cache):
    files = [f"claims/{chapter}" for chapter in CHAPTERS]
    rows = run_claims(tmp_path / "report", *files, "--subject", "mini").rows
    assert {row["verdict"] for row in rows} == {"untested"}
    assert all("cannot be put to mini" in row["reason"] or "has no value" in row["reason"] for row in rows)


@pytest.mark.parametrize(("depth", "layer"), [(0, 0), (1 / 4, 3), (1 / 2, 6), (0.99, 11), (1, 11)])
@pytest.mark.parametrize("role", ["name", "END"])
def test_a_depth_is_a_layer_of_the_sweep(pronouns, role, depth, layer):
    found, sweep = pronouns.recovery_at(role, depth).take(8), pronouns.residual_sweep().take(8).estimate
    column = sweep[:, pronouns.population.roles.index(role)]
    assert found.estimate == pytest.approx(float(column[layer]), abs=1e-4) and np.ptp(column) > 0.1
    assert f"the stream at {role} before layer {layer} of 12" in found.quantity


def test_a_role_that_is_not_marked_and_a_depth_that_is_none_are_named(pronouns):
    with pytest.raises(ValueError, match="mark no 'noun': give one of name, is, END"):
        pronouns.recovery_at("noun", 1 / 2)
    with pytest.raises(ValueError, match="from 0 to 1, and not 3"):
        pronouns.recovery_at("is", 3)
