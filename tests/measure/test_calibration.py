"""How often a verdict is wrong, and an interval beside the truth, for every kind of expectation: by simulation, no model.

Each run draws the prompts of a population whose truth is known, and judges them as `expect` does: looks at 30, 120, 240, 480
and 960 prompts that share an error of 5 %, until the interval is clear of the bound. With the bound on the truth every clear
verdict counts as wrong, in either direction; with the bound a little beside it, the verdict that the truth forbids. Templates
share 0.05 of the variance, as those of the embedded model do at most, or 0.3, or nothing; or every prompt is independent.

In so many runs, an error rate of 5 % may come out higher by chance: asked is that what is found lies below the 99.9 % quantile
of that chance. The controls, intervals that are wrong on purpose, do not pass.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from circuit_claims.heads import Head
from circuit_claims.measure.grid_statistics import Statistic, handover_layer, near_zero_share, size_at_head
from circuit_claims.measure.intervals import grid_interval, mean_interval, rate_interval
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.rank_intervals import rank_interval
from circuit_claims.measure.samples import Grid, GridStatistic, Samples
from circuit_claims.tasks.ioi.faithfulness_statistics import smallest_lead_of_BABA
from circuit_claims.tasks.ioi.signals import fit_error, position_coefficient
from circuit_claims.verdicts.budget import Budget
from circuit_claims.verdicts.expect import Expect, Refuted
from circuit_claims.verdicts.look_by_look import verdict_of
from circuit_claims.verdicts.rows import HOLDS, INCONCLUSIVE, REFUTED
from tests.support.paper import Paper

BUDGET = Budget(30, 960)
LOOKS = BUDGET.looks_shared(None)

#: What is drawn: a population's samples or its grid, from a generator; and an interval takes what its own population gives.
Draw = Callable[[np.random.Generator], Any]
#: From samples and a confidence to an interval.
Interval = Callable[[Any, float], tuple[float, float]]
#: The intervals of one run's successive looks.
Ends = list[tuple[float, float]]


def most(runs: int, rate: float = 0.05) -> float:
    """The largest rate of errors that chance makes of `rate` in this many runs (99.9 %)."""
    return float(stats.binom.ppf(0.999, runs, rate)) / runs


def least(runs: int, rate: float) -> float:
    """The smallest coverage that chance makes of `rate` in this many runs (99.9 %)."""
    return float(stats.binom.ppf(0.001, runs, rate)) / runs


# Populations


def templates(n: int, count: int | None) -> list[int]:
    """The template of each prompt, in turn; None for independent prompts."""
    return [i % (count or n) for i in range(n)]


def noise(random: np.random.Generator, n: int, count: int | None, shared: float, *shape: int) -> np.ndarray:
    """Normal numbers of variance 1, `[n, *shape]`, of which `shared` is common to the prompts of a template."""
    common = random.normal(size=(count or n, *shape))[templates(n, count)]
    return np.sqrt(shared) * common + np.sqrt(1 - shared) * random.normal(size=(n, *shape))


def normal(count: int | None, shared: float, n: int = 960) -> Draw:
    """Prompts of mean 0 and variance 1."""
    return lambda random: Samples(noise(random, n, count, shared), "x", "logits", templates(n, count))


def answered(count: int | None, shared: float, rate: float, n: int = 960) -> Draw:
    """Prompts that are answered where a normal number, such as a logit difference, is large enough."""
    edge = stats.norm.isf(rate)

    def draw(random: np.random.Generator) -> Samples:
        values = noise(random, n, count, shared) > edge
        return Samples(values.astype(float), "x", "rate", templates(n, count))

    return draw


def half(count: int | None, shared: float, whole: float, n: int = 960) -> Draw:
    """A half of a whole of this mean and of variance 1; part and whole have half of their noise in common."""

    def draw(random: np.random.Generator) -> Samples:
        of, own = noise(random, n, count, shared), noise(random, n, count, shared)
        part = 0.5 * (whole + np.sqrt(0.5) * (of + own))
        return Samples(part, "x", "share", templates(n, count), weights=whole + of)

    return draw


def sweep(means: np.ndarray, spread: float, count: int | None = 15, n: int = 960) -> Draw:
    """A grid whose cells have these means and this standard deviation; templates share 0.05 of the variance."""

    def draw(random: np.random.Generator) -> Grid:
        values = means + spread * noise(random, n, count, 0.05, *means.shape)
        return Grid(values, "x", "", templates(n, count))

    return draw


def first(samples: Any, n: int) -> Any:
    """The first n prompts, as the same kind of samples."""
    weights = None if samples.weights is None else samples.weights[:n]
    return type(samples)(samples.values[:n], samples.quantity, samples.unit, samples.clusters[:n], weights)


# Judging


def of_mean(samples: Samples, confidence: float) -> tuple[float, float]:
    """As `expect` takes it: a share says nothing before there is a whole to see."""
    if samples.whole is not None and mean_interval(samples.whole, confidence, 0)[0] <= 0:
        return -np.inf, np.inf
    return mean_interval(samples, confidence, 0)


def of_statistic(statistic: Statistic) -> Interval:
    """The interval of a number read off a grid."""
    return lambda grid, confidence: grid_interval(GridStatistic(grid, statistic, "x", ""), confidence, 0)[1:]


def of_rank(heads: Sequence[Head], *, lowest: bool = False) -> Interval:
    """The interval of the worst rank among these heads."""
    return lambda grid, confidence: rank_interval(grid, heads, confidence, lowest=lowest)[1:]


def looked_at(
    runs: int, draw: Draw, interval: Interval, looks: Sequence[int] | None = None, confidence: float | None = None
) -> list[Ends]:
    """Each run's intervals at the successive looks: those of the budget, or others that share the error alike.

    confidence: of every look, in place of its share.
    """
    planned = LOOKS if looks is None else [(n, 1 - 0.05 / len(looks)) for n in looks]
    drawn = (draw(np.random.default_rng([7, run])) for run in range(runs))
    return [[interval(first(samples, n), confidence or own) for n, own in planned] for samples in drawn]


def judged(ends: Ends, low: float, high: float) -> str:
    """The first clear verdict of successive looks."""
    verdicts = (verdict_of(*interval, low, high) for interval in ends)
    return next((verdict for verdict in verdicts if verdict != INCONCLUSIVE), INCONCLUSIVE)


def wrong(looked: list[Ends], truth: float, low: float, high: float) -> float:
    """How often the verdict contradicts the truth; with the truth on a bound, how often there is a verdict at all."""
    verdicts = [judged(ends, low, high) for ends in looked]
    if truth in (low, high):
        return 1 - verdicts.count(INCONCLUSIVE) / len(verdicts)
    return verdicts.count(REFUTED if low < truth < high else HOLDS) / len(verdicts)


def worst(looked: list[Ends], truth: float, little: float, *, on: bool = True) -> float:
    """The largest rate of wrong verdicts of above, below, near and between, with the bound on the truth and beside it.

    on: try the truth itself as a bound; of a number that comes in steps, a verdict there may be right.
    """
    bounds = []
    for bound in (truth - little, *([truth] if on else []), truth + little):
        bounds += [(bound, np.inf), (-np.inf, bound), (bound, bound + 10 * little), (bound - 10 * little, bound)]
    return max(wrong(looked, truth, *ends) for ends in bounds)


def covered(runs: int, draw: Draw, interval: Interval, truth: float) -> float:
    """How often the 95 % interval of a single look covers the truth."""
    found = (interval(draw(np.random.default_rng([11, run])), 0.95) for run in range(runs))
    return sum(low <= truth <= high for low, high in found) / runs


#: One of each kind but those that are raced (tests/measure/test_races.py): the population, how intervals are taken here, what
#: is said to `expect`, and the bounds that it means.
SAID: dict[str, tuple[Draw, Interval, Callable[[Any], None], tuple[float, float]]] = {
    "above": (normal(15, 0.05), of_mean, lambda it: it.above(0.1), (0.1, np.inf)),
    "below": (normal(15, 0.05), of_mean, lambda it: it.below(0.1), (-np.inf, 0.1)),
    "near": (normal(15, 0.05), of_mean, lambda it: it.near(0.3, within=0.2), (0.1, 0.5)),
    "between": (normal(15, 0.05), of_mean, lambda it: it.between(-0.4, 0.3), (-0.4, 0.3)),
    "rate at least": (answered(15, 0.05, 0.9), rate_interval, lambda it: it.rate_at_least(0.88), (0.88, np.inf)),
    "rate at most": (answered(15, 0.05, 0.9), rate_interval, lambda it: it.rate_at_most(0.88), (-np.inf, 0.88)),
    "share": (half(15, 0.05, 0.5), of_mean, lambda it: it.above(0.4), (0.4, np.inf)),
}


@pytest.mark.parametrize("kind", SAID)
def test_the_simulation_judges_as_expect_does(kind):
    """The short cut below, intervals first and bounds afterwards, comes to the verdict of `expect` itself."""
    draw, interval, say, bounds = SAID[kind]
    looked, found = looked_at(12, draw, interval), set()
    for run, ends in enumerate(looked):
        samples, paper = draw(np.random.default_rng([7, run])), Paper()
        measurement = Measurement(lambda n, samples=samples: first(samples, n), prepend_bos=False)
        try:
            say(Expect(paper, BUDGET, seed=0)(measurement))
        except Refuted:
            assert paper.rows[-1].verdict == REFUTED
        assert paper.rows[-1].verdict == judged(ends, *bounds)
        found.add(paper.rows[-1].verdict)
    assert found - {INCONCLUSIVE}


# Wrong verdicts


@pytest.mark.parametrize(("count", "shared"), [(15, 0.0), (15, 0.05), (15, 0.3), (9, 0.05), (5, 0.05)])
def test_verdicts_on_a_mean(count, shared):
    """Above, below, near and between: templates that agree, that differ, that differ a lot, and few of them."""
    assert worst(looked_at(600, normal(count, shared), of_mean), 0.0, 0.02) <= most(600)


def test_verdicts_on_a_mean_of_independent_prompts():
    looks = [16, 32, 64, 128]
    assert worst(looked_at(400, normal(None, 0.0, 128), of_mean, looks), 0.0, 0.04) <= most(400)


@pytest.mark.parametrize(("shared", "rate"), [(0.0, 0.5), (0.05, 0.98), (0.1, 0.9), (0.3, 0.5), (0.3, 0.9)])
def test_verdicts_on_a_rate(shared, rate):
    """Rate at least and at most: Clopper-Pearson's interval is conservative, so there is room below 5 %."""
    assert worst(looked_at(500, answered(15, shared, rate), rate_interval), rate, 0.005) <= most(500)


