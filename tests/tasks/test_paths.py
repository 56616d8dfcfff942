"""Noising and path patching as the task tells them: the right prompts, roles, receivers and signs go to the engine."""

import numpy as np
import pytest

from circuit_claims.heads import Head
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.ioi.task import IOI
from tests.support import plain_twins
from tests.support.plain_twins import alone, outputs, plain_difference, plain_path, put, z_name

N = 3
#: Of every layer one, and one more of the last, both of which are name movers.
SENDERS = [Head(0, 4), Head(1, 2), Head(2, 6), Head(3, 0), Head(3, 3)]
EARLY = [Head(0, 4), Head(1, 2)]
#: In two layers, so that one of them hears more senders than the other.
RECEIVERS = [Head(2, 3), Head(3, 3)]


@pytest.fixture(scope="module", params=[False, True], ids=["no BOS", "BOS"])
def ioi(mini: Subject, request: pytest.FixtureRequest) -> IOI:
    return plain_twins.task(mini, bos=request.param)


def differences(ioi: IOI, senders, n: int = N, **path) -> tuple[np.ndarray, np.ndarray]:
    """Before and after, for each prompt."""
    before, after = zip(*(plain_path(ioi, prompt, senders, **path) for prompt in ioi.prompts(n)), strict=True)
    return np.array(before), np.array(after)


@pytest.mark.parametrize("corruption", ["ABC", "S2 to IO"])
@pytest.mark.parametrize("at", ["END", "S2"])
def test_noise_puts_the_corrupted_prompts_outputs_into_the_clean_one(ioi, at, corruption):
    """The difference is of the clean prompt's names, and the loss is positive where the noise costs some of it."""
    noise = ioi.noise(EARLY, at=at, corruption=corruption)
    clean, noised = [], []
    for prompt in ioi.prompts(N):
        batch, source = alone(ioi, prompt), outputs(ioi, alone(ioi, prompt.changed(corruption)))
        where = int(batch.positions[at][0])
        hooks = [put(z_name(layer), [(where, head)], source[z_name(layer)]) for layer, head in EARLY]
        clean.append(plain_difference(ioi, batch))
        noised.append(plain_difference(ioi, batch, hooks))
    assert noise.value().take(N).values == pytest.approx(noised, abs=1e-4)
    assert noise.change().take(N).values == pytest.approx(np.subtract(clean, noised), abs=1e-4)
    assert np.abs(np.subtract(clean, noised)).max() > 1e-3, "the noise does nothing"


def test_noise_is_of_p_ABC_unless_said_otherwise(ioi):
    said, unsaid = (task.change().take(N).values for task in (ioi.noise(EARLY, corruption="ABC"), ioi.noise(EARLY)))
    other = ioi.noise(EARLY, corruption="S2 to IO").change().take(N).values
    assert (said == unsaid).all() and np.abs(said - other).max() > 1e-3


@pytest.mark.parametrize("corruption", ["ABC", "name swap"])
def test_the_sweep_to_the_logits_is_the_plain_one(ioi, corruption):
    grid = ioi.path_sweep(corruption=corruption).take(N)
    for head in SENDERS:
        before, after = differences(ioi, [head], corruption=corruption)
        assert grid.values[(slice(None), *head)] == pytest.approx(before - after, abs=1e-4), str(head)
        assert grid.weights == pytest.approx(before, abs=1e-4)
        assert grid.estimate[head] == pytest.approx((before - after).mean() / before.mean(), abs=1e-4)
    assert np.abs(grid.estimate).max() > 0.01


@pytest.mark.parametrize(("into", "at"), [("q", "END"), ("q", "S2"), ("k", "S2"), ("v", "S1+1")])
def test_the_sweep_into_receivers_is_the_plain_one(ioi, into, at):
    grid = ioi.path_sweep(to=RECEIVERS, into=into, at=at).take(2)
    moved = 0.0
    for head in SENDERS[:3]:
        before, after = differences(ioi, [head], n=2, to=RECEIVERS, into=into, at=at)
        assert grid.values[(slice(None), *head)] == pytest.approx(before - after, abs=1e-4), str(head)
        moved = max(moved, np.abs(before - after).max())
    assert moved > 1e-3, "no sender moves anything"
    assert np.abs(grid.values[:, 3]).max() < 1e-5, "the last layer speaks to no receiver"


def test_receivers_inputs_and_roles_are_told_apart(ioi):
    """A case in which what the twins agree on would show: other inputs, another role or other receivers change the numbers."""
    said = {"to": RECEIVERS, "into": "v", "at": "S2"}
    one = ioi.path_sweep(**said).take(N).values
    for other in ({"into": "q"}, {"into": "k"}, {"at": "END"}, {"to": RECEIVERS[1:]}, {"corruption": "S2 to IO"}):
        assert np.abs(ioi.path_sweep(**said | other).take(N).values - one).max() > 1e-3, other


