"""Intervals from few prompts: do they miss the truth no more often than they say, from the least number of prompts on?

By simulation: prompts are drawn as IOI's are (each template in each order once, then all again), with values of many shapes, of
which templates share little or most; and from the embedded model's own values. A miss rate may lie above the stated one by two
standard errors of the simulation. The control: below the least number of prompts it lies higher. Out of reach are values that
differ on a few templates alone, where these are a sample of many: a dozen templates do not show them, however many prompts.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from scipy import special, stats

from circuit_claims.discovery.__main__ import FEWEST_PROMPTS as FEWEST_OF_DISCOVERY
from circuit_claims.measure.intervals import (
    grid_interval,
    mean_interval,
    rate_interval,
    skew_corrected,
    skewness_of,
    transformed,
)
from circuit_claims.measure.rank_intervals import rank_interval
from circuit_claims.measure.samples import Grid, Samples
from circuit_claims.option_checks import FEWEST_PROMPTS
from circuit_claims.prompts.ioi import Population
from circuit_claims.tasks.ioi.task import IOI
from circuit_claims.verdicts.budget import Budget

RUNS = 1000
FRAMES = 30

#: Samples of n prompts, from a generator.
Draw = Callable[[np.random.Generator, int], Samples]


def most(rate: float, runs: int = RUNS) -> float:
    """A miss rate two standard errors of the simulation above the stated one."""
    return rate + 2 * np.sqrt(rate * (1 - rate) / runs)


def frames(random: np.random.Generator, n: int) -> np.ndarray:
    """The frame of each prompt, two to a template: all in random order, then all again."""
    rounds = -(-n // FRAMES)
    return np.concatenate([random.permutation(FRAMES) for _ in range(rounds)])[:n]


def common_noise(random: np.random.Generator, templates: np.ndarray, shared: float, *shape: int) -> np.ndarray:
    """Normal numbers of variance 1, of which `shared` is common to the prompts of a template."""
    common = random.normal(size=(FRAMES, *shape))[templates]
    return np.sqrt(shared) * common + np.sqrt(1 - shared) * random.normal(size=(len(templates), *shape))


def mixture(noise: np.ndarray) -> np.ndarray:
    """As the embedded model's probability of IO: near 0.71 on most prompts, near 0.2 on 15 % of them."""
    rare = special.ndtri(0.15)
    return np.where(noise < rare, 0.2, 0.71) + 0.02 * noise


#: From a normal number to a value, and the mean of the values.
SHAPES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "normal": (lambda noise: noise, 0.0),
    "log-normal": (lambda noise: np.exp(0.5 * noise), float(np.exp(0.125))),
    "bounded": (lambda noise: special.betaincinv(4, 1, special.ndtr(noise)), 0.8),
    "heavy tails": (lambda noise: special.stdtrit(3, special.ndtr(noise)), 0.0),
    "rarely low": (mixture, 0.2 * 0.15 + 0.71 * 0.85),
}


def shaped(shape: str, shared: float) -> tuple[Draw, float]:
    """A population with values of this shape, and its mean."""
    of, mean = SHAPES[shape]

    def draw(random: np.random.Generator, n: int) -> Samples:
        templates = frames(random, n) // 2
        return Samples(of(common_noise(random, templates, shared)), "x", "", templates.tolist())

    return draw, mean


def uneven(shared: float) -> tuple[Draw, float]:
    """Templates of very unequal size: each holds three quarters as many prompts as the one before, on average."""

    def draw(random: np.random.Generator, n: int) -> Samples:
        templates = np.minimum(random.geometric(0.25, n) - 1, FRAMES - 1)
        return Samples(common_noise(random, templates, shared), "x", "", templates.tolist())

    return draw, 0.0


def ratio(shared: float) -> tuple[Draw, float]:
    """A ratio of correlated means, of a whole that varies half as much as it is large."""

    def draw(random: np.random.Generator, n: int) -> Samples:
        templates = frames(random, n) // 2
        whole, own = 2 + common_noise(random, templates, shared), common_noise(random, templates, shared)
        return Samples(0.5 * whole + 0.35 * own, "x", "share", templates.tolist(), weights=whole)

    return draw, 0.5


POPULATIONS = {
    **{f"{shape}, 0.1 shared": shaped(shape, 0.1) for shape in ("normal", "log-normal", "heavy tails", "rarely low")},
    **{f"{shape}, 0.8 shared": shaped(shape, 0.8) for shape in ("normal", "log-normal", "bounded")},
    "unequal templates": uneven(0.5),
    "a ratio, 0.8 shared": ratio(0.8),
}