@pytest.mark.parametrize(("count", "shared", "whole"), [(15, 0.05, 0.3), (15, 0.3, 1.0), (5, 0.05, 0.5)])
def test_verdicts_on_a_share(count, shared, whole):
    """A ratio of means, of a whole that 120 prompts hardly tell from zero; of templates that differ a lot; of few."""
    assert worst(looked_at(400, half(count, shared, whole), of_mean), 0.5, 0.02) <= most(400)


def leading(lead: float, leaders: int, cells: int = 32) -> np.ndarray:
    """The means of a sweep in which the first few cells lead a crowd of equals."""
    return np.array([[lead] * leaders + [0.0] * (cells - leaders)])


@pytest.mark.parametrize("lead", [1e-9, 0.05])
@pytest.mark.parametrize("leaders", [1, 3])
def test_verdicts_on_ranks(lead, leaders):
    """Cells that truly lead a crowd, by a hair or by a little, are not refuted; and the next cell is not said to be one."""
    leads, behind = [Head(0, i) for i in range(leaders)], [Head(0, i) for i in range(leaders + 1)]
    looked = looked_at(200, sweep(leading(lead, leaders), 1.0), of_rank(leads))
    assert wrong(looked, leaders - 0.5, 0, leaders) <= most(200)
    looked = looked_at(200, sweep(leading(lead, leaders), 1.0), of_rank(behind))
    assert wrong(looked, leaders + 1, 1, leaders) <= most(200)


