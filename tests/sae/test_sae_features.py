"""Features on text: F1 counted by hand, ablation and steering against hooks on the bridge, one token at a time; controls."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from circuit_claims.cards.card import Card
from circuit_claims.cards.schema import PublishedTable
from circuit_claims.sae.baselines import OfShuffledModel, of_shuffled_model, principal_components, random_dictionary
from circuit_claims.sae.concepts import MEANINGS
from circuit_claims.sae.features import OTHERS, FiresTooSeldom, SaeFeatures
from circuit_claims.sae.loaded import load_sae
from circuit_claims.sae.metrics import CONTROLS, SaeNumbers
from circuit_claims.sae.metrics_on_text import SaeText
from circuit_claims.sae.row_sums import row_sums
from circuit_claims.sae.text import Part
from circuit_claims.untested import Untested
from tests.support.tiny_saes import tiny_sae_folder, tiny_subject

ROWS, CONTEXT = 24, 14
CARD = Card("tiny", "tiny", (), 3, 4, families={}, values={})
NEXT = "a name comes next"


class Drawn:
    """Rows of random words, rich in names, with an end-of-text token in some."""

    name, context = "made up", CONTEXT
    part: Part = "held out"

    def __init__(self, subject):
        random = np.random.default_rng(8)
        names = [subject.tokenizer.get_vocab()[name] for name in ("Mary", "John", "Tom", "Anna", "Paul")]
        rows = random.integers(5, 1100, (600, CONTEXT))
        rows = np.where(random.random(rows.shape) < 0.3, random.choice(names, rows.shape), rows)
        rows[::5, 6] = subject.tokenizer.eos_token_id
        self.given = torch.from_numpy(rows)

    def rows(self, first, n):
        return self.given[first : first + n]


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    return tiny_subject(tmp_path_factory.mktemp("subject") / "tiny")


@pytest.fixture(scope="module")
def sae(subject, tmp_path_factory):
    return load_sae(tiny_sae_folder(tmp_path_factory.mktemp("sae"), metadata={"residual_stream": "centred"}), subject)


@pytest.fixture(scope="module")
def text(subject, sae):
    return SaeText(sae, Drawn(subject), chunk=ROWS)


@pytest.fixture(scope="module")
def features(text):
    return SaeFeatures(text, CARD, seed=3)


def test_F1_is_what_one_counts_by_hand(features, sae):
    rows = features.text.tokens(ROWS)
    names = features.lexicon.names
    special = set(features.text.special)
    hits = misses = alarms = 0
    for row in rows.tolist():
        activations = sae.encode(sae.stream(torch.tensor([row])))[0]
        for p, token in enumerate(row):
            if token in special:
                continue
            fires = float(activations[p, 7]) > 0.1
            hits += fires and token in names
            misses += not fires and token in names
            alarms += fires and token not in names
    assert hits and misses and alarms
    found = features.f1("a name", 7, 0.1).take(ROWS)
    assert found.estimate == pytest.approx(2 * hits / (2 * hits + misses + alarms))
    assert found.n == ROWS and found.facts["sae"]["features"] == sae.n_features


def bridge_logit(subject, tokens, position, vector, predicted):
    """The predicted tokens' logit with a vector put into the stream at one token, by a hook on the bridge."""

    def put(stream, hook):
        stream[0, position] = vector
        return stream

    with torch.inference_mode():
        hooks = [("blocks.1.hook_in", put)] if vector is not None else []
        logits = subject.bridge.run_with_hooks(tokens[None], prepend_bos=False, fwd_hooks=hooks)[0, position].double()
    return float(logits[predicted].mean() - logits.mean())


