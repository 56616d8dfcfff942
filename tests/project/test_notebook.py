"""`import circuit_claims as cc`, as somebody measures in a notebook."""

import subprocess
import sys

import numpy as np
import pytest

import circuit_claims as cc
from circuit_claims.models.subject_error import SubjectError
from tests.support.tiny_models import save_tiny_card, save_tiny_gpt2


@pytest.fixture(scope="module")
def model():
    """The embedded model, as a notebook loads it."""
    return cc.load("mini")


def test_importing_the_library_imports_nothing_else():
    code = (
        "import sys, typing; before = set(sys.modules); import circuit_claims as cc; dir(cc); print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["circuit_claims"]


def test_every_name_is_there():
    assert dir(cc) == sorted(cc.__all__)
    for name in cc.__all__:
        assert getattr(cc, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing_of_the_kind'"):
        cc.nothing_of_the_kind  # noqa: B018


def test_the_lines_that_the_documentation_shows(model):
    ioi = cc.IOI(model)
    sweep = ioi.head_sweep(at="END").take(60)
    assert isinstance(sweep, cc.Grid) and sweep.estimate.shape == (model.card.n_layers, model.card.n_heads)
    brightest = cc.Head(*map(int, np.unravel_index(sweep.estimate.argmax(), sweep.estimate.shape)))
    assert brightest in {head for head, position in model.card.nodes() if position == "END"}
    difference = ioi.logit_difference().take(60)
    assert isinstance(difference, cc.Samples) and difference.n == 60 and difference.estimate > 3
    low, high = difference.mean_interval()
    assert low < difference.estimate < high


def test_a_notebook_shows_a_sweep_as_a_frame_a_figure_and_a_table(model):
    sweep = cc.IOI(model).head_sweep(at="END").take(60)
    low, high = sweep.interval()
    assert low.shape == high.shape == sweep.estimate.shape and (low <= sweep.estimate).all() and (sweep.estimate <= high).all()
    frame = sweep.to_frame()
    assert len(frame) == sweep.estimate.size
    assert sweep.plot().get_axes()
    assert "<table" in sweep._repr_html_()


def test_what_a_notebook_measures_is_what_a_claim_measures(model, mini):
    from circuit_claims.prompts.ioi import Population
    from circuit_claims.tasks.ioi.task import IOI

    claims = IOI(subject=mini, seed=0, chunk=120, population=Population(names=mini.names), prepend_bos=False)
    assert (cc.IOI(model).logit_difference().take(30).values == claims.logit_difference().take(30).values).all()
    assert (cc.IOI(model, seed=1).logit_difference().take(30).values != claims.logit_difference().take(30).values).any()


@pytest.mark.parametrize("make", [cc.GreaterThan, cc.Facts, cc.Induction, cc.Successors])
def test_the_other_tasks_need_no_more_than_a_model(model, make):
    assert make(model).subject is model


def test_a_model_that_no_card_goes_with_can_be_measured(tmp_path):
    folder = save_tiny_gpt2(tmp_path / "nobody", n_layer=2, n_head=2, n_embd=16)
    nobody = cc.load(str(folder), weights="raw")
    assert not nobody.card.families
    assert cc.IOI(nobody).logit_difference().take(30).n == 30
    card = save_tiny_card(tmp_path / "card.toml", n_layer=2, n_head=2)
    assert cc.load(str(folder), card=str(card)).card.families


def test_what_cannot_be_loaded_is_one_sentence(tmp_path):
    for name, card in ((str(tmp_path / "nowhere"), None), ("mini", str(tmp_path / "no.toml"))):
        with pytest.raises(SubjectError) as caught:
            cc.load(name, card=card)
        assert "\n" not in str(caught.value)
