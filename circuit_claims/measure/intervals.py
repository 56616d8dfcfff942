"""Confidence intervals for per-prompt samples that come in templates.

Prompts of one template resemble each other, so the unit of resampling is the template. With few templates a plain percentile
bootstrap is too narrow; the level is therefore expanded as in Hesterberg 2015 ("What Teachers Should Know About the
Bootstrap", section 4.3), which brings the coverage back (tests/measure/test_intervals.py and tests/measure/test_calibration.py
simulate it).
With few prompts that is not enough for skewed values (a probability near 1 that is low on a few prompts): there the interval
also takes in Student's, corrected for skewness by Hall's transformation (Hall 1992, "On the Removal of Skewness by
Transformation"; Johnson 1978, "Modified t Tests and Confidence Intervals for Asymmetrical Populations"). No interval makes up
for what a handful of prompts does not show, so there is a least number of prompts
(`circuit_claims.option_checks.FEWEST_PROMPTS`).
Ranks have intervals of their own (`circuit_claims.measure.rank_intervals`): resampled ranks are more certain than ranks are.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from circuit_claims.time_spent import spent_on

#: The nominal coverage of an interval where none is asked for.
CONFIDENCE = 0.95
RESAMPLES = 4000
GRID_RESAMPLES = 2000
#: Numbers that resampled grids may hold at a time.
MOST_AT_ONCE = 2_000_000
#: A bias of the resamples that is too large for chance, in units of their standard deviation (chance is 1 / sqrt(2000)).
BIAS = 0.1
#: With fewer templates than this, resamples do not reach as far out as the level asks: none lies beyond the outermost template.
FEW = 15
#: With fewer prompts than this, the interval is corrected for skewness as well; with more it would hardly differ.
SKEWED_BELOW = 120


class Prompts(Protocol):
    """What an interval needs to know of prompts: how many there are, how they cluster, and whether they are all there are."""

    @property
    def clusters(self) -> Sequence[Any]: ...
    @property
    def weights(self) -> Float[np.ndarray, " prompt"] | None: ...
    @property
    def exact(self) -> bool: ...
    @property
    def n(self) -> int: ...


class PromptNumbers(Prompts, Protocol):
    """One number a prompt (`circuit_claims.measure.samples.Samples`)."""

    @property
    def values(self) -> Float[np.ndarray, " prompt"]: ...
    @property
    def estimate(self) -> float: ...


class PromptCells(Prompts, Protocol):
    """A grid of cells a prompt (`circuit_claims.measure.samples.Grid`)."""

    @property
    def values(self) -> Float[np.ndarray, "prompt row column"]: ...


class CellStatistic(Protocol):
    """A number read off a grid (`circuit_claims.measure.samples.GridStatistic`)."""

    @property
    def grid(self) -> PromptCells: ...
    @property
    def statistic(self) -> Callable[[Float[np.ndarray, "*resample row column"]], Float[np.ndarray, "*resample"]]: ...


@spent_on("intervals")
def mean_interval(samples: PromptNumbers, confidence: float, seed: int) -> tuple[float, float]:
    """Bootstrap interval of the mean (or ratio of means), resampling templates.

    confidence: nominal coverage, such as 0.95. Where all prompts are of one template, prompts are resampled instead. An exact
    sample, and one in which nothing varies, gives an interval of no width. Of fewer than `SKEWED_BELOW` prompts, the interval
    is the hull of the bootstrap's and of Student's corrected for skewness.
    """
    if samples.exact:
        return samples.estimate, samples.estimate
    totals, sizes = _cluster_sums(samples.values, samples.weights, samples.clusters)
    if len(totals) < 2:
        totals, sizes = _cluster_sums(samples.values, samples.weights, range(samples.n))
    if len(totals) < 2 or np.ptp(totals / np.where(sizes == 0, 1, sizes)) == 0:
        return samples.estimate, samples.estimate

    index = _resamples(len(totals), RESAMPLES, seed)
    low, high = _ends(totals[index].sum(-1) / sizes[index].sum(-1), samples.estimate, confidence, len(totals))
    if samples.n < SKEWED_BELOW:
        errors = (totals - samples.estimate * sizes) / sizes.sum()
        left, right = skew_corrected(errors, samples.estimate, confidence)
        low, high = min(low, left), max(high, right)
    return low, high


@spent_on("intervals")
def rate_interval(samples: PromptNumbers, confidence: float) -> tuple[float, float]:
    """Clopper-Pearson interval of a rate, at the effective sample size of prompts that come in templates.

    The effective size divides n by the design effect, and then by what a design effect estimated from few templates is worth
    (Korn and Graubard 1998: the squared ratio of Student's quantiles at templates − 1 and n − 1 degrees of freedom); it is
    never above n, so the interval is never narrower than that of independent prompts. Where all prompts agree, nothing
    can be seen of a design effect, and n itself counts.
    """
    rate, n = samples.estimate, samples.n
    if samples.exact:
        return rate, rate
    effective = n / _design_effect(samples, confidence)
    tail = (1 - confidence) / 2
    hits = rate * effective
    low = 0.0 if hits <= 0 else float(special.betaincinv(hits, effective - hits + 1, tail))
    high = 1.0 if hits >= effective else float(special.betaincinv(hits + 1, effective - hits, 1 - tail))
    return low, high


@spent_on("intervals")
def grid_interval(measured: CellStatistic, confidence: float, seed: int) -> tuple[float, float, float]:
    """A number read off a grid, with its bootstrap interval over templates: (observed, low, high).

    Such a number may be biased by noise (a smallest, a largest, a size, a spread), and a resample adds its own noise to that of
    the sample, so the percentile interval is off by twice the bias. Where the resamples show a bias, the interval is the hull
    of it and of its mirror image in the observation (the "basic" interval). Of fewer than `SKEWED_BELOW` prompts, it takes in
    Student's as well, corrected for skewness, with the jackknife's standard error. A number that no resample turns negative
    keeps its sign. Out of reach are counts and orders of cells that lie within their own noise of the threshold or of each
    other.
    """
    grid = measured.grid
    totals, sizes = _grid_sums(grid, grid.clusters)
    if len(totals) < 2:
        totals, sizes = _grid_sums(grid, range(grid.n))

    def statistic(index: Int[np.ndarray, "... cluster"]) -> Float[np.ndarray, "..."]:
        means = totals[index].sum(-3) / sizes[index].sum(-1)[..., None, None]
        return measured.statistic(means).astype(float)

    observed = float(statistic(np.arange(len(totals))))
    if len(totals) < 2 or grid.exact:
        return observed, observed, observed
    index = _resamples(len(totals), GRID_RESAMPLES, seed)
    batch = max(1, MOST_AT_ONCE // (totals.size or 1))

    def of_each(index: Int[np.ndarray, "resample cluster"]) -> Float[np.ndarray, " resample"]:
        return np.concatenate([statistic(index[at : at + batch]) for at in range(0, len(index), batch)])

    resampled = of_each(index)
    low, high = _ends(resampled, observed, confidence, len(totals))
    floor = 0.0 if resampled.min() >= 0 else -np.inf
    if abs(resampled.mean() - observed) > BIAS * resampled.std():
        low, high = min(low, max(2 * observed - high, floor)), max(high, 2 * observed - low)
    if grid.n < SKEWED_BELOW:
        left, right = skew_corrected(_jackknifed(of_each, len(totals)), observed, confidence)
        low, high = min(low, max(left, floor)), max(high, right)
    return observed, low, high


def skew_corrected(errors: Float[np.ndarray, " cluster"], observed: float, confidence: float) -> tuple[float, float]:
    """Student's interval over clusters, its two sides made unequal as the skewness of the clusters asks.

    errors: by how much each cluster moves the estimate (linearised, or jackknifed); they sum to zero. Symmetric errors give
    Student's interval with the cluster-robust standard error, times √(clusters / (clusters − 1)): the skewness that few
    clusters show falls short of their population's. Of two clusters no skewness can be seen.
    """
    reach = _stretched(confidence, len(errors))
    spread = float(np.sqrt(len(errors) / (len(errors) - 1) * (errors**2).sum()))
    skewness = float(skewness_of(errors[:, None])[0])
    return observed - spread * _student_of(reach, skewness), observed - spread * _student_of(-reach, skewness)


def _student_of(quantile: float, skewness: float) -> float:
    """Student's statistic at which the transformed one has this value."""
    if abs(skewness) < 1e-6:
        return quantile
    return 3 / skewness * float(np.cbrt(1 + skewness * (quantile - skewness / 6)) - 1)


def transformed(student: Float[np.ndarray, " number"], skewness: Float[np.ndarray, " number"]) -> Float[np.ndarray, " number"]:
    """Student's statistics less their skewness: the increasing cubic of Hall 1992, section 2, given that of the means."""
    finite = np.where(np.isfinite(student), student, 0.0)
    cubic = finite + skewness * finite**2 / 3 + skewness**2 * finite**3 / 27 + skewness / 6
    return np.where(np.isfinite(student), cubic, student)


def skewness_of(errors: Float[np.ndarray, "cluster number"]) -> Float[np.ndarray, " number"]:
    """Skewness of the mean of these errors, which sum to zero: that of a cluster, unbiased for normal ones, over √clusters."""
    groups = len(errors)
    if groups < 3:
        return np.zeros(errors.shape[1])
    second, third = (errors**2).mean(0), (errors**3).mean(0)
    unbiased = np.sqrt(groups * (groups - 1)) / (groups - 2)
    return unbiased * np.divide(third, second**1.5, out=np.zeros_like(second), where=second > 0) / np.sqrt(groups)


def _jackknifed(
    statistic: Callable[[Int[np.ndarray, "resample cluster"]], Float[np.ndarray, " resample"]], groups: int
) -> Float[np.ndarray, " cluster"]:
    """By how much each cluster moves a statistic: what leaving it out does, in units in which a mean's are its linear terms."""
    left_out = statistic(np.array([np.delete(np.arange(groups), cluster) for cluster in range(groups)]))
    return (left_out.mean() - left_out) * (groups - 1) / groups


def _grid_sums(
    grid: PromptCells, clusters: Sequence[Any]
) -> tuple[Float[np.ndarray, "cluster row column"], Float[np.ndarray, " cluster"]]:
    names = {cluster: index for index, cluster in enumerate(dict.fromkeys(clusters))}
    of_cluster = np.array([names[cluster] for cluster in clusters])
    totals = np.zeros((len(names), *grid.values.shape[1:]))
    np.add.at(totals, of_cluster, grid.values)
    return totals, np.bincount(of_cluster, weights=grid.weights, minlength=len(names)).astype(float)


def _cluster_sums(
    values: np.ndarray, weights: np.ndarray | None, clusters: Sequence[Any]
) -> tuple[Float[np.ndarray, " cluster"], Float[np.ndarray, " cluster"]]:
    names = {cluster: index for index, cluster in enumerate(dict.fromkeys(clusters))}
    of_cluster = np.array([names[cluster] for cluster in clusters])
    totals = np.bincount(of_cluster, weights=values, minlength=len(names))
    sizes = np.bincount(of_cluster, weights=weights, minlength=len(names)).astype(float)
    return totals, sizes


def _design_effect(samples: PromptNumbers, confidence: float) -> float:
    """By what n is divided: variance over templates against that of independent prompts, times Korn and Graubard's factor."""
    rate, n = samples.estimate, samples.n
    independent = rate * (1 - rate) / (n - 1) if n > 1 else 0.0
    if independent == 0:
        return 1.0
    totals, _ = _cluster_sums(samples.values - rate, None, samples.clusters)
    groups = len(totals)
    if groups < 2:
        return 1.0
    clustered = groups / (groups - 1) * float((totals**2).sum()) / n**2
    known, estimated = (special.stdtrit(freedom, (1 + confidence) / 2) for freedom in (n - 1, groups - 1))
    return max(1.0, clustered / independent * float(estimated / known) ** 2)


@lru_cache(maxsize=4)
def _resamples(groups: int, count: int, seed: int) -> Int[np.ndarray, "count groups"]:
    """Which clusters each resample is made of."""
    return np.random.default_rng(seed).integers(0, groups, (count, groups))


def _ends(resampled: Float[np.ndarray, " resample"], observed: float, confidence: float, groups: int) -> tuple[float, float]:
    """The percentile interval at the expanded level; of few clusters, at least Student's with the resamples' spread."""
    tail = (1 - _expanded(confidence, groups)) / 2
    low, high = (float(end) for end in np.quantile(resampled, [tail, 1 - tail]))
    if groups < FEW:
        reach = _stretched(confidence, groups) * float(resampled.std())
        low, high = min(low, observed - reach), max(high, observed + reach)
    return low, high


def _expanded(confidence: float, groups: int) -> float:
    """The percentile level that gives `confidence` with a sample of this size."""
    return float(1 - 2 * special.ndtr(-_stretched(confidence, groups)))


def _stretched(confidence: float, groups: int) -> float:
    """Student's quantile, made larger since a resample's variance falls short of the sample's by (groups − 1) / groups."""
    return float(np.sqrt(groups / (groups - 1)) * special.stdtrit(groups - 1, (1 + confidence) / 2))