@pytest.mark.parametrize("kind", ["ablation", "steering"])
def test_effects_are_those_of_hooks_one_token_at_a_time(features, sae, subject, kind):
    feature, threshold = 7, 0.1
    rows = features.text.tokens(ROWS)
    found = features._effects_in(kind, NEXT, feature, threshold, 0, ROWS)
    predicted = sorted(features.lexicon.names)
    all_activations = sae.encode(sae.stream(rows))[..., feature]
    counted = torch.tensor([[token not in features.text.special for token in row] for row in rows.tolist()])
    strength = float(all_activations[counted | True][all_activations.flatten() > threshold].mean())
    random = np.random.default_rng([3, 0, feature])
    alive = np.flatnonzero(features.text.firing_rates(240) > 0)
    others = np.random.default_rng([3, 16]).permutation(alive[alive != feature])[:OTHERS]
    expected = []
    for row, acts, counts in zip(rows, all_activations, counted, strict=True):
        meant = [i + 1 < CONTEXT and int(row[i + 1]) in features.lexicon.names for i in range(CONTEXT)]
        if kind == "ablation":
            there = [i for i in range(CONTEXT) if meant[i] and acts[i] > threshold and counts[i]]
        else:
            there = [i for i in range(CONTEXT) if not meant[i] and acts[i] <= 0 and counts[i]]
        if not there:
            continue
        at = int(random.choice(there))
        stream = sae.stream(row[None])[0, at]
        size = float(acts[at]) if kind == "ablation" else strength
        step = size * sae.sae.W_dec[feature]
        sign = -1 if kind == "ablation" else 1
        before = bridge_logit(subject, row, at, None, predicted)
        own = sign * (bridge_logit(subject, row, at, stream + sign * step, predicted) - before)
        controls = []
        for other in others:
            direction = sae.sae.W_dec[int(other)]
            moved = stream + sign * step.norm() * direction / direction.norm()
            controls.append(sign * (bridge_logit(subject, row, at, moved, predicted) - before))
        expected.append(own - np.mean(controls))
    assert len(expected) == len(found) > 5
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_feature_that_writes_the_predicted_words_raises_them_and_another_does_not(features, sae):
    """Steering is positive for a decoder row that points at the names in the unembedding, and negative for its opposite."""
    names = sorted(features.lexicon.names)
    unembed = sae.subject.transformer.W_U
    towards = (unembed[:, names].mean(1) - unembed.mean(1)).to(torch.float32)
    decoder = sae.sae.W_dec.clone()
    decoder[7] = 5 * towards / towards.norm()
    for sign, low, high in ((1, 0.05, 10), (-1, -10, -0.05)):
        planted = PlantedDecoder(sae.sae, torch.cat([decoder[:7], sign * decoder[7:8], decoder[8:]]))
        story = SaeFeatures(features.text.on(sae.with_dictionary(planted, "planted")), CARD, seed=3)
        assert low < story.steering(NEXT, 7).take(ROWS).estimate < high


class PlantedDecoder:
    """An SAE with another decoder."""

    def __init__(self, sae, decoder):
        self.sae, self.W_dec = sae, decoder

    def encode(self, x):
        return self.sae.encode(x)

    def decode(self, features):
        return features @ self.W_dec


def test_the_effect_of_a_feature_that_does_not_fire_is_refuted_and_one_that_fires_too_seldom_to_say_is_untested(features):
    with pytest.raises(FiresTooSeldom, match=r"feature 7 fires where it should in only 0 of 480 rows"):
        features.ablation(NEXT, 7, threshold=1e9).take(ROWS)
    activations = features.activations(0, 480, lambda part: part[..., 7])
    marks = MEANINGS[NEXT].where(features.lexicon, features.text.tokens(480).numpy()) & features._counted(
        features.text.tokens(480)
    )
    tenth_best = float(np.sort(activations[marks])[-10])
    with pytest.raises(Untested, match=r"feature 7 fires where it should in only \d of 480 rows of text: give more text"):
        features.ablation(NEXT, 7, threshold=tenth_best).take(ROWS)


def test_a_meaning_without_a_prediction_has_no_effect_to_look_at(features):
    with pytest.raises(Untested, match="says nothing of the next token"):
        features.ablation("a place", 7)
    with pytest.raises(KeyError, match="unknown meaning 'a verb': use one of a name"):
        features.f1("a verb", 7)


def test_a_row_of_the_card_is_of_one_autoencoder(features, sae):
    name = sae.facts["sae"]
    rows = (f"{name}: a name", f"{name}: {NEXT}")
    table = PublishedTable("sae_features", rows, ("feature", "threshold", "F1"), ((7, 0.1, 0.8), (9, 0.0, 0.7)), "F1", 0.0, "s")
    effects = replace(
        table, key="sae_effects", columns=("feature", "threshold", "ablation"), values=((7, 0.1, 1.0), (9, 0.0, 2.0))
    )
    story = replace(features, card=replace(CARD, tables={"sae_features": table, "sae_effects": effects}))
    named = story.named(rows[1])
    assert named.published("F1").value == 0.7 and named.published("ablation").value == 2.0
    assert named.f1().take(4).quantity == f"F1 of feature 9 as a detector of {NEXT!r}"
    with pytest.raises(Untested, match=f"of the SAE other, and the one under test is {name}"):
        story.named("other: a name")


# Controls


