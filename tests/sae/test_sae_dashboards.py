"""Portraits of features against plain loops over tokens, and the panels of an SAE's numbers against its activations."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from circuit_claims.cards.schema import PublishedTable
from circuit_claims.reports import figures
from circuit_claims.sae.dashboards import BESIDE, BINS, MIDDLE, STRONGEST, WEIGHTS, dashboard, panel
from circuit_claims.sae.features import SaeFeatures
from circuit_claims.sae.loaded import load_sae
from circuit_claims.sae.metrics import SaeNumbers
from circuit_claims.sae.metrics_on_text import SaeText
from circuit_claims.verdicts.rows import plain
from tests.sae.test_sae_features import CARD, NEXT, ROWS, Drawn
from tests.support.tiny_saes import tiny_sae_folder, tiny_subject

FEATURE = 7


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    return tiny_subject(tmp_path_factory.mktemp("subject") / "tiny")


@pytest.fixture(scope="module")
def sae(subject, tmp_path_factory):
    return load_sae(tiny_sae_folder(tmp_path_factory.mktemp("sae"), metadata={"residual_stream": "centred"}), subject)


@pytest.fixture(scope="module")
def features(subject, sae):
    return SaeFeatures(SaeText(sae, Drawn(subject), chunk=ROWS), CARD, seed=3)


@pytest.fixture(scope="module")
def drawn(features):
    return dashboard(features, FEATURE, NEXT, 0.1)


@pytest.fixture(scope="module")
def tokens(features, sae):
    """Every counted token by (row, place): the activation, one prompt at a time, and whether a name comes next."""
    found = {}
    for number, row in enumerate(features.text.tokens(ROWS).tolist()):
        activations = sae.features(torch.tensor([row]))[0, :, FEATURE].tolist()
        for place, token in enumerate(row):
            if token not in features.text.special:
                meant = place + 1 < len(row) and row[place + 1] in features.lexicon.names
                found[number, place] = activations[place], meant
    return found


def test_density_and_histogram_are_counted_by_hand(drawn, tokens):
    active = [(value, meant) for value, meant in tokens.values() if value > 0]
    assert 0 < len(active) < len(tokens) == drawn["tokens"]
    assert drawn["density"] == pytest.approx(len(active) / len(tokens), rel=1e-4)
    bars = drawn["histogram"]
    assert bars["silent"] == pytest.approx(1 - drawn["density"], abs=1e-4)
    largest = max(value for value, _ in active)
    assert len(bars["edges"]) == BINS + 1 and bars["edges"][-1] == pytest.approx(largest, rel=1e-4)
    place = [min(int(BINS * value / largest), BINS - 1) for value, _ in active]
    # A value within a rounding error of an edge may fall to either side of it.
    assert sum(abs(place.count(bar) - count) for bar, count in enumerate(bars["counts"])) <= 2
    assert sum(bars["counts"]) == len(active) and sum(bars["part"]) == sum(meant for _, meant in active) > 0


def test_contexts_are_those_of_the_strongest_tokens_of_different_rows(drawn, tokens, features):
    rows = features.text.tokens(ROWS).tolist()
    by_row = {}
    for (number, place), (value, meant) in tokens.items():
        if value > by_row.get(number, (0.0,))[0]:
            by_row[number] = value, place, meant, number
    expected = sorted(by_row.values(), reverse=True)[:STRONGEST]
    strongest = [context for context in drawn["contexts"] if context["from"] == "strongest"]
    assert len(strongest) == STRONGEST
    decode = features.sae.subject.tokenizer.decode
    for context, (value, place, meant, number) in zip(strongest, expected, strict=True):
        first = max(0, place - BESIDE)
        assert context["at"] == place - first and context["meant"] == meant
        assert context["values"][context["at"]] == pytest.approx(value, rel=1e-4)
        assert len(context["tokens"]) == len(rows[number][first : place + BESIDE + 1])
        assert decode([rows[number][place]]).strip() == context["tokens"][context["at"]].strip()
        for at, shown in enumerate(context["values"]):
            there = tokens.get((number, first + at))
            assert shown is None if there is None else shown == pytest.approx(there[0], rel=1e-3, abs=1e-5)


def test_contexts_from_the_middle_are_those_nearest_to_half_of_the_strongest_in_other_rows(drawn, tokens):
    half = max(value for value, _ in tokens.values()) / 2
    strongest = sorted(((value, row) for (row, _), (value, _) in tokens.items()), reverse=True)
    taken = list(dict.fromkeys(row for _, row in strongest))[:STRONGEST]
    nearest = {}
    for (row, _), (value, _) in sorted(tokens.items(), key=lambda item: abs(item[1][0] - half)):
        if row not in taken and len(nearest) < MIDDLE:
            nearest.setdefault(row, value)
    middle = [context for context in drawn["contexts"] if context["from"] == "middle"]
    found = [context["values"][context["at"]] for context in middle]
    assert found == pytest.approx(sorted(nearest.values(), reverse=True), rel=1e-4)


def test_a_row_is_shown_once_however_often_the_feature_fires_in_it(features, subject):
    story = SaeFeatures(SaeText(features.sae, Drawn(subject), chunk=3), CARD, seed=3)
    active = (features.sae.features(story.text.tokens(3))[..., FEATURE] > 0).sum(-1)
    assert (active > 1).all()
    assert len(dashboard(story, FEATURE, NEXT)["contexts"]) == 3


def test_one_row_said_over_and_over_is_one_context(features, subject):
    class Repeated(Drawn):
        def rows(self, first, n):
            return self.given[:1].repeat(n, 1)

    story = SaeFeatures(SaeText(features.sae, Repeated(subject), chunk=6), CARD, seed=3)
    activations = features.sae.features(story.text.tokens(1))[0, :, FEATURE]
    shown = dashboard(story, FEATURE, NEXT)["contexts"]
    # Every place of the row can be shown once at most, and the row itself stands six times in the text.
    assert 1 <= len(shown) <= min(6, int((activations > 0).sum()))
    assert len({context["at"] for context in shown}) == len(shown) == len({tuple(context["tokens"]) for context in shown})


def test_logit_weights_are_the_direction_through_gain_and_unembedding(drawn, features, sae):
    bridge, model = sae.subject.bridge, sae.subject.transformer.weights()
    direction = sae.sae.W_dec[FEATURE].double()
    gain = model.ln_final[0].double()
    weights = ((direction - direction.mean()) * gain) @ bridge.W_U.double()
    weights = (weights - weights.mean()).tolist()
    order = sorted(range(len(weights)), key=lambda token: -weights[token])
    decode = sae.subject.tokenizer.decode
    for key, wanted in (("raised", order[:WEIGHTS]), ("lowered", order[::-1][:WEIGHTS])):
        assert [token for token, _ in drawn[key]] == [decode([token]) for token in wanted]
        assert [weight for _, weight in drawn[key]] == pytest.approx([weights[token] for token in wanted], rel=1e-3)


def test_it_is_made_of_builtins_once_and_can_be_drawn(drawn, features):
    assert plain(drawn) == drawn == json.loads(json.dumps(drawn))
    assert dashboard(features, FEATURE, NEXT, 0.1) is drawn
    assert not figures.draw(drawn, "a").failure
    with pytest.raises(KeyError, match="unknown meaning 'a verb'"):
        dashboard(features, FEATURE, "a verb")


def test_a_feature_that_never_fires_has_a_portrait_too(features, sae):
    class Silent:
        W_dec = sae.sae.W_dec

        def encode(self, x):
            return torch.zeros(*x.shape[:-1], len(self.W_dec))

    story = SaeFeatures(features.text.on(sae.with_dictionary(Silent(), "silent")), CARD, seed=3)
    found = dashboard(story, FEATURE, NEXT)
    assert found["density"] == 0 and found["contexts"] == [] and sum(found["histogram"]["counts"]) == 0
    drawing = figures.draw(found, "a")
    assert not drawing.failure and drawing.note.startswith("It fires on none of")


def test_tokens_in_a_context_add_up_to_the_text(drawn, features, subject):
    decode = subject.tokenizer.decode
    rows = {decode(row).replace(" ", "") for row in features.text.tokens(ROWS).tolist()}
    for context in drawn["contexts"]:
        said = "".join(context["tokens"]).replace(" ", "")
        assert any(said in row for row in rows)


def test_a_claim_about_a_named_feature_brings_its_portrait_and_says_which_feature_it_is_of(features, sae):
    name = sae.facts["sae"]
    table = PublishedTable(
        "sae_features", (f"{name}: {NEXT}",), ("feature", "threshold", "F1"), ((FEATURE, 0.1, 0.8),), "F1", 0.0, "s"
    )
    effects = replace(table, key="sae_effects", columns=("feature", "threshold", "ablation"))
    named = replace(features, card=replace(CARD, tables={"sae_features": table, "sae_effects": effects})).named(
        f"{name}: {NEXT}"
    )
    samples = named.f1().take(ROWS)
    assert samples.drawn["kind"] == "feature" and samples.drawn["threshold"] == 0.1
    assert samples.estimate == features.f1(NEXT, FEATURE, 0.1).take(ROWS).estimate
    for taken in (samples, named.ablation().take(4), named.steering().take(4)):
        assert taken.facts["sae"] == sae.facts | {"feature": FEATURE, "meaning": NEXT}
    assert named.ablation().take(4).drawn is None
    # The search for features takes F1 of thousands of them: none of these is to be with_dashboard.
    assert features.f1(NEXT, FEATURE, 0.1).take(ROWS).drawn is None


# The autoencoder as a whole


@pytest.fixture(scope="module")
def numbers(features):
    return SaeNumbers(features.text, CARD, seed=1)


def test_the_histogram_of_L0_counts_tokens(numbers, sae):
    text = numbers.text
    counts = []
    for row in text.tokens(ROWS):
        active = (sae.features(row[None])[0] != 0).sum(-1).tolist()
        counts += [n for n, token in zip(active, row.tolist(), strict=True) if token not in text.special]
    for measured in (numbers.l0(), numbers.of("L0")):
        figure = measured.take(ROWS).drawn
        assert figure["edges"][0] < min(counts) < figure["edges"][1] and sum(figure["counts"]) == len(counts)
        low = figure["edges"][:-1]
        step = figure["edges"][1] - low[0]
        expected = [sum(edge < count < edge + step for count in counts) for edge in low]
        assert figure["counts"] == expected
        assert figure["lines"][0]["x"] == pytest.approx(np.mean(counts), rel=1e-4)
    assert not figures.draw(figure, "a").failure


def test_the_histogram_of_firing_rates_has_every_feature_once(numbers):
    rates = numbers.text.firing_rates()
    figure = numbers.of("dead").take(ROWS).drawn
    assert figure == numbers.of("dense").take(ROWS).drawn
    assert sum(figure["counts"]) + figure["apart"]["count"] == len(rates)
    assert figure["apart"]["count"] == int((rates == 0).sum())
    logs = [math.log10(rate) for rate in rates if rate > 0]
    edges = [math.log10(edge) for edge in figure["edges"]]
    near = [sum(low - 1e-9 <= log <= high + 1e-9 for log in logs) for low, high in pairwise(edges)]
    assert all(count <= most for count, most in zip(figure["counts"], near, strict=True))
    assert f"{int((rates > 0.1).sum())} are dense" in figure["remark"]
    assert not figures.draw(figure, "a").failure


def test_training_curves_are_the_records(numbers, sae):
    assert numbers.of("explained variance").take(ROWS).drawn is None  # its record has none
    curve = [
        {"tokens": 10.0, "l0": 3.0, "explained_variance": 0.1, "loss": 2.0, "loss_with_sae": 3.0, "dead": 0.2},
        {"tokens": 30.0, "l0": 2.0, "explained_variance": 0.6, "loss": 2.0, "loss_with_sae": 2.4, "dead": 0.1},
    ]
    trained = replace(numbers, text=numbers.text.on(replace(sae, record={"curve": curve})), store=type(numbers.store)())
    figure = trained.of("explained variance").take(ROWS).drawn
    assert figure["x"] == [10.0, 30.0]
    lines = {line["label"]: line["values"] for one in figure["panels"] for line in one["curves"]}
    assert lines == {
        "explained variance": [0.1, 0.6],
        "loss with the SAE": [3.0, 2.4],
        "loss of the model": [2.0, 2.0],
        "L0": [3.0, 2.0],
        "dead in training": [0.2, 0.1],
    }
    assert not figures.draw(figure, "a").failure
    assert panel(trained, "cosine") is None