def test_verdicts_on_the_last_place_of_many():
    """A cell that truly stands behind eight others, each by a hair, is not said to be among the first eight."""
    looked = looked_at(300, sweep(np.array([[1e-9] * 8 + [0.0] + [-2.0] * 23]), 1.0), of_rank([Head(0, 8)]))
    assert wrong(looked, 9, 1, 8) <= most(300)


SIGNALS = np.array([[3.5, -1.0], [2.0, -2.4], [1.2, -3.3]])
SPARSE = np.where(np.arange(32).reshape(4, 8) % 11 == 5, 0.5, 0.0)
HANDOVER = np.stack([np.zeros(8), np.linspace(1, 0, 8), np.zeros(8), np.linspace(1, 0, 8), np.linspace(0, 1, 8)], axis=1)

#: Numbers read off a grid, the means of its cells, how much the prompts vary, and how far beside the truth bounds are tried.
STATISTICS: dict[str, tuple[Statistic, np.ndarray, float, float]] = {
    "a coefficient": (position_coefficient, SIGNALS, 3.0, 0.02),
    "the mean error of a fit": (fit_error, SIGNALS, 3.0, 0.005),
    "a size above its noise": (size_at_head((0, 0)), np.array([[0.2]]), 1.0, 0.02),
    "a size in its noise": (size_at_head((0, 0)), np.array([[0.03]]), 1.0, 0.01),
    "a share of cells": (near_zero_share(0.25), SPARSE, 1.0, 0.01),
    "a layer": (handover_layer("S2", "END"), HANDOVER, 1.0, 0.5),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_verdicts_on_a_number_read_off_a_grid(name):
    statistic, means, spread, little = STATISTICS[name]
    truth, looked = float(statistic(means)), looked_at(200, sweep(means, spread), of_statistic(statistic))
    found = worst(looked, truth, little, on=name not in ("a share of cells", "a layer"))
    assert found <= most(200)


def test_verdicts_on_the_smallest_of_fifteen():
    """The smallest lead over templates, of 50 independent prompts each: the minimum of noisy numbers is biased downwards."""
    leads = np.linspace(0.1, 0.8, 15)
    means = np.stack([np.full(15, 2.0), np.full(15, 4.0), 2.0 + 4.0 * leads, np.full(15, 4.0)], axis=1)
    looked = looked_at(200, sweep(means, 1.0, None, 50), of_statistic(smallest_lead_of_BABA), [50])
    assert worst(looked, 0.1, 0.03) <= most(200)


# Coverage of a single look


CONTINUOUS: dict[str, tuple[Draw, float]] = {
    "two prompts a template": (normal(15, 0.05, 30), 0.0),
    "templates of unequal size": (normal(15, 0.3, 500), 0.0),
    "20 independent prompts": (normal(None, 0.0, 20), 0.0),
    "five templates": (normal(5, 0.05, 120), 0.0),
    "three templates": (normal(3, 0.3, 120), 0.0),
    "a share of a weak whole": (half(15, 0.05, 0.5, 120), 0.5),
    "a share, five templates": (half(5, 0.05, 1.0, 120), 0.5),
}


@pytest.mark.parametrize("cell", CONTINUOUS)
def test_a_mean_or_share_is_covered_as_stated(cell):
    """Between 93 and 97 % over 1,000 runs."""
    draw, truth = CONTINUOUS[cell]
    assert 0.93 <= covered(1000, draw, of_mean, truth) <= 0.97


@pytest.mark.parametrize(
    ("shared", "rate", "n"), [(0.0, 0.5, 120), (0.0, 0.98, 960), (0.1, 0.5, 960), (0.1, 0.9, 120), (0.3, 0.8, 960)]
)
def test_a_rate_is_covered_at_least_as_stated(shared, rate, n):
    assert covered(1000, answered(15, shared, rate, n), rate_interval, rate) >= 0.93


def test_a_rank_is_covered_at_least_as_stated():
    """Of cells that rise by steps of a standard error, every rank."""
    for place in (0, 7, 15):
        draw = sweep(np.arange(16.0)[None, ::-1] / 8, 1.0, n=120)
        assert covered(200, draw, of_rank([Head(0, place)]), place + 1) >= least(200, 0.95)


@pytest.mark.parametrize("name", STATISTICS)
def test_a_number_read_off_a_grid_is_covered_at_least_as_stated(name):
    statistic, means, spread, _ = STATISTICS[name]
    assert covered(250, sweep(means, spread, n=480), of_statistic(statistic), float(statistic(means))) >= least(250, 0.95)


# Controls: what is wrong on purpose is found out


def by_prompts(samples: Samples, confidence: float) -> tuple[float, float]:
    """A textbook interval that ignores the templates."""
    reach = stats.norm.isf((1 - confidence) / 2) * samples.values.std() / np.sqrt(samples.n)
    return samples.estimate - reach, samples.estimate + reach


def by_resampling_alone(statistic: Callable[[np.ndarray], np.ndarray]) -> Interval:
    """The percentile bootstrap over templates of `statistic`, and nothing else."""

    def interval(samples: Samples | Grid, confidence: float) -> tuple[float, float]:
        clusters = np.array(samples.clusters)
        means = np.stack([samples.values[clusters == name].mean(0) for name in sorted(set(samples.clusters))])
        drawn = np.random.default_rng(0).integers(0, len(means), (1000, len(means)))
        low, high = np.quantile(statistic(means[drawn].mean(1)), [(1 - confidence) / 2, (1 + confidence) / 2])
        return float(low), float(high)

    return interval


def test_an_interval_that_ignores_the_templates_is_found_out():
    assert worst(looked_at(200, normal(15, 0.3), by_prompts), 0.0, 0.02) > 0.5
    assert not 0.93 <= covered(200, normal(15, 0.3), by_prompts, 0.0) <= 0.97


def test_looks_that_are_not_paid_for_are_found_out():
    """With 95 % at every look, the verdicts that 5 % may miss are missed by twice as many."""
    looked = looked_at(500, normal(15, 0.0), of_mean, confidence=0.95)
    assert worst(looked, 0.0, 0.02) > most(500)


def test_resampling_few_templates_alone_is_found_out():
    assert worst(looked_at(200, normal(5, 0.05), by_resampling_alone(np.asarray)), 0.0, 0.02) > most(200)


def test_a_rate_that_ignores_the_templates_is_found_out():
    def independent(samples: Samples, confidence: float) -> tuple[float, float]:
        return rate_interval(Samples(samples.values, "x", "rate", range(samples.n)), confidence)

    assert worst(looked_at(200, answered(15, 0.1, 0.5), independent), 0.5, 0.005) > most(200)


def test_resampled_ranks_are_found_out():
    """A true "among the top 3" of a crowd of equals is refuted more often than not."""

    def worst_of_three(means: np.ndarray) -> np.ndarray:
        return 1 + np.max([(means[:, 0] > means[:, :1, head]).sum(-1) for head in range(3)], axis=0)

    looked = looked_at(60, sweep(leading(1e-9, 3), 1.0), by_resampling_alone(worst_of_three))
    assert wrong(looked, 2.5, 0, 3) > 0.5