def test_the_random_dictionary_is_as_large_and_as_sparse_and_no_choice_of_coefficients_would_be_better(sae, text):
    stream = sae.stream(text.tokens(ROWS)).reshape(-1, 32)
    control = random_dictionary(sae, stream, 5, seed=1)
    active = control.encode(stream)
    assert control.n_features == sae.n_features
    assert ((active != 0).sum(-1) == 5).all()
    vector = (stream[3] - stream.mean(0)).double()
    chosen = np.flatnonzero(active[3].numpy())
    assert set(chosen) == set((control.sae.W_dec.double() @ vector).topk(5).indices.tolist())
    best = np.linalg.lstsq(control.sae.W_dec[chosen].double().numpy().T, vector.numpy(), rcond=None)[0]
    np.testing.assert_allclose(active[3, chosen].numpy(), best, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        control.decode(active, stream)[3], best @ control.sae.W_dec[chosen].double().numpy() + stream.mean(0).numpy(), atol=1e-3
    )


def test_all_principal_components_rebuild_everything_and_k_of_them_what_an_SVD_does(sae, text):
    stream = sae.stream(text.tokens(ROWS)).reshape(-1, 32)
    every = principal_components(sae, stream, 32)
    np.testing.assert_allclose(every.reconstruct(stream), stream, atol=1e-4)
    centred = (stream - stream.mean(0)).double()
    rest = torch.linalg.svdvals(centred)[6:].pow(2).sum()
    error = (principal_components(sae, stream, 6).reconstruct(stream) - stream).double().pow(2).sum()
    assert float(error) == pytest.approx(float(rest), rel=1e-4)


def test_the_SAE_of_a_shuffled_model_is_as_good_on_that_models_stream_and_no_good_on_this_ones(sae, text):
    stream = sae.stream(text.tokens(ROWS)).reshape(-1, 32)
    other = of_shuffled_model(sae, seed=2).sae
    assert isinstance(other, OfShuffledModel) and other.order.sort().values.tolist() == list(range(32))
    shuffled = stream[:, other.order]
    np.testing.assert_allclose(other.decode(other.encode(shuffled)), sae.reconstruct(stream)[:, other.order], atol=1e-5)
    np.testing.assert_allclose(other.encode(shuffled), sae.encode(stream), atol=1e-5)
    assert (other.encode(stream) - sae.encode(stream)).abs().max() > 0.1
    np.testing.assert_allclose(other.W_dec, sae.sae.W_dec[:, other.order])


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("quantity", ["explained variance", "loss recovered"])
def test_the_margin_is_the_difference_of_the_two_numbers(text, control, quantity):
    numbers = SaeNumbers(text, CARD, seed=1)
    key = quantity.replace(" ", "_")
    ours, theirs = (row_sums(s, text.tokens(ROWS), text.special)[0].numbers() for s in (text.sae, numbers.control(control).sae))
    found = numbers.better_than(control, quantity).take(ROWS)
    assert found.estimate == pytest.approx(ours[key] - theirs[key], rel=1e-4, abs=1e-6)
    assert found.n == ROWS


def test_numbers_by_the_cards_names(text, subject, tmp_path):
    numbers = SaeNumbers(text, CARD, seed=1)
    assert numbers.of("L0").take(ROWS).estimate == text.l0().take(ROWS).estimate
    assert numbers.of("KL divergence").take(ROWS).quantity == "KL divergence"
    with pytest.raises(KeyError, match="unknown control 'a better one'"):
        numbers.control("a better one")
    with pytest.raises(Untested, match="has no table 'sae_L0'"):
        numbers.published("L0")
    topk = load_sae(tiny_sae_folder(tmp_path / "k", architecture="topk", metadata={"residual_stream": "centred"}), subject)
    with pytest.raises(Untested, match="as many active features as it is built for"):
        SaeNumbers(text.on(topk), CARD, seed=1).of("L0")


def test_every_meaning_that_predicts_something_predicts_words_that_there_are(features):
    for name, meaning in MEANINGS.items():
        if meaning.predicts is not None:
            assert len(meaning.predicts(features.lexicon)) >= 8, name


def test_a_shuffled_control_is_put_to_what_is_said_of_the_one_that_it_stands_for(features, sae):
    from circuit_claims.cards.bases import MEASURED_ELSEWHERE, RE_MEASURED
    from circuit_claims.cards.schema import Published
    from circuit_claims.fixtures.sae import _shuffled, original
    from circuit_claims.sae.card_rows import for_sae, name_of

    control = _shuffled(sae)
    assert name_of(control) == sae.facts["sae"] != control.facts["sae"]
    value = Published("k", 1.0, None, None, "share", "me", basis=RE_MEASURED, card="mini")
    assert for_sae(value, sae) is value and for_sae(value, control).basis == MEASURED_ELSEWHERE
    assert for_sae(value, control).card == f"the SAE {sae.facts['sae']}"
    assert control.architecture == sae.architecture
    vectors = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    assert (control.reconstruct(vectors) - sae.reconstruct(vectors)).abs().max() > 0.1
    assert [original(name) for name in ("shuffled", "shuffled:a/b", "a/b", None)] == [None, "a/b", "a/b", None]