@pytest.mark.parametrize(
    "path", [{}, {"to": RECEIVERS, "into": "q"}, {"to": RECEIVERS, "into": "v", "at": "S2", "corruption": "S2 to IO"}], ids=str
)
def test_a_path_from_several_senders_is_the_plain_one(ioi, path):
    measured = ioi.path(EARLY, **path)
    before, after = differences(ioi, EARLY, **path)
    assert measured.value().take(N).values == pytest.approx(after, abs=1e-4)
    assert measured.change().take(N).values == pytest.approx(before - after, abs=1e-4)
    share = measured.share().take(N)
    assert share.estimate == pytest.approx((before - after).mean() / before.mean(), abs=1e-4)
    assert share.values == pytest.approx(before - after, abs=1e-4) and share.weights == pytest.approx(before, abs=1e-4)
    assert np.abs(before - after).max() > 1e-3, "the path carries nothing"


def test_a_path_from_one_sender_is_its_cell_of_the_sweep(ioi):
    for path in ({}, {"to": RECEIVERS, "into": "k", "at": "S2"}):
        grid = ioi.path_sweep(**path).take(N)
        for head in SENDERS:
            assert ioi.path([head], **path).share().take(N).estimate == pytest.approx(grid.estimate[head], abs=1e-5)


def test_the_last_layers_direct_paths_are_their_noise_at_END(ioi):
    """Behind them there is nothing but the last MLP, which both recompute; earlier heads have other ways to the logits."""
    for head in (Head(3, 0), Head(3, 3), Head(3, 7)):
        direct, noise = ioi.path([head]).change().take(N).values, ioi.noise([head]).change().take(N).values
        assert direct == pytest.approx(noise, abs=1e-4)
    early = ioi.path([Head(0, 4)]).change().take(N).values - ioi.noise([Head(0, 4)]).change().take(N).values
    assert np.abs(early).max() > 1e-3


def test_a_sweep_without_heads_is_under_their_knock_out_in_all_passes(ioi):
    """The loss is counted from what is left without them, and shown as a share of the whole model's logit difference."""
    gone = [Head(3, 3), Head(0, 4)]
    grid = ioi.path_sweep_without(gone).take(2)
    for head in SENDERS:
        before, after = differences(ioi, [head], n=2, without=gone)
        assert grid.values[(slice(None), *head)] == pytest.approx(before - after, abs=1e-4), str(head)
        if head in gone:
            assert grid.values[(slice(None), *head)] == pytest.approx(0, abs=1e-5)
    assert grid.weights == pytest.approx(ioi.logit_difference().take(2).values, abs=1e-4)
    assert np.abs(grid.values - ioi.path_sweep().take(2).values).max() > 1e-2
    left = ioi.without([(head, "END") for head in gone]).value().take(2).values
    assert before == pytest.approx(left, abs=1e-4), "the twin's own knock-out is the task's"


def test_what_is_taken_over_is_the_direct_effect_without_the_others_minus_that_with_them(ioi):
    """Joint effects as a share of the whole model's logit difference: positive where heads carry more once others are gone."""
    heads, gone = [Head(3, 0), Head(3, 4), Head(2, 6)], [Head(3, 3), Head(0, 4)]
    before, after = differences(ioi, heads)
    before_without, after_without = differences(ioi, heads, without=gone)
    expected = (before_without - after_without) - (before - after)
    taken_over = ioi.taken_over(heads, from_heads=gone).take(N)
    assert taken_over.values == pytest.approx(expected, abs=1e-4)
    assert taken_over.estimate == pytest.approx(expected.mean() / before.mean(), abs=1e-4)
    assert np.abs(expected).max() > 1e-2
    nobody_gone = ioi.taken_over(heads, from_heads=[]).take(N).values
    assert nobody_gone == pytest.approx(0, abs=1e-5)
    swapped = ioi.taken_over(heads, from_heads=gone, corruption="name swap").take(N).values
    assert np.abs(swapped - expected).max() > 1e-3


def test_paths_run_on_the_changed_prompts_of_a_changed_task(ioi):
    changed = ioi.changed("neutral prefix")
    before, after = differences(changed, EARLY, n=2, to=RECEIVERS, into="v", at="S2")
    lost = changed.path(EARLY, to=RECEIVERS, into="v", at="S2").change().take(2).values
    assert lost == pytest.approx(before - after, abs=1e-4)


def test_what_is_measured_of_a_path_says_which_path_it_is(ioi):
    path = ioi.path([Head(0, 4), Head(1, 2)], to=[Head(3, 0)], into="k", at="S2", corruption="name swap")
    edge = {"senders": ["L0H4", "L1H2"], "receivers": ["L3H0"], "into": "k", "at": "S2", "corruption": "name swap"}
    for measured in (path.value(), path.change(), path.share(), path.remaining()):
        assert measured.take(N).facts == {"edge": edge}, measured
    direct = ioi.path([Head(3, 0)]).share().take(N).facts["edge"]
    assert (direct["receivers"], direct["into"], direct["at"], direct["corruption"]) == ("logits", "", "END", "ABC")
    assert not ioi.logit_difference().take(N).facts
