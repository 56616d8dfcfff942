"""Counterfactual signals: what the six data sets say, the grid against hooks, and the fit against numpy's least squares."""

import numpy as np
import pytest

from circuit_claims.heads import Head
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.ioi.signals import (
    COUNTERFACTUALS,
    POSITIONS,
    TOKENS,
    fit_error,
    position_coefficient,
    signal,
    token_coefficient,
)
from circuit_claims.tasks.ioi.task import IOI
from tests.support import plain_twins
from tests.support.plain_twins import alone, outputs, plain_difference, put, z_name

N = 4
HEADS = [Head(0, 4), Head(2, 3), Head(3, 0)]
CELLS = [(token, position) for token in TOKENS for position in POSITIONS]

#: The means of figure 12 and appendix A of Wang et al. 2022, in the order of TOKENS and POSITIONS.
PUBLISHED = np.array([[3.55, -0.99], [2.45, -1.96], [1.77, -3.16]])


@pytest.fixture(scope="module", params=[False, True], ids=["no BOS", "BOS"])
def ioi(mini: Subject, request: pytest.FixtureRequest) -> IOI:
    return plain_twins.task(mini, bos=request.param)


def counterfactual(prompt, token: str, position: str):
    change = COUNTERFACTUALS[token, position]
    return prompt.changed(change) if change else prompt


@pytest.mark.parametrize(("token", "position"), CELLS, ids=" and ".join)
def test_each_data_set_says_what_its_name_says(ioi, token, position):
    """Read back from the tokens at the roles' places: who S2 is, and where that name stands first; nothing else differs."""
    assert set(COUNTERFACTUALS) == set(CELLS)
    for prompt in ioi.prompts(12):
        before, after = alone(ioi, prompt), alone(ioi, counterfactual(prompt, token, position))
        where = {role: int(before.positions[role][0]) for role in ("IO", "S1", "S2")}
        names = {role: ioi.subject.tokenizer.decode(after.tokens[0, at]).strip() for role, at in where.items()}
        io, s = prompt.answers
        says = {s: "original S", io: "inverted S"}.get(names["S2"], "random S")
        first = [role for role in ("IO", "S1") if names[role] == names["S2"]]
        assert says == token
        assert first == [{"original position": "S1", "inverted position": "IO"}[position]]
        if token == "random S":
            assert not {io, s} & set(names.values())
        else:
            assert {names["IO"], names["S1"]} == {io, s}
        others = [at for at in range(before.tokens.shape[1]) if at not in where.values()]
        assert (before.tokens[0, others] == after.tokens[0, others]).all()
        assert (before.answers == after.answers).all(), "the logits of the clean names are compared"


@pytest.mark.parametrize("at", ["END", "S2"])
def test_the_grid_is_that_of_hooks(ioi, at):
    grid = ioi.signals(HEADS, at=at).take(N)
    assert list(grid.row_labels) == list(TOKENS) and list(grid.column_labels) == list(POSITIONS) and grid.weights is None
    for i, prompt in enumerate(ioi.prompts(N)):
        clean = alone(ioi, prompt)
        where = int(clean.positions[at][0])
        for token, position in CELLS:
            source = outputs(ioi, alone(ioi, counterfactual(prompt, token, position)))
            hooks = [put(z_name(layer), [(where, head)], source[z_name(layer)]) for layer, head in HEADS]
            cell = grid.values[i, TOKENS.index(token), POSITIONS.index(position)]
            assert cell == pytest.approx(plain_difference(ioi, clean, hooks), abs=1e-4)
    flat = grid.values.reshape(N, -1)
    assert np.abs(flat[:, :, None] - flat[:, None]).max(0)[~np.eye(6, dtype=bool)].min() > 1e-2, "no two data sets agree"


def test_outputs_from_the_original_prompts_change_nothing(ioi):
    grid = ioi.signals(HEADS).take(N)
    assert grid.values[:, 0, 0] == pytest.approx(ioi.logit_difference().take(N).values, abs=1e-4)
    assert signal("original S", "original position")(grid.estimate) == grid.estimate[0, 0]
    assert signal("inverted S", "original position")(grid.estimate) == grid.estimate[2, 0]
    assert signal("random S", "inverted position")(np.stack([grid.estimate] * 2)).tolist() == [grid.estimate[1, 1]] * 2


def test_no_heads_send_no_signals(ioi):
    nobody = ioi.signals([]).take(N).values
    assert nobody == pytest.approx(np.broadcast_to(ioi.logit_difference().take(N).values[:, None, None], (N, 3, 2)), abs=1e-4)


# The fit


def least_squares(means: np.ndarray) -> tuple[float, float, np.ndarray]:
    """LD ≈ a·position + b·token over the six means, without an intercept, as numpy fits it."""
    design = np.array([[p, t] for t in (1, 0, -1) for p in (1, -1)], dtype=float)
    (a, b), *_ = np.linalg.lstsq(design, means.reshape(6), rcond=None)
    return a, b, (design @ [a, b]).reshape(3, 2)


def test_the_published_means_give_the_published_coefficients():
    """Appendix A: LD ≈ 2.31 · position + 0.99 · token, with a mean error of 7 %."""
    assert round(float(position_coefficient(PUBLISHED)), 2) == 2.31
    assert round(float(token_coefficient(PUBLISHED)), 2) == 0.99
    assert [position_coefficient(PUBLISHED), token_coefficient(PUBLISHED)] == pytest.approx(least_squares(PUBLISHED)[:2])
    assert 0.05 < fit_error(PUBLISHED) < 0.08


def test_the_coefficients_are_numpys_least_squares():
    random = np.random.default_rng(0)
    resamples = random.normal(size=(50, 3, 2)) * 3 + random.normal(size=(50, 1, 1))
    a, b, error = position_coefficient(resamples), token_coefficient(resamples), fit_error(resamples)
    for i, means in enumerate(resamples):
        *coefficients, fit = least_squares(means)
        by_hand = sum(abs(m - f) for m, f in zip(means.flat, fit.flat, strict=True)) / 6 / abs(means[0, 0])
        assert [a[i], b[i], error[i]] == pytest.approx([*coefficients, by_hand])


def test_a_made_up_fit_by_hand():
    """Position alone, token alone, both: no error; an intercept is none of the two, and all of it is error."""
    position = np.array([[2.0, -2.0]] * 3)
    token = np.array([[3.0, 3.0], [0.0, 0.0], [-3.0, -3.0]])
    for means, a, b in ((position, 2, 0), (token, 0, 3), (position + token, 2, 3), (position - token, 2, -3)):
        assert (position_coefficient(means), token_coefficient(means)) == (a, b)
        assert fit_error(means) == pytest.approx(0, abs=1e-12)
    assert position_coefficient(np.ones((3, 2))) == token_coefficient(np.ones((3, 2))) == 0
    assert fit_error(np.ones((3, 2))) == 1
    assert fit_error(position + token + 1) == pytest.approx(1 / 6)
