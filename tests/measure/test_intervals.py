"""Intervals: do they cover what they say, by simulation, with prompts that come in templates?"""

import numpy as np
import pytest

from circuit_claims.measure.intervals import grid_interval, mean_interval, rate_interval
from circuit_claims.measure.samples import Grid, GridStatistic, Samples
from circuit_claims.verdicts.budget import Budget

RUNS = 300


def clustered(random: np.random.Generator, groups: int, size: int, shared: float) -> Samples:
    """Normal samples of mean 1 and variance 1, of which `shared` is common to a cluster."""
    common = np.repeat(random.normal(size=groups) * np.sqrt(shared), size)
    values = 1 + common + random.normal(size=groups * size) * np.sqrt(1 - shared)
    return Samples(values, "x", "", np.repeat(np.arange(groups), size).tolist())


@pytest.mark.parametrize(("groups", "size", "shared"), [(15, 8, 0.0), (15, 8, 0.3), (15, 64, 0.3), (9, 20, 0.1)])
def test_the_mean_is_covered_as_often_as_stated(groups, size, shared):
    """At a nominal 95 %, between 91 and 98 % over 300 runs (three standard errors of a binomial are 3.8 points)."""
    random = np.random.default_rng(1)
    hits = 0
    for run in range(RUNS):
        low, high = mean_interval(clustered(random, groups, size, shared), 0.95, run)
        hits += low <= 1 <= high
    assert 0.91 <= hits / RUNS <= 0.985


def test_ignoring_templates_would_not_cover():
    """The control: the same samples with every prompt its own cluster are covered far less often than stated."""
    random = np.random.default_rng(1)
    hits = 0
    for run in range(40):
        samples = clustered(random, 15, 64, 0.3)
        low, high = mean_interval(Samples(samples.values, "x", "", range(samples.n)), 0.95, run)
        hits += low <= 1 <= high
    assert hits / 40 < 0.6


@pytest.mark.parametrize("rate", [0.99, 0.9, 0.5])
def test_a_rate_is_covered_at_least_as_often_as_stated(rate):
    random = np.random.default_rng(2)
    hits = 0
    for _ in range(RUNS):
        of_group = random.beta(20 * rate, 20 * (1 - rate), size=15)
        values = (random.random((15, 8)) < of_group[:, None]).ravel().astype(float)
        low, high = rate_interval(Samples(values, "x", "rate", np.repeat(np.arange(15), 8).tolist()), 0.95)
        hits += low <= rate <= high
    assert hits / RUNS >= 0.92


def test_a_rate_of_independent_prompts_is_clopper_and_pearsons():
    from scipy.stats import binomtest

    values = np.array([1.0] * 37 + [0.0] * 3)
    expected = binomtest(37, 40).proportion_ci(0.95, method="exact")
    assert rate_interval(Samples(values, "x", "rate", range(40)), 0.95) == pytest.approx((expected.low, expected.high))


def test_a_perfect_rate_still_has_an_interval():
    low, high = rate_interval(Samples(np.ones(100), "x", "rate", range(100)), 0.95)
    assert (round(low, 4), high) == (0.9638, 1.0)


def test_a_ratio_is_of_means_and_not_a_mean_of_ratios():
    samples = Samples(np.array([1.0, 9.0]), "x", "share", [0, 1], weights=np.array([1.0, 3.0]))
    assert samples.estimate == 2.5
    low, high = mean_interval(samples, 0.95, 0)
    assert low <= 2.5 <= high


def test_an_exact_sample_has_no_width():
    samples = Samples(np.array([1.0, 2.0, 6.0]), "x", "", range(3), exact=True)
    assert mean_interval(samples, 0.95, 0) == (3.0, 3.0)


def test_one_template_alone_resamples_prompts():
    low, high = mean_interval(Samples(np.arange(20.0), "x", "", [0] * 20), 0.95, 0)
    assert low < 9.5 < high and high - low < 8


def test_intervals_are_the_same_for_the_same_seed():
    samples = clustered(np.random.default_rng(0), 15, 8, 0.2)
    assert mean_interval(samples, 0.95, 7) == mean_interval(samples, 0.95, 7)
    assert mean_interval(samples, 0.95, 7) != mean_interval(samples, 0.95, 8)


def test_a_statistic_of_a_grid_has_an_interval_that_covers():
    """The largest of four cell means, where one is clearly the largest, is covered as often as its mean would be."""
    random, hits = np.random.default_rng(3), 0
    for run in range(100):
        values = random.normal(size=(120, 2, 2)) + np.array([[0, 1], [2, 5]])
        values += np.repeat(random.normal(size=15) * 0.3, 8)[:, None, None]
        grid = Grid(values, "x", "", np.repeat(np.arange(15), 8).tolist())
        observed, low, high = grid_interval(GridStatistic(grid, lambda m: m.max((-2, -1)), "largest", ""), 0.95, run)
        assert low <= observed <= high
        hits += low <= 5 <= high
    assert hits >= 87


def test_nan_is_never_a_sample():
    with pytest.raises(FloatingPointError, match="NaN or infinite on 1 of 2"):
        Samples(np.array([1.0, np.nan]), "x", "", [0, 1])
    with pytest.raises(FloatingPointError):
        Grid(np.full((2, 1, 1), np.inf), "x", "", [0, 1])


def test_looks_double_until_the_budget_is_spent():
    assert Budget(120, 960).looks(None) == [120, 240, 480, 960]
    assert Budget(100, 250).looks(None) == [100, 200, 250]
    assert Budget(50, 50).looks(None) == [50]


def test_after_a_look_at_few_prompts_comes_one_at_120():
    assert Budget(30, 960).looks(None) == [30, 120, 240, 480, 960]
    assert Budget(60, 240).looks(None) == [60, 120, 240]
    assert Budget(30, 100).looks(None) == [30, 100]


def test_a_small_population_is_looked_at_whole():
    assert Budget(120, 960).looks(8) == [8]
    assert Budget(30, 960).looks(59) == [59]
    assert Budget(30, 960).looks(60) == [30, 60]


def test_an_early_look_spends_a_tenth_of_the_error_and_the_others_the_rest():
    early, *others = Budget(30, 960).looks_shared(None)
    assert early == (30, pytest.approx(0.995))
    assert others == [(n, pytest.approx(1 - 0.045 / 4)) for n in (120, 240, 480, 960)]
    assert Budget(30, 960).looks_shared(100) == [(30, pytest.approx(0.995)), (100, pytest.approx(0.955))]


@pytest.mark.parametrize(("budget", "limit"), [(Budget(120, 960), None), (Budget(60, 960), None), (Budget(30, 960), 60)])
def test_where_none_is_early_the_looks_share_the_error_alike(budget: Budget, limit: int | None):
    looks = budget.looks(limit)
    assert budget.looks_shared(limit) == [(n, pytest.approx(1 - 0.05 / len(looks))) for n in looks]
