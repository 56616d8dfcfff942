"""Features at END of IOI prompts: noising against hooks on the bridge, one prompt at a time; what the subject explains."""

import numpy as np
import pytest
import torch

from circuit_claims.cards.card import Card
from circuit_claims.cards.schema import PublishedTable
from circuit_claims.prompts.ioi import Population
from circuit_claims.sae.ioi import SaeIOI, explained_by
from circuit_claims.sae.loaded import load_sae
from circuit_claims.tasks.ioi.task import IOI
from circuit_claims.untested import Untested
from tests.support.tiny_saes import tiny_sae_folder, tiny_subject

N = 12


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ioi")
    subject = tiny_subject(folder / "tiny")
    sae = load_sae(tiny_sae_folder(folder / "sae", metadata={"residual_stream": "centred"}), subject)
    ioi = IOI(subject=subject, seed=0, chunk=N, population=Population(names=subject.names), prepend_bos=False)
    rows = (f"{sae.facts['sae']}: 3", f"{sae.facts['sae']}: 17", "another: 5")
    table = PublishedTable("sae_subject_features", rows, ("explained",), ((0.9,), (0.8,), (0.7,)), "share", 0.0, "s")
    card = Card("tiny", "tiny", (), 3, 4, families={}, values={}, tables={"sae_subject_features": table})
    return SaeIOI(ioi, sae, card)


def plain_loss(story, prompt, features):
    """The loss of one prompt with a hook that puts the reconstruction's difference into the stream at END."""
    subject, sae = story.ioi.subject, story.sae.sae
    tokens, other = (
        torch.tensor([subject.tokenizer(text, add_special_tokens=False).input_ids])
        for text in (prompt.text, prompt.changed("ABC").text)
    )
    with torch.inference_mode():
        _, cache = subject.bridge.run_with_cache(tokens, prepend_bos=False)
        _, cache_other = subject.bridge.run_with_cache(other, prepend_bos=False)
        stream, stream_other = cache["blocks.1.hook_in"][0, -1], cache_other["blocks.1.hook_in"][0, -1]
        activations, theirs = sae.encode(stream), sae.encode(stream_other)
        changed = activations.clone()
        changed[features] = theirs[features]
        vector = stream + sae.decode(changed) - sae.decode(activations)

        def put(value, hook):
            value[0, -1] = vector
            return value

        io, s = (subject.tokenizer(f" {name}", add_special_tokens=False).input_ids[0] for name in prompt.answers)
        clean = subject.bridge(tokens, prepend_bos=False)[0, -1]
        noised = subject.bridge.run_with_hooks(tokens, prepend_bos=False, fwd_hooks=[("blocks.1.hook_in", put)])[0, -1]
    return float((clean[io] - clean[s]) - (noised[io] - noised[s]))


def test_noising_features_is_what_a_hook_does_prompt_by_prompt(story):
    features = [3, 17, 20]
    found = story.change(features, "three").take(N)
    expected = [plain_loss(story, prompt, features) for prompt in story.ioi.prompts(N)]
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(found.values, expected, atol=2e-5)
    assert found.facts["sae"]["hook"] == story.sae.hook_name


def test_noising_other_features_is_the_mean_over_the_random_sets(story):
    sets = story._other_sets([3, 17])
    activations, subjects = story.activations(N)
    assert len(sets) == 8 and all(len(chosen) == 2 and not {3, 17} & set(chosen) for chosen in sets)
    assert all((activations[:, feature] > 0).any() for chosen in sets for feature in chosen)
    assert subjects == [prompt.answers[1] for prompt in story.ioi.prompts(N)]
    expected = [np.mean([plain_loss(story, prompt, chosen) for chosen in sets]) for prompt in story.ioi.prompts(4)]
    np.testing.assert_allclose(story.change_of_others([3, 17]).take(4).values, expected, atol=2e-5)


def test_the_share_is_of_what_the_heads_lose(story):
    heads = [(0, 1), (0, 2)]
    from circuit_claims.heads import Head

    heads = [Head(*head) for head in heads]
    share = story.share_of_heads([3, 17], "two", heads).take(N)
    whole = story.ioi.noise(heads, at="END", corruption="ABC").change().take(N)
    part = story.change([3, 17], "two").take(N)
    assert share.estimate == pytest.approx(part.estimate / whole.estimate)


def test_the_share_of_others_is_of_what_these_features_lose(story):
    share = story.others_share([3, 17], "two").take(N)
    assert share.estimate == pytest.approx(
        story.change_of_others([3, 17]).take(N).estimate / story.change([3, 17], "two").take(N).estimate
    )


def test_nothing_noised_loses_nothing(story):
    assert np.abs(story.change([], "none").take(4).values).max() < 1e-5


def test_the_cards_features_of_this_autoencoder_alone(story):
    assert story.subject_features() == [3, 17]
    with pytest.raises(Untested, match="has no table 'sae_subject_share'"):
        story.published("subject share")


def test_what_labels_explain():
    labels = ["a", "a", "b", "b", "c"]
    activations = np.array([[1, 0, 1.0], [1, 1, 1], [5, 0, 1], [5, 1, 1], [99, 99, 1]])
    np.testing.assert_allclose(explained_by(labels, activations), [1, 0, 0])
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 1)) + np.repeat(np.arange(3), 100)[:, None]
    groups = [values[:100], values[100:200], values[200:]]
    within = np.mean([g.var() for g in groups])
    labels = np.repeat(["x", "y", "z"], 100).tolist()
    assert explained_by(labels, values)[0] == pytest.approx(1 - within / values.var())
