"""Probes of the answer on pairs: what they read, against a plain regression, and what they cannot be put to."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from circuit_claims.prompts.mini_words import CAPITALS
from circuit_claims.prompts.source import number_of
from circuit_claims.prompts.words import NAMES
from circuit_claims.tasks.contrast.task import ContrastTask
from circuit_claims.untested import Untested
from tests.tasks.contrast.capitals import task
from tests.tasks.contrast.plain import Plain

COUNTRIES = list(CAPITALS)[:4]


@pytest.fixture(scope="module")
def shared(exact_mini) -> ContrastTask:
    """Four capitals, each asked behind twelve different sentences, which are the clusters."""
    pairs = [
        {
            "clean": f"{name} was late. The capital of [country: {country}] is",
            "corrupted": f"{name} was late. The capital of [country: {other}] is",
            "answer": CAPITALS[country],
            "foil": CAPITALS[other],
            "cluster": name,
        }
        for name in NAMES[:12]
        for country, other in zip(COUNTRIES, COUNTRIES[1:] + COUNTRIES[:1], strict=True)
    ]
    return task(exact_mini, pairs)


def test_a_probe_is_a_plain_regression_on_other_clusters(shared):
    plain, prompts = Plain(shared.subject), shared.probes().examples()
    names = [f"blocks.{layer}.hook_resid_pre" for layer in (0, 2)]
    streams = {name: [] for name in names}
    for prompt in prompts:
        for name, values in plain.seen(prompt, names).items():
            streams[name].append(values[plain.place(prompt, "country")].numpy().astype(np.float32))
    order = sorted(set(NAMES[:12]), key=number_of)
    part = np.array([order.index(prompt.cluster) % 5 for prompt in prompts])
    answers = np.array([prompt.right[0] for prompt in prompts])
    for name, layer in zip(names, (0, 2), strict=True):
        found, expected = np.stack(streams[name]), np.zeros(len(prompts))
        for held in range(5):
            scaler = StandardScaler().fit(found[part != held])
            probe = LogisticRegression(max_iter=1000).fit(scaler.transform(found[part != held]), answers[part != held])
            here = part == held
            expected[here] = probe.predict(scaler.transform(found[here])) == answers[here]
        assert shared.probes().accuracy(at="country", layer=layer).take(48).values.tolist() == expected.tolist()


def test_the_country_is_read_where_it_stands_and_at_the_end_once_it_has_arrived(shared):
    probes = shared.probes()
    assert probes.chance == 0.25
    assert probes.accuracy(at="country", layer=0).take(48).estimate == 1
    assert probes.accuracy(at="END", layer=0).take(48).estimate <= 0.25
    assert probes.accuracy(at="END", layer=4).take(48).estimate == 1
    drawn = probes.selectivity(at="END", layer=4).take(48)
    assert drawn.estimate > 0.5 and [it["label"] for it in drawn.drawn["curves"]] == ["probe", "control task"]


def test_dealt_answers_cannot_be_read(shared):
    assert shared.on(dealt=True).probes().accuracy(at="country", layer=0).take(48).estimate < 0.5


def test_answers_that_no_clusters_share_cannot_be_told_apart(known):
    with pytest.raises(Untested, match=r"of the \d+ answers in the list of pairs 0 do: give pairs that share answers"):
        known.probes().selectivity(at="END", layer=1)
