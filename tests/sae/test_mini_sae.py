"""The embedded SAE: that it is the one of its record, on text that neither training nor its choice has seen."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from circuit_claims.sae.folder import EMBEDDED_SAES, find_sae_folder
from circuit_claims.sae.loaded import load_sae
from circuit_claims.sae.metrics_on_text import VERDICT_ROWS, SaeText
from circuit_claims.sae.text import GeneratedRows
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.training.train_sae import arguments, recipe_of

FOLDER = EMBEDDED_SAES["mini"]
ROWS = 240


@pytest.fixture(scope="module")
def story(mini) -> SaeText:
    return SaeText(load_sae(find_sae_folder(FOLDER), mini), GeneratedRows("held out"), VERDICT_ROWS)


def test_sae_lens_loads_it():
    from sae_lens import SAE

    sae = SAE.load_from_disk(str(FOLDER))
    assert sae.cfg.metadata.hook_name == "blocks.2.hook_resid_pre" and sae.cfg.d_in == 128


def test_it_was_trained_on_the_embedded_model_by_the_command_that_makes_it(mini):
    """`make sae` is the command without options; its recipe is the record's."""
    folder = find_sae_folder(FOLDER)
    assert folder.metadata["model_weights_sha256"] == folder.record["model_weights_sha256"] == mini.weights_sha256
    assert folder.record["command"] == "python -m training.train_sae"
    assert folder.record["recipe"] == asdict(recipe_of(arguments([])))


def test_its_numbers_are_those_of_its_record(story):
    """On other rows of text: within four standard errors."""
    record = find_sae_folder(FOLDER).record["held_out"]
    measured = {
        "l0": story.l0(),
        "explained_variance": story.explained_variance(),
        "loss_recovered": story.loss_recovered(),
        "kl": story.kl(),
        "cosine": story.cosine(),
    }
    for name, measurement in measured.items():
        samples = measurement.take(ROWS)
        spread = samples.values - samples.estimate * samples.weights  # the ratio's, by the delta method
        error = spread.std() / ROWS**0.5 / samples.weights.mean()
        assert samples.estimate == pytest.approx(record[name], abs=4 * error + 1e-6), name


def test_it_is_a_good_one(story):
    """Most of the variance with sixteen features a token, nearly all of the loss, and few features that never fire."""
    assert story.explained_variance().take(ROWS).estimate > 0.9
    assert story.loss_recovered().take(ROWS).estimate > 0.95
    assert story.l0().take(ROWS).estimate <= 16
    assert story.dead().take(10_000).estimate < 0.1


def test_it_does_the_same_on_raw_weights(story):
    raw = load_sae(find_sae_folder(FOLDER), Subject(prepare(Settings(name="mini", mode="raw"))))
    assert raw.takes_mean_off and not story.sae.takes_mean_off
    tokens = story.tokens(4)
    ours, theirs = (sae.subject.transformer.logits(sae.spliced(tokens)).log_softmax(-1) for sae in (raw, story.sae))
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)


def test_on_a_stream_that_was_not_its_own_it_would_be_worse(story):
    """The control of the numbers above: the same features on activations whose components are shuffled."""
    order = torch.randperm(128, generator=torch.Generator().manual_seed(0))
    stream = story.sae.stream(story.tokens(16))
    error = (stream - story.sae.reconstruct(stream)).pow(2).sum()
    shuffled = stream[..., order]
    assert (shuffled - story.sae.reconstruct(shuffled)).pow(2).sum() > 5 * error


def test_it_is_small():
    assert sum(path.stat().st_size for path in Path(FOLDER).iterdir()) < 3_000_000
