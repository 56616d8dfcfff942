"""Probes: what is held out, whose activations they read, and that they read nothing where there is nothing."""

import numpy as np
import pytest
import torch

from circuit_claims.measure.presuppositions import why_nothing
from circuit_claims.prompts.ioi import Population
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.ioi.task import IOI
from circuit_claims.tasks.probing.task import FOLDS, IDENTITIES, PROMPTS, Examples, Probes, by_template, held_out
from circuit_claims.untested import Untested
from tests.support.plain_twins import alone, plain_cache


def probes_on(subject: Subject, bos: bool = False) -> Probes:
    return Probes(IOI(subject=subject, seed=0, chunk=120, population=Population(names=subject.names), prepend_bos=bos))


@pytest.fixture(scope="module")
def probes(mini) -> Probes:
    return probes_on(mini)


@pytest.fixture(scope="module")
def noise() -> Probes:
    return probes_on(Subject(prepare(Settings(name="random:mini"))))


def parts(examples: Examples):
    return [[p for p, part in zip(examples.prompts, examples.part, strict=True) if part == k] for k in range(FOLDS)]


@pytest.mark.parametrize("task", ["position", "duplication"])
def test_no_name_of_a_prompt_stands_in_another_part(probes, task):
    examples = probes.examples(task)
    said = [{name for prompt in part for _, name in prompt.cast} for part in parts(examples)]
    assert len(examples.prompts) == PROMPTS and all(len(names) >= 8 for names in said)
    assert sum(map(len, said)) == len(set.union(*said))
    for part in range(FOLDS):  # labels are as frequent in every part
        assert abs(examples.labels[examples.part == part].mean() - 0.5) < 0.03


def test_names_are_told_apart_on_templates_held_out(probes):
    examples = probes.examples("identity")
    templates = [{prompt.template for prompt in part} for part in parts(examples)]
    assert sum(map(len, templates)) == len(set.union(*templates)) == 15
    assert set(examples.labels) == set(range(IDENTITIES))
    by_label = {(label, dict(prompt.cast)["S2"]) for label, prompt in zip(examples.labels, examples.prompts, strict=True)}
    assert len(by_label) == IDENTITIES, "a label is a name"


def test_labels_say_what_they_should(probes):
    position, duplication = probes.examples("position"), probes.examples("duplication")
    for prompt, label in zip(position.prompts, position.labels, strict=True):
        (first, *_) = sorted(prompt.spans, key=lambda span: span[1])
        assert label == (first[0] == "IO"), "ABBA: IO is named first"
    for prompt, unchanged, label in zip(*duplication[:3], strict=True):
        cast = dict(prompt.cast)
        assert label == (cast["S2"] in (cast["S1"], cast["IO"]))
        assert (prompt == unchanged) == bool(label) and prompt.answers == unchanged.answers


@pytest.mark.parametrize("task", ["identity", "duplication"])
@pytest.mark.parametrize("bos", [False, True])
def test_streams_are_the_bridges(mini, task, bos):
    probes = probes_on(mini, bos)
    prompts = probes.examples(task).prompts
    for at in ("S2", "END"):
        streams = probes._streams(task, at)
        assert streams.shape == (5, PROMPTS, 128)
        for i in (0, 7, PROMPTS - 1):
            batch = alone(probes.ioi, prompts[i])
            cache, place = plain_cache(probes.ioi, batch), int(batch.positions[at][0])
            expected = [cache[f"blocks.{layer}.hook_resid_pre"][0, place] for layer in range(4)]
            expected.append(cache["blocks.3.hook_resid_post"][0, place])
            assert streams[:, i] == pytest.approx(torch.stack(expected).numpy(), abs=1e-4)


def made_up(seed: int = 0):
    random = np.random.default_rng(seed)
    part, labels = np.repeat(np.arange(4), 50), random.permuted(np.tile([0, 1], (4, 25)), axis=1).ravel()
    return random, random.normal(size=(200, 40)), labels, part


def test_a_direction_is_read_and_noise_is_not():
    random, activations, labels, part = made_up()
    assert abs(held_out(activations, labels, part).mean() - 0.5) < 0.15
    assert held_out(activations + 8 * labels[:, None] * random.normal(size=40), labels, part).mean() > 0.98


def test_what_is_learned_of_one_part_alone_is_of_no_use():
    """Activations give away which part a prompt is of and, by a direction of that part's own, its label."""
    seen, unseen = [], []
    for seed in range(8):
        random, activations, labels, part = made_up(seed)
        own = np.linalg.qr(random.normal(size=(40, 8)))[0].T.reshape(4, 2, 40)
        activations = 0.1 * activations + 3 * own[part, labels]
        seen.append(held_out(activations, labels, np.arange(200) % 4).mean())
        unseen.append(held_out(activations, labels, part).mean())
    assert min(seen) > 0.95, "where every part is seen, it is read"
    assert abs(np.mean(unseen) - 0.5) < 0.12


def test_a_prompt_that_is_held_out_changes_no_probe():
    """Neither by its label nor by its size: what is standardised is standardised by what was seen."""
    _, activations, labels, part = made_up()
    before = held_out(activations, labels, part)
    changed, others = activations.copy(), labels.copy()
    changed[0] *= 1000
    after = held_out(changed, labels, part)
    assert (after[1:50] == before[1:50]).all(), "its fellows that are held out with it"
    others[0] = 1 - others[0]
    assert (held_out(activations, others, part)[1:50] == before[1:50]).all()


