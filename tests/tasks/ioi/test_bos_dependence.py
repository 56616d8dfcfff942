"""A model of which IO is above S with BOS and below without: the run says so in one line, and says nothing of others."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from circuit_claims.prompts.ioi import Population
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.ioi.bos_dependence import PROMPTS, sign_by_bos
from circuit_claims.tasks.ioi.task import IOI
from tests.support.bos_models import save_depending_on_bos
from tests.support.claim_projects import claimed
from tests.support.tiny_models import save_tiny_card

CLAIM = '''
def test_a(ioi, expect):
    """The mean logit difference is some number."""
    expect(ioi.logit_difference(), "made up").above(-1000)

def test_b(ioi, expect):
    """And another number."""
    expect(ioi.logit_difference(), "made up").below(1000)
'''
OTHER = '''
def test_a(subject, expect):
    """Twos lie above one."""
    expect(sizes(2, 2), "made up").above(1)
'''


def task(folder, **strengths) -> IOI:
    """The task on a model that copies with these strengths."""
    save_depending_on_bos(folder, **strengths)
    card = save_tiny_card(folder.parent / f"{folder.name}.toml", n_layer=1, n_head=2)
    subject = Subject(prepare(Settings(str(folder), card=str(card), mode="raw", device="cpu")))
    return IOI(subject=subject, seed=0, chunk=PROMPTS, population=Population(names=subject.names), prepend_bos=False)


@pytest.mark.parametrize(
    ("strengths", "with_bos", "without"),
    [({}, "above", "below"), ({"with_bos": 0.5, "without": -1.0}, "below", "above")],
)
def test_a_sign_that_depends_on_bos_is_said_with_both_means(tmp_path, strengths, with_bos, without):
    ioi = task(tmp_path / "model", **strengths)
    means = [replace(ioi, prepend_bos=bos).logit_difference().take(PROMPTS).estimate for bos in (True, False)]
    assert (means[0] > 0) is (with_bos == "above") and means[0] * means[1] < 0
    first, second = (f"{mean:.1f}".replace("-", "−") for mean in means)
    said = (
        f"IO is {with_bos} S with BOS (mean logit difference {first}) and {without} without ({second}): results depend on --bos"
    )
    assert sign_by_bos(ioi) == sign_by_bos(replace(ioi, prepend_bos=True)) == said


@pytest.mark.parametrize("strengths", [{"with_bos": -0.5, "without": -1.0}, {"with_bos": 0.5, "without": 1.0}])
def test_a_sign_that_is_the_same_is_not_mentioned(tmp_path, strengths):
    assert sign_by_bos(task(tmp_path / "model", **strengths)) == ""


def test_nothing_is_said_of_noise(random_subject):
    """Without an interval to tell a sign by, some seed of noise would differ in it."""
    for seed in range(8):
        ioi = IOI(random_subject, seed, PROMPTS, Population(names=random_subject.names), prepend_bos=False)
        assert sign_by_bos(ioi) == ""


def test_the_embedded_model_answers_alike_with_bos_and_without(mini):
    assert sign_by_bos(IOI(mini, 0, PROMPTS, Population(names=mini.names), prepend_bos=False)) == ""


def test_no_room_for_bos_or_no_such_token_is_no_error(tmp_path):
    ioi = task(tmp_path / "model")
    (longest,) = {max(batch.tokens.shape[1] for batch in ioi.batches(ioi.prompts(PROMPTS)))}
    subject = ioi.subject
    with_room, without = (
        SimpleNamespace(choice=SimpleNamespace(engine=SimpleNamespace(n_ctx=context)), **_of(subject))
        for context in (longest + 1, longest)
    )
    assert sign_by_bos(replace(ioi, subject=with_room)) and not sign_by_bos(replace(ioi, subject=without))
    mute = SimpleNamespace(**_of(subject) | {"tokenizer": SimpleNamespace(bos_token_id=None)})
    assert sign_by_bos(replace(ioi, subject=mute)) == ""


def _of(subject: Subject) -> dict:
    return {key: getattr(subject, key) for key in ("tokenizer", "device", "last_logits", "names", "name")}


@pytest.mark.parametrize("arguments", [(), ("-n", "1")], ids=["one process", "a worker"])
def test_the_run_says_it_once_on_the_terminal_and_at_the_top_of_the_report(project, tmp_path, arguments):
    ioi = task(tmp_path / "model")
    card = tmp_path / "model.toml"
    given = (f"--subject={tmp_path / 'model'}", f"--card={card}", "--weights=raw", "--prompts=30", *arguments)
    result, rows = claimed(project, CLAIM, *given)
    said = sign_by_bos(ioi)
    assert len(rows) == 2 and result.outlines.count(said) == 1, result.outlines
    report = json.loads((project.path / "report" / "claims.json").read_text(encoding="utf-8"))
    assert report["meta"]["warnings"] == [f"{said}."]


@pytest.mark.parametrize("claim", [OTHER], ids=["no claim of IOI"])
def test_nothing_is_measured_where_no_claim_asks_for_ioi(project, tmp_path, claim):
    task(tmp_path / "model")
    card = tmp_path / "model.toml"
    result, _ = claimed(project, claim, f"--subject={tmp_path / 'model'}", f"--card={card}", "--weights=raw")
    assert not [line for line in result.outlines if "depend on --bos" in line]
