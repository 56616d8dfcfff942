"""What claims presuppose: that there is something to take a share of, and that the model does the task."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from circuit_claims.discovery.survey import Survey
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.presuppositions import LEAST_OF_SPREAD, why_nothing
from circuit_claims.measure.samples import Grid, Samples, Shown
from circuit_claims.verdicts.budget import Budget
from circuit_claims.verdicts.expect import Expect, Refuted
from circuit_claims.verdicts.rows import HOLDS, REFUTED
from tests.support.paper import Paper

IO = Shown("IO is preferred")


def whole(values: Any, *, shown: Shown | None = IO, exact: bool = False) -> Samples:
    """A logit difference with these values, from fifteen templates."""
    array = np.asarray(values, dtype=float)
    clusters = [i % 15 for i in range(len(array))]
    return Samples(array, "logit difference", "logits", clusters, shown=shown, exact=exact, prompts=range(len(array)))


def spread(mean: float, sd: float, n: int = 960) -> np.ndarray:
    """Values with exactly this mean and standard deviation, normal in shape, in no order."""
    values = np.random.default_rng(0).normal(size=n)
    return mean + sd * (values - values.mean()) / values.std()


def missing(*presupposed: Samples) -> str:
    return why_nothing(presupposed, 0.95, 0)


@pytest.mark.parametrize(
    ("mean", "sd", "does"),
    [
        (3.56, 1.5, True),  # GPT-2 small
        (1.0, 2.0, True),  # a small model that does it, though not well
        (0.11, 2.0, False),  # the planted model without S-inhibition: IO on about half of the prompts
        (0.3, 2.0, False),  # clearly above zero, and so is the rate above one half: 56 % of 960 prompts
        (-1.0, 2.0, False),
    ],
)
def test_a_model_does_the_task_where_the_answer_is_ahead_and_not_by_a_hair(mean, sd, does):
    said = missing(whole(spread(mean, sd)))
    assert (said == "") == does
    if not does:
        assert said.startswith("there is nothing to take a share of, since the model does not do the task: IO is preferred on ")
        assert f"{mean / sd:.2f} of its spread" in said and "of 960 prompts" in said


def test_without_the_floor_more_prompts_would_make_something_of_next_to_nothing():
    """The control: the mean is above zero, and so it passes as what says nothing of a task."""
    next_to_nothing = spread(0.3, 2.0)
    assert missing(whole(next_to_nothing, shown=None)) == "" and missing(whole(next_to_nothing))


def test_a_large_mean_on_few_prompts_is_no_task_that_is_done():
    """On four prompts of ten the model is sure of IO, on the others it slightly prefers S."""
    values = np.tile([5.0, 5.0, 5.0, 5.0, -0.5, -0.5, -0.5, -0.5, -0.5, -0.5], 96)
    assert values.mean() > LEAST_OF_SPREAD * values.std()
    assert "IO is preferred on 40.0%" in missing(whole(values))


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_of_few_published_prompts_all_have_to_be_above_zero(n):
    """So few have no interval above one half, or hardly one; all of them ahead is what can be asked."""
    assert missing(whole([3.0] * n)) == "" and missing(whole([3.0] * n, exact=True)) == ""
    assert n == 1 or missing(whole([4.0] * (n - n // 2) + [-3.0] * (n // 2)))


def test_what_a_corruption_costs_is_judged_alike_and_called_what_it_is():
    cost = whole(spread(0.1, 1.0), shown=Shown("the corruption (ABC) costs some of it", task=False))
    assert missing(cost).startswith("there is nothing to take a share of: the corruption (ABC) costs some of it on ")
    assert "does not do the task" in missing(whole(spread(0.1, 1.0)), cost), "what comes first is said first"


def measured(values: np.ndarray, **shown: Any) -> Measurement:
    return Measurement(lambda n: whole(values[:n], **shown), prepend_bos=False)


@pytest.mark.parametrize(("mean", "verdict"), [(3.0, HOLDS), (0.3, REFUTED)])
def test_shares_of_a_whole_presuppose_it_in_every_form(mean, verdict):
    """As a ratio of means, prompt by prompt, in logits, over a sweep's cells, and of what a corruption costs."""
    paper, part = Paper(), measured(spread(1.0, 0.1), shown=None)
    expect, task = Expect(paper, Budget(120, 960), seed=0), measured(spread(mean, 2.0))
    cost = measured(spread(4.0, 1.0), shown=Shown("it costs", task=False)).presupposing(task)

    def cells(n: int) -> Grid:
        grid = Grid(np.ones((n, 2, 2)), "share", "share", [i % 15 for i in range(n)], weights=spread(4.0, 1.0)[:n])
        return Grid(**{**vars(grid), "denominator": task.take(n)})

    sweep = Measurement(cells, prepend_bos=False, whole=cost)
    for share in (
        part.share_of(task, "a share"),
        part.share_by_prompt_of(measured(np.ones(960)), "a share").presupposing(task),
        part.presupposing(task),
        part.share_of(cost, "a share of what it costs"),
        part.minus(measured(np.zeros(960)), "a loss", "logits").presupposing(task).share_of(part, "a share"),
        sweep.of(lambda means: means[..., 0, 0], "a cell", "share"),
    ):
        if verdict == REFUTED:
            with pytest.raises(Refuted, match="the model does not do the task"):
                expect(share, "a source").above(-100)
        else:
            expect(share, "a source").above(-100)
    assert {row.verdict for row in paper.rows} == {verdict} and len(paper.rows) == 6


def test_what_is_said_of_the_task_itself_presupposes_nothing():
    """That the mean is small, or that little is left of it, is no share."""
    paper = Paper()
    Expect(paper, Budget(120, 960), seed=0)(measured(spread(0.3, 2.0)), "a source").below(1.0)
    assert paper.rows[0].verdict == HOLDS


@pytest.mark.parametrize("first", [60, 960])
@pytest.mark.parametrize(("mean", "does"), [(3.0, True), (0.3, False)])
def test_discovery_seeks_effects_where_claims_would_find_what_they_presuppose(mean, does, first):
    ioi = SimpleNamespace(logit_difference=lambda: measured(spread(mean, 2.0)), seed=0)
    assert Survey(ioi, repeated=None, n=960, first=first).shows_the_task == does  # type: ignore[arg-type]