def test_the_probe_is_the_regression_written_out():
    """Standardised by hand, and fitted by plain gradient descent on the same penalised loss."""
    _, activations, labels, part = made_up(3)
    activations = activations[:, :5] + labels[:, None]
    right = held_out(activations, labels, part)
    for held in range(4):
        seen = part != held
        mean, deviation = activations[seen].mean(0), activations[seen].std(0)
        x = torch.tensor((activations - mean) / deviation)
        y, weights = torch.tensor(labels[seen], dtype=torch.float64), torch.zeros(6, dtype=torch.float64, requires_grad=True)
        for _ in range(3000):
            logits = x[seen] @ weights[:5] + weights[5]
            loss = (
                torch.nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="sum")
                + 0.5 * (weights[:5] ** 2).sum()
            )
            (gradient,) = torch.autograd.grad(loss, weights)
            weights = (weights - 0.005 * gradient).detach().requires_grad_()
        said = (x @ weights[:5] + weights[5]).detach().numpy() > 0
        assert ((said == labels)[~seen] == right[~seen]).all()


@pytest.mark.parametrize("which", ["probes", "noise"])
@pytest.mark.parametrize("task", ["position", "duplication"])
def test_embeddings_say_nothing_of_what_stood_before(which, task, request):
    """Of whatever weights: at S2 and at END alike."""
    probes = request.getfixturevalue(which)
    for at in ("S2", "END"):
        assert abs(probes._right(task, at, 0).mean() - 0.5) < 0.12
        assert abs(probes.selectivity(task, at=at, layer=0).take(PROMPTS).estimate) < 0.15


def test_mini_tells_END_who_S_is_and_where(probes):
    assert probes._right("identity", "END", 1).mean() > 0.95 and probes._right("position", "END", 3).mean() > 0.95
    assert probes._right("identity", "END", 0).mean() < 0.35
    for control in (probes._right(task, "END", 3, control=True) for task in ("position", "duplication")):
        assert abs(control.mean() - 0.5) < 0.12


def test_selectivity_is_accuracy_less_that_on_the_control_task(probes):
    before, after = (probes.selectivity("position", at="END", layer=layer).take(PROMPTS) for layer in (1, 3))
    right, control = (probes._right("position", "END", 3, control=dealt) for dealt in (False, True))
    assert after.estimate == pytest.approx(right.mean() - control.mean())
    gain = probes.gain("position", at="END", first=1, last=2).take(PROMPTS)
    assert gain.values == pytest.approx(after.values - before.values) and gain.estimate > 0.3
    few = probes.gain("position", at="END", first=1, last=2).take(50)
    assert few.values == pytest.approx(gain.values[:50]) and list(few.clusters) == list(gain.clusters[:50])
    assert [prompt.template for prompt in gain.prompts] == list(gain.clusters)
    assert probes.readable("position") == 0.25 and probes.readable("identity") == pytest.approx(0.5 * 7 / 8)


@pytest.mark.parametrize("task", ["position", "duplication"])
def test_a_gain_presupposes_the_task(probes, task):
    """The logit difference of the prompt itself, or of the one that p_ABC's was made from."""
    gain = probes.gain(task, at="END", first=1, last=2).take(PROMPTS)
    gained = probes.gained(task, at="END", first=1, last=2, more_than=0.1).take(PROMPTS)
    assert gained.values == pytest.approx(gain.values - 0.1)
    assert gained.whole.values == pytest.approx(gain.whole.values) and gained.whole.shown.what == "IO is preferred"
    examples = probes.examples(task)
    unchanged = dict(zip(map(str, examples.prompts), examples.unchanged, strict=True))
    (batch,) = [alone(probes.ioi, unchanged[str(gain.prompts[5])])]
    assert gain.whole.values[5] == pytest.approx(float(probes.ioi.value_of(batch)[0]), abs=1e-3)


def test_noise_tells_END_who_S_is_but_does_not_do_the_task(noise):
    """Which is why it is presupposed."""
    gain = noise.gain("identity", at="END", first=0, last=0).take(PROMPTS)
    assert gain.estimate > 0.3 and abs(gain.whole.estimate) < 0.5
    gained = noise.gained("identity", at="END", first=0, last=0, more_than=0.1).take(PROMPTS)
    assert gained.estimate > 0 and "the model does not do the task" in why_nothing(gained.presupposed, 0.95, 0)


def test_curves_are_accuracies_with_intervals_over_templates(probes):
    drawn = probes.selectivity("position", at="END", layer=3).take(PROMPTS).drawn
    probe, control = drawn["curves"]
    assert drawn["x"] == ["0", "1", "2", "3", "end"] and (probe["label"], control["label"]) == ("probe", "control task")
    templates = [prompt.template for prompt in probes.examples("position").prompts]
    right = probes._right("position", "END", 3)
    of_template = [right[np.array(templates) == template].mean() for template in range(15)]
    assert probe["values"][3] == pytest.approx(np.mean(of_template), abs=1e-4)
    assert by_template(right[:, None], templates)[:, 0] == pytest.approx(of_template)


def test_what_cannot_be_probed_is_untested_or_refused(mini):
    few = Probes(IOI(subject=mini, seed=0, chunk=9, population=Population(names=mini.names[:15]), prepend_bos=False))
    with pytest.raises(Untested, match="15 names are too few to hold some out: give at least 16"):
        few.examples("position")
    fewer = Probes(IOI(subject=mini, seed=0, chunk=9, population=Population(names=mini.names[:7]), prepend_bos=False))
    with pytest.raises(Untested, match="7 names are too few to tell apart"):
        fewer.examples("identity")
    with pytest.raises(ValueError, match="unknown task 'gender': use one of identity, position, duplication"):
        few.examples("gender")  # pyright: ignore[reportArgumentType]  # wrong on purpose