def ends(draw: Draw, n: int, confidence: float, runs: int = RUNS) -> np.ndarray:
    """The intervals of so many runs, `[run, end]`."""
    samples = (draw(np.random.default_rng([n, run]), n) for run in range(runs))
    return np.array([mean_interval(each, confidence, 0) for each in samples])


def missed(intervals: np.ndarray, truth: float) -> float:
    """How often the truth lies outside."""
    return float(1 - ((intervals[:, 0] <= truth) & (truth <= intervals[:, 1])).mean())


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the resamples, for speed: the ends are less precise, which makes them no wider on average."""
    monkeypatch.setattr("circuit_claims.measure.intervals.RESAMPLES", 1000)
    monkeypatch.setattr("circuit_claims.measure.intervals.GRID_RESAMPLES", 500)


def test_discovery_measures_on_no_fewer_prompts_than_verdicts():
    assert FEWEST_OF_DISCOVERY == FEWEST_PROMPTS


# Means


@pytest.mark.parametrize("n", [FEWEST_PROMPTS, 40])
@pytest.mark.parametrize("name", POPULATIONS)
def test_a_mean_is_missed_no_more_often_than_stated(name, n):
    draw, truth = POPULATIONS[name]
    assert missed(ends(draw, n, 0.95), truth) <= most(0.05)


@pytest.mark.parametrize("name", ["normal, 0.1 shared", "rarely low, 0.1 shared", "a ratio, 0.8 shared"])
def test_a_mean_is_missed_no_more_often_than_stated_at_the_default_first_look(name):
    draw, truth = POPULATIONS[name]
    assert missed(ends(draw, 120, 0.95), truth) <= most(0.05)


@pytest.mark.parametrize("n", [8, 10, 16, 24, FEWEST_PROMPTS])
def test_fewer_prompts_do_not_show_what_is_rare(n):
    """Why there is a least number: at the confidence of one of five looks, fewer miss more often than they say."""
    draw, truth = POPULATIONS["rarely low, 0.1 shared"]
    assert (missed(ends(draw, n, 0.99), truth) <= most(0.01)) == (n >= FEWEST_PROMPTS)


@pytest.mark.parametrize("name", ["log-normal, 0.1 shared", "rarely low, 0.1 shared"])
def test_all_looks_of_a_small_budget_together_miss_no_more_often_than_stated(name):
    """Any of the intervals from 30 prompts to 240, which share an error of 5 %."""
    looks, runs = Budget(FEWEST_PROMPTS, 240).looks(None), 400
    draw, truth = POPULATIONS[name]
    wrong = 0
    for run in range(runs):
        all_of_them = draw(np.random.default_rng([5, run]), looks[-1])
        first = (Samples(all_of_them.values[:n], "x", "", all_of_them.clusters[:n]) for n in looks)
        found = np.array([mean_interval(samples, 1 - 0.05 / len(looks), 0) for samples in first])
        wrong += missed(found, truth) > 0
    assert wrong / runs <= most(0.05, runs)


@pytest.fixture(scope="module")
def of_mini(mini) -> tuple[np.ndarray, np.ndarray]:
    """The embedded model's probability of IO on 900 prompts, by frame, `[frame, prompt]`; and 1 where IO is above S."""
    ioi = IOI(subject=mini, seed=1, chunk=120, population=Population(names=mini.names), prepend_bos=False)
    prompts = ioi.prompts(40 * FRAMES)
    of_frame = np.array([2 * prompt.template + (prompt.order == "ABBA") for prompt in prompts])
    each = [np.flatnonzero(of_frame == frame)[:35] for frame in range(FRAMES)]
    probability, prefers = ioi.probability().take(len(prompts)), ioi.prefers_io().take(len(prompts))
    return probability.values[np.array(each)], prefers.values[np.array(each)]


