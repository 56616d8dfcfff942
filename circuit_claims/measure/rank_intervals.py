"""The rank of a sweep's cells, with an interval that holds where cells are nearly tied.

Resampled ranks are no measure of how sure a rank is: every resample adds noise to all cells, so a cell that truly leads a crowd
of equals by a hair is outranked in nearly every one (tests/measure/test_calibration.py: a true "among the top 3" refuted in
most runs). What can be told is of pairs: which cells surely lie above, and which surely do not. From these counts follows which
ranks are excluded, as in Mogstad, Romano, Shaikh and Wilhelm 2024 ("Inference for Ranks with Applications to Mobility across
Neighbourhoods and Academic Achievement across Countries"); the error rate is shared out among the pairs (Bonferroni). Of few
prompts, the tests of pairs are corrected for skewness, as intervals are (`circuit_claims.measure.intervals.transformed`).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import special

from circuit_claims.measure import ties
from circuit_claims.measure.intervals import SKEWED_BELOW, skewness_of, transformed
from circuit_claims.measure.samples import Grid


def rank_interval(
    grid: Grid, cells: Sequence[tuple[int, int]], confidence: float, *, lowest: bool = False
) -> tuple[float, float, float]:
    """The worst rank among `cells` with its interval: (observed, low, high).

    cells: (row, column) each. Rank 1 is the highest mean, or with `lowest` the lowest; cells that tie, to within rounding,
    share the better rank.
    The templates are the unit, as for every interval; prompts are where there is one template alone. Of an exact grid, ranks
    are exact.
    """
    means = grid.estimate.ravel() * (-1 if lowest else 1)
    places = [row * grid.values.shape[-1] + column for row, column in cells]
    observed = max(1 + int(ties.above(means, means[[place]]).sum()) for place in places)
    if len(means) < 2 or grid.exact:
        return float(observed), float(observed), float(observed)
    upwards = (-1 if lowest else 1) * (1 if grid.weights is None else np.sign(grid.weights.sum()))
    totals, sizes = _by_template(grid)
    tail, found = (1 - confidence) / 2, []
    for place in places:
        others = np.delete(totals, place, axis=1)
        differences = upwards * (others - totals[:, [place]])
        # A difference within rounding is none: its sign may be the same on every template, and is the machine's doing.
        differences[np.abs(differences) <= ties.rounding(totals)] = 0
        above, not_above = _certainties(differences, sizes, skewed=grid.n < SKEWED_BELOW)
        found.append((_low(above, tail / len(places)), _high(not_above, tail)))
    lows, highs = zip(*found, strict=True)
    return float(observed), float(max(lows)), float(max(highs))


def _low(above: Float[np.ndarray, " other"], tail: float) -> int:
    """The best rank that is not excluded: rank k is, where k others are above, each surely enough.

    above: for each other cell, the p-value of "it is not above". Were the rank k or better, at most k − 1 others would be
    above, and at least one that is not would have to be taken for one that is.
    """
    rank = 1
    while rank <= len(above) and (above < tail / (len(above) + 1 - rank)).sum() >= rank:
        rank += 1
    return rank


def _high(not_above: Float[np.ndarray, " other"], tail: float) -> int:
    """The worst rank that is not excluded: rank k + 1 is, where fewer than k others are left that may be above.

    not_above: for each other cell, the p-value of "it is above". Were the rank k + 1 or worse, at least one of k others that
    are above would have to be taken for one that is not.
    """
    rank = len(not_above) + 1
    while rank > 1 and (not_above >= tail / (rank - 1)).sum() < rank - 1:
        rank -= 1
    return rank


def _certainties(
    differences: Float[np.ndarray, "template other"], sizes: Float[np.ndarray, " template"], *, skewed: bool
) -> tuple[Float[np.ndarray, " other"], Float[np.ndarray, " other"]]:
    """The one-sided p-values of Student's test over templates, against "not above" and against "above".

    skewed: never below those of the statistic corrected for skewness.
    """
    groups = len(sizes)
    mean = differences.sum(0) / sizes.sum()
    errors = (differences - mean * sizes[:, None]) / sizes.sum()
    spread = np.sqrt(groups / max(groups - 1, 1) * (errors**2).sum(0))
    if groups < 2:
        return np.ones_like(mean), np.ones_like(mean)
    # Cells that differ by the same on every template differ for sure, and cells that are equal on every one tie for sure.
    certain = np.where(mean > 0, np.inf, -np.inf)
    statistic = np.divide(mean, spread, out=certain, where=spread > 1e-12 * np.abs(mean))
    tested = [statistic, transformed(statistic, skewness_of(errors))] if skewed else [statistic]
    return special.stdtr(groups - 1, -np.min(tested, axis=0)), special.stdtr(groups - 1, np.max(tested, axis=0))


def _by_template(grid: Grid) -> tuple[Float[np.ndarray, "template cell"], Float[np.ndarray, " template"]]:
    names = {cluster: index for index, cluster in enumerate(dict.fromkeys(grid.clusters))}
    of_template = np.array([names[cluster] for cluster in grid.clusters]) if len(names) > 1 else np.arange(grid.n)
    totals = np.zeros((of_template.max() + 1, grid.values[0].size))
    np.add.at(totals, of_template, grid.values.reshape(grid.n, -1))
    return totals, np.bincount(of_template).astype(float)
