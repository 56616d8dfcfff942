"""Measurements of samples, of sweeps and of numbers read off sweeps take the same calls, and in any order."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from circuit_claims.measure.measurement import DEFAULT_PROMPTS, Measurement
from circuit_claims.measure.samples import Grid, GridStatistic, Samples
from circuit_claims.verdicts.budget import Budget
from circuit_claims.verdicts.expect import Expect
from tests.support.paper import Paper

TEMPLATES = 15
CELLS = np.random.default_rng(0).normal(3.0, 1.0, (240, 2, 3))


def clusters(n: int) -> list[int]:
    return [i % TEMPLATES for i in range(n)]


def numbers(mean: float, quantity: str, *, limit: int | None = None) -> Measurement[Samples]:
    drawn = np.random.default_rng(int(10 * abs(mean))).normal(mean, 0.5, 240)
    return Measurement(lambda n: Samples(drawn[:n], quantity, "logits", clusters(len(drawn[:n]))), True, limit)


def sweep() -> Measurement[Grid]:
    return Measurement(lambda n: Grid.of_heads(CELLS[:n], "effect", "logits", clusters(n)), True)


def first_cell(means: np.ndarray) -> np.ndarray:
    return means[..., 0, 0]


WHOLE, TASK, OTHER = numbers(6.0, "the whole"), numbers(5.0, "the task"), numbers(4.0, "another")
FIGURE = {"kind": "curves", "title": "drawn by hand"}
#: What is done to a sweep, each by itself.
STEPS: dict[str, Callable[[Any], Any]] = {
    "of": lambda measured: measured.of(first_cell, "a cell", "share"),
    "presupposing": lambda measured: measured.presupposing(TASK),
    "share_of": lambda measured: measured.share_of(WHOLE, "a cell"),
    "with_distribution": lambda measured: measured.with_distribution(),
}
ORDERS = list(itertools.permutations(STEPS))


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_a_number_read_off_a_sweep_is_the_same_in_any_order(order):
    measured: Any = sweep()
    for step in order:
        measured = STEPS[step](measured)
    taken = measured.take(60)
    assert isinstance(taken, GridStatistic)
    assert (taken.quantity, taken.unit) == ("a cell", "share")
    assert taken.estimate == pytest.approx(CELLS[:60, 0, 0].mean() / WHOLE.take(60).estimate)
    assert {each.quantity for each in taken.presupposed} == {"the task", f"what {taken.grid.quantity} is a share of"}
    assert taken.figure(0, 1)["kind"] == "distribution"
    assert taken.figure(0, 1)["values"] == pytest.approx(CELLS[:60, 0, 0] / WHOLE.take(60).values, rel=1e-4)


@pytest.mark.parametrize("order", list(itertools.permutations(["of", "presupposing", "drawn_as"])), ids=" ".join)
def test_a_figure_of_its_own_is_kept_in_any_order(order):
    measured: Any = sweep()
    for step in order:
        measured = measured.drawn_as(lambda: FIGURE) if step == "drawn_as" else STEPS[step](measured)
    taken = measured.take(60)
    assert taken.figure(None, None) == FIGURE
    assert [each.quantity for each in taken.presupposed] == ["the task"]


@pytest.mark.parametrize("order", list(itertools.permutations(["share_of", "presupposing", "drawn_as"])), ids=" ".join)
def test_a_share_of_samples_is_the_same_in_any_order(order):
    """`whole` presupposes something itself: neither order may forget that, or what the share presupposes."""
    cost = WHOLE.presupposing(OTHER)
    steps = {
        "share_of": lambda measured: measured.share_of(cost, "share"),
        "presupposing": lambda measured: measured.presupposing(TASK),
        "drawn_as": lambda measured: measured.drawn_as(lambda: FIGURE),
    }
    measured = numbers(3.0, "part")
    for step in order:
        measured = steps[step](measured)
    taken = measured.take(60)
    assert taken.estimate == pytest.approx(numbers(3.0, "part").take(60).estimate / WHOLE.take(60).estimate)
    assert {each.quantity for each in taken.presupposed} == {"the task", "another", "what share is a share of"}
    assert taken.drawn == FIGURE


def test_what_was_presupposed_before_still_is():
    taken = numbers(3.0, "part").presupposing(TASK).presupposing(OTHER).presupposing(TASK).take(60)
    assert sorted(each.quantity for each in taken.presupposed) == ["another", "the task"]


def test_take_with_no_number_uses_the_default_budget():
    assert DEFAULT_PROMPTS == 120
    assert numbers(3.0, "x").take().n == 120 and sweep().take().n == 120
    assert numbers(3.0, "x", limit=40).take().n == 40
    assert numbers(3.0, "x", limit=200).take().n == 120
    assert sweep().of(first_cell, "a cell", "logits").presupposing(TASK).take().n == 120


def test_the_row_of_a_number_read_off_a_sweep_has_its_distribution():
    paper = Paper()
    expect = Expect(paper, Budget(60, 60), seed=0)
    expect(sweep().of(first_cell, "a cell", "logits").with_distribution()).above(0)
    assert paper.rows[0].figure["kind"] == "distribution" and paper.rows[0].figure["expected"] == [0, None]


def test_a_sweep_is_no_number():
    for say in (lambda it: it.above(0), lambda it: it.always_above(0.5)):
        with pytest.raises(TypeError, match=r"effect is a sweep and no number: expect \.top\(k\)"):
            say(Expect(Paper(), Budget(60, 60), seed=0)(sweep()))
