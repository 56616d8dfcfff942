"""Look at more and more prompts until a verdict is clear: of a sweep, at ever fewer cells."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from circuit_claims.measure.blocks import FIRST_LOOK, FULL_LOOK
from circuit_claims.measure.measurement import Measurement, Wanted
from circuit_claims.measure.presuppositions import why_nothing
from circuit_claims.measure.races import Expected, Race
from circuit_claims.measure.races.looks import with_first_looks
from circuit_claims.measure.samples import Grid, GridStatistic, Samples
from circuit_claims.verdicts.budget import Budget
from circuit_claims.verdicts.predictive_power import HARDLY, predictive_power
from circuit_claims.verdicts.rows import HOLDS, INCONCLUSIVE, REFUTED

#: What is handed to `expect`: a measurement, which is asked for more prompts until the verdict is clear, or its numbers.
Measured = Measurement[Samples] | Measurement[Grid] | Measurement[GridStatistic] | Samples | Grid | GridStatistic
#: From samples and a confidence to what was observed and its interval.
Interval = Callable[[Any, float], tuple[float, float, float]]
#: From a grid's shape, a look's confidence and a seed to the race for what is read off it.
MakeRace = Callable[[tuple[int, int], float, int], Race]


@dataclass(frozen=True)
class Seen:
    """What the last look showed.

    samples: of that look; low, high: the range that is expected; nothing: why there is nothing that the claim could be about,
    or empty; effects: of a sweep whose cells were raced, how many effects (one cell on one prompt) were measured, of how many
    without a race, which takes 120 prompts or more; limit: how many prompts there are, where no more can be had; spared: how
    many the budget has left, where they would hardly have decided it.
    """

    samples: Samples | Grid | GridStatistic
    observed: float
    ci_low: float
    ci_high: float
    low: float
    high: float
    nothing: str
    verdict: str
    effects: dict[str, int]
    limit: int | None
    spared: int = 0


def look_by_look(
    measured: Measured,
    budget: Budget,
    seed: int,
    *,
    interval: Interval,
    race: MakeRace | None,
    ends: Callable[[Any], tuple[float, float]],
) -> Seen:
    """Take prompts until the interval lies on one side of the bound, or the budget is spent.

    race: of what can be raced (see `circuit_claims.measure.races`), its race, which then gives the interval. ends: the range
    that is expected of these samples. Since every look is another chance to be wrong, the looks that the budget allows share
    the error rate. Looking ends early too where the rest of the budget would hardly decide it (see
    `circuit_claims.verdicts.predictive_power`); an early look is too few prompts to tell that.
    """
    lazy = isinstance(measured, Measurement)
    limit = measured.limit if lazy else measured.n
    raced = race is not None and lazy and limit is None
    looks = _looks(budget, limit, raced) if lazy else [(measured.n, budget.confidence)]
    most = looks[-1][0]
    enough = min(FULL_LOOK, most) if raced or budget.is_early(looks[0][0], limit) else 1
    by_cell = measured.cells if raced and isinstance(measured, Measurement) else None
    running, nothing, verdict, spared = None, "", INCONCLUSIVE, 0
    bearing: Bool[np.ndarray, "row column"] | None = None
    counts = np.zeros((0, 0), dtype=int)
    for n, confidence in looks:
        samples = _taken(measured, n, None if bearing is None else np.where(bearing, n, counts))
        low, high = ends(samples)
        if race is None:
            observed, ci_low, ci_high = interval(samples, confidence)
        else:
            running = running or race(_shape(samples), confidence, seed)
            observed, ci_low, ci_high = running.look(samples, Expected(low, high))
            if by_cell is not None:
                bearing, counts = running.bearing(Expected(low, high)), counts_of(samples)
        nothing = why_nothing(samples.presupposed, confidence, seed)
        if (raced and n < FIRST_LOOK) or (nothing and n < enough):
            continue  # so few prompts show which cells are far off; a verdict, or what it presupposes, asks for more of them
        if nothing and lazy and measured.whole is not None and n < most:
            # Whether all prompts together would show a whole costs little; a share of it on all of them may cost much.
            whole = measured.whole.take(most)
            nothing = why_nothing([*whole.presupposed, whole], confidence, seed)
            if nothing:
                break
            continue
        verdict = INCONCLUSIVE if nothing else verdict_of(ci_low, ci_high, low, high)
        if verdict != INCONCLUSIVE:
            break
        if race is None and enough <= n < most:
            given = {"n": n, "most": most, "confidence": confidence}
            if predictive_power(observed, ci_low, ci_high, low, high, **given) < HARDLY:
                spared = most - n
                break
    effects = {}
    if by_cell is not None:
        grid = _grid(samples)
        effects = {"measured": grid.effects, "of": int(np.prod(by_cell)) * max(samples.n, FULL_LOOK)}
    fixed = samples.n if not lazy or samples.n < n or n == limit else limit
    return Seen(samples, observed, ci_low, ci_high, low, high, nothing, verdict, effects, fixed, spared)


def _looks(budget: Budget, limit: int | None, raced: bool) -> list[tuple[int, float]]:
    """Each look's number of prompts and confidence; those of a race share the error rate alike."""
    if not raced:
        return budget.looks_shared(limit)
    sizes = with_first_looks(budget.looks(limit))
    return [(size, 1 - (1 - budget.confidence) / len(sizes)) for size in sizes]


def _taken(measured: Measured, n: int, cells: Wanted | None) -> Any:
    if not isinstance(measured, Measurement):
        return measured
    return measured.take(n) if cells is None else measured.take(n, cells)


def verdict_of(ci_low: float, ci_high: float, low: float, high: float) -> str:
    """Holds, refuted or inconclusive, by where the interval lies."""
    if low <= ci_low and ci_high <= high:
        return HOLDS
    return REFUTED if ci_high < low or ci_low > high else INCONCLUSIVE


def counts_of(taken: Grid | GridStatistic) -> np.ndarray:
    """On how many prompts each cell of a sweep was measured."""
    grid = _grid(taken)
    return np.full(grid.values.shape[1:], grid.n) if grid.counts is None else grid.counts


def _shape(taken: Any) -> tuple[int, int]:
    return _grid(taken).values.shape[1:]


def _grid(taken: Any) -> Grid:
    return taken.grid if isinstance(taken, GridStatistic) else taken
