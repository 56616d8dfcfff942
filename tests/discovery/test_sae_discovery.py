"""What discovery says of the embedded autoencoder: on mini what the committed card says, and nothing where none is embedded."""

from typing import Any

import numpy as np
import pytest
import torch

from circuit_claims.cards.card import CARD_DIR, read_card
from circuit_claims.discovery.chapters import sae as chapter
from circuit_claims.discovery.findings import HALF
from circuit_claims.discovery.survey import Survey
from circuit_claims.sae.concepts import Meaning
from circuit_claims.sae.features import SaeFeatures
from circuit_claims.sae.ioi import SaeIOI, explained_by
from circuit_claims.sae.metrics import SaeNumbers
from circuit_claims.sae.metrics_on_text import DISCOVERY_ROWS, VERDICT_ROWS, SaeText
from circuit_claims.sae.text import GeneratedRows
from tests.support.tiny_saes import tiny_subject

ROWS = 120


@pytest.fixture(scope="module")
def survey(mini):
    return Survey.of(mini, n=ROWS, seed=0, prepend_bos=False)


#: Where nothing is embedded, no card is looked at.
NO_CARD: Any = None


@pytest.fixture(scope="module")
def text(survey):
    sae = chapter.embedded(survey)
    assert sae is not None
    return SaeText(sae, GeneratedRows("held out"), DISCOVERY_ROWS)


@pytest.fixture(scope="module")
def card():
    return read_card(CARD_DIR / "mini.toml")


def test_a_model_without_an_embedded_autoencoder_has_nothing_to_say(tmp_path):
    found = chapter.find(Survey.of(tiny_subject(tmp_path / "tiny"), n=8, seed=0, prepend_bos=False), NO_CARD)
    (findings,) = found.findings.values()
    assert not findings.values and not findings.tables and findings.left_out == {"sae": "none is embedded for this model"}


def test_the_cards_numbers_are_found_again_on_fewer_rows(survey, text, card):
    numbers = SaeNumbers(text, card, seed=0)
    found = chapter._numbers(survey, numbers)
    assert list(found.left_out) == ["sae_L0"], "it is a TopK autoencoder"
    assert len(found.tables) == 7
    for key, table in found.tables.items():
        there = card.tables[key]
        assert there.rows == tuple(table.rows) == ("mini-sae",)
        room = max(there.within, 0.02 if key in ("sae_dead", "sae_dense") else 0)
        assert there.values[0][0] == pytest.approx(table.rows["mini-sae"][0], abs=room), key


def test_a_bound_above_a_control_is_half_of_what_was_found(survey, text, card):
    numbers = SaeNumbers(text, card, seed=0)
    found = survey.estimate(numbers.better_than("principal components", "explained variance"))
    bound = card.tables["sae_explained_variance_above_principal_components"].values[0][0]
    assert bound == pytest.approx(HALF * found, abs=0.02)


def test_the_best_detectors_on_fewer_rows_are_those_on_the_card(text, card):
    found = chapter.best_detectors(SaeFeatures(text, card, seed=0), ROWS)
    there = card.tables["sae_features"]
    for row, (feature, *_) in zip(there.rows, there.values, strict=True):
        meaning = row.removeprefix("mini-sae: ")
        assert found[meaning][0] == int(feature), meaning
        assert found[meaning][2] > chapter.DETECTS
    missing = {meaning for meaning, (_, _, f1) in found.items() if f1 < chapter.DETECTS - 0.1}
    assert missing >= {"a name", "a name comes next"} and not missing & {row.removeprefix("mini-sae: ") for row in there.rows}


def test_a_detector_is_found_with_its_threshold(monkeypatch):
    """On activations made up: the second feature fires at 3 on what is meant, and at 1 on everything else."""
    meant = np.array([True, False, True, False, False, False])

    class Made:
        class text:  # noqa: N801
            special = ()
            first = 0

            class text:  # noqa: N801
                @staticmethod
                def rows(first, n):
                    return torch.tensor([[1, 5, 1, 5, 5, 5]])

        lexicon = None

        @staticmethod
        def activations(first, count, of):
            other = np.array([1.0, 0, 0, 1, 0, 0])
            return np.stack([other, np.where(meant, 3.0, 1.0)], axis=1)[None]

    monkeypatch.setattr(chapter, "MEANINGS", {"one": Meaning(lambda words, rows: rows == 1)})
    made: Any = Made()
    feature, threshold, f1 = chapter.best_detectors(made, 1)["one"]
    assert (feature, f1) == (1, 1.0) and 1.0 <= threshold < 3.0


def test_the_subjects_features_are_those_whose_activation_it_explains(survey, text, card):
    story = SaeIOI(survey.ioi, text.sae, card)
    features = [int(row.partition(": ")[2]) for row in card.tables["sae_subject_features"].rows]
    activations, subjects = story.activations(480)
    explained = explained_by(subjects, activations)
    assert np.mean(explained[features] > chapter.TELLS) > 0.9
    assert not set(np.flatnonzero(explained > 0.8)) - set(features)


def test_verdicts_and_discovery_are_given_on_different_rows():
    first = {number: GeneratedRows("held out").rows(number, 4).tolist() for number in (VERDICT_ROWS, DISCOVERY_ROWS)}
    assert first[VERDICT_ROWS] != first[DISCOVERY_ROWS]
    assert GeneratedRows("training").rows(VERDICT_ROWS, 4).tolist() != first[VERDICT_ROWS]