def drawn_from(pool: np.ndarray, random: np.random.Generator, n: int) -> Samples:
    """n prompts of a pool `[frame, prompt]`, frames in turn."""
    chosen = frames(random, n)
    values = pool[chosen, random.integers(pool.shape[1], size=n)]
    return Samples(values, "x", "", (chosen // 2).tolist())


@pytest.mark.parametrize(("n", "confidence"), [(FEWEST_PROMPTS, 0.95), (FEWEST_PROMPTS, 0.99), (40, 0.95), (120, 0.95)])
def test_the_embedded_models_probability_is_missed_no_more_often_than_stated(of_mini, n, confidence):
    pool, _ = of_mini
    assert missed(ends(partial(drawn_from, pool), n, confidence), pool.mean()) <= most(1 - confidence)


# Rates, numbers read off a grid, ranks


@pytest.mark.parametrize("n", [FEWEST_PROMPTS, 40, 120])
@pytest.mark.parametrize(("shared", "rate"), [(0.1, 0.5), (0.1, 0.9), (0.1, 0.98), (0.3, 0.9)])
def test_a_rate_is_missed_no_more_often_than_stated(shared, rate, n):
    wrong = 0
    for run in range(RUNS):
        random = np.random.default_rng([n, run])
        templates = frames(random, n) // 2
        values = common_noise(random, templates, shared) < special.ndtri(rate)
        low, high = rate_interval(Samples(values.astype(float), "x", "rate", templates.tolist()), 0.95)
        wrong += not low <= rate <= high
    assert wrong / RUNS <= most(0.05)


def test_the_embedded_models_rate_is_missed_no_more_often_than_stated(of_mini):
    _, pool = of_mini
    samples = [drawn_from(pool, np.random.default_rng([8, run]), FEWEST_PROMPTS) for run in range(RUNS)]
    found = np.array([rate_interval(each, 0.95) for each in samples])
    assert missed(found, pool.mean()) <= most(0.05)


READ_OFF = {
    "a cell": lambda means: means[..., 0, 0],
    "a ratio of cells": lambda means: means[..., 0, 0] / means[..., 1, 0],
}


@pytest.mark.parametrize("name", READ_OFF)
@pytest.mark.parametrize("shape", ["normal", "log-normal", "rarely low"])
def test_a_number_read_off_a_grid_is_missed_no_more_often_than_stated(name, shape):
    of, mean = SHAPES[shape]
    statistic, runs, wrong = READ_OFF[name], 400, 0
    above = np.array([[1.0], [3.0]]) - mean
    truth = float(statistic(above + mean))
    for run in range(runs):
        random = np.random.default_rng([9, run])
        templates = frames(random, FEWEST_PROMPTS) // 2
        grid = Grid(above + of(common_noise(random, templates, 0.1, 2, 1)), "x", "", templates.tolist())
        _, low, high = grid_interval(grid.of(statistic, "x", ""), 0.95, 0)
        wrong += not low <= truth <= high
    assert wrong / runs <= most(0.05, runs)


@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_a_rank_is_missed_no_more_often_than_stated(confidence):
    """A cell that leads others by a hair, and looks lower on most prompts, for it is much higher on a few."""
    wrong = 0
    for run in range(RUNS):
        random = np.random.default_rng([10, run])
        templates = frames(random, FEWEST_PROMPTS) // 2
        values = 0.3 * random.normal(size=(FEWEST_PROMPTS, 1, 8))
        values[:, 0, 0] = np.exp(random.normal(size=FEWEST_PROMPTS)) - np.exp(0.5) + 1e-9
        wrong += rank_interval(Grid(values, "x", "", templates.tolist()), [(0, 0)], confidence)[1] > 1
    assert wrong / RUNS <= most(1 - confidence)


# The correction itself


def test_without_skewness_the_interval_is_students_over_clusters_stretched():
    errors = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    reach = stats.t.ppf(0.975, 4) * np.sqrt(5 / 4 * 10) * np.sqrt(5 / 4)
    assert skew_corrected(errors, 3.0, 0.95) == pytest.approx((3 - reach, 3 + reach))


def test_the_side_of_the_long_tail_reaches_further():
    low, high = skew_corrected(np.array([-1.0, -1.0, -1.0, -1.0, 4.0]), 0.0, 0.95)
    assert high > -2 * low > 0
    assert skew_corrected(np.array([1.0, 1.0, 1.0, 1.0, -4.0]), 0.0, 0.95) == pytest.approx((-high, -low))


def test_the_ends_are_where_the_transformed_statistic_is_the_stretched_quantile():
    errors = np.array([-1.0, -2.0, -1.0, -0.5, 4.5])
    spread, skewness = np.sqrt(5 / 4 * (errors**2).sum()), skewness_of(errors[:, None])
    ends_as_statistics = -np.array(skew_corrected(errors, 0.0, 0.95)) / spread
    assert transformed(ends_as_statistics, skewness) == pytest.approx(stats.t.ppf([0.975, 0.025], 4) * np.sqrt(5 / 4))


def test_the_skewness_is_scipys_over_the_root_of_the_clusters():
    errors = np.random.default_rng(0).exponential(size=12)
    expected = stats.skew(errors, bias=False) / np.sqrt(12)
    assert skewness_of((errors - errors.mean())[:, None]) == pytest.approx([expected])


def test_of_two_clusters_no_skewness_is_seen():
    assert skewness_of(np.array([[1.0], [-1.0]])) == [0.0]


def test_a_statistic_beyond_all_bounds_stays_there():
    assert transformed(np.array([np.inf, -np.inf]), np.array([0.0, 0.5])).tolist() == [np.inf, -np.inf]
