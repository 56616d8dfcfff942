"""What discovery writes of induction: by the rules, and as the embedded model's card has it."""

import numpy as np
import pytest

from circuit_claims.cards.find import find_card
from circuit_claims.discovery.chapters import induction
from circuit_claims.discovery.survey import Survey
from circuit_claims.heads import Head
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.induction.repeated_tokens import SEQUENCES
from circuit_claims.tasks.induction.task import Induction


@pytest.fixture(scope="module")
def survey(mini) -> Survey:
    return Survey.of(mini, n=960, seed=0, prepend_bos=False)


def test_the_committed_chapter_is_what_discovery_finds(survey):
    card = find_card("mini")
    found = induction.find(survey, card)
    families = {name: family for name, family in card.families.items() if family.chapter == "induction"}
    assert {name: family.heads for name, family in found.families.items()} == {n: f.heads for n, f in families.items()}
    for findings in found.findings.values():
        for key, value in findings.values.items():
            assert card[key].value == pytest.approx(value.value, abs=0.011), key
        for key, table in findings.tables.items():
            assert card.table(key).rows == tuple(table.rows) and card.table(key).within == table.within
            np.testing.assert_allclose(card.table(key).values, list(table.rows.values()), atol=0.002)
    assert "there is no gap" in found.findings["scores"].left_out["next_induction_score"]


def test_the_strong_heads_are_those_above_the_threshold(survey):
    story = Induction(subject=survey.repeated.subject, seed=survey.repeated.seed, prepend_bos=False)
    grid = story.as_drawn_by("Main_Demo").attention_scores("induction diagonal").take(SEQUENCES).estimate
    (family,) = induction.find(survey, find_card("mini")).families.values()
    assert set(family.heads) == {Head(int(i), int(j)) for i, j in zip(*np.where(grid > 0.6), strict=True)}
    assert all(f"{grid[head]:.2f}" in family.evidence[head] for head in family.heads)


def test_a_verdict_is_given_on_other_tokens(survey):
    verdicts = Induction(subject=survey.repeated.subject, seed=0, prepend_bos=False)
    found_on = Induction(subject=survey.repeated.subject, seed=survey.repeated.seed, prepend_bos=False)
    rows = [{tuple(row) for row in story._tokens().tolist()} for story in (verdicts, found_on)]
    assert not rows[0] & rows[1]


def test_of_noise_nothing_is_found():
    """No strong head, no score to note, and no gap; the losses are what they are."""
    noise = Subject(prepare(Settings(name="random:mini")))
    found = induction.find(Survey.of(noise, n=16, seed=0, prepend_bos=False), noise.card)
    assert not found.families and not found.findings["scores"].values
    assert "no head has a score above 0.2" in found.findings["scores"].left_out["repeated_token_scores"]
    losses = found.findings["losses"]
    assert set(losses.values) == {"loss_before_repeat", "loss_at_repeat"}
    assert "loss_after_repeat" in losses.left_out, "it is not next to nothing"
