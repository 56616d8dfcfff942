"""Where the rest of the budget would hardly decide a claim, looking ends early: what that costs, by simulation."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Samples
from circuit_claims.verdicts.budget import Budget
from circuit_claims.verdicts.look_by_look import look_by_look, verdict_of
from circuit_claims.verdicts.predictive_power import HARDLY, predictive_power

BUDGET = Budget(first=30, most=960)
LOOKS = BUDGET.looks_shared(None)
CONFIDENCE = LOOKS[-1][1]
Z = float(norm.ppf((1 + CONFIDENCE) / 2))


def interval(samples: Samples, confidence: float) -> tuple[float, float, float]:
    """The textbook interval of a mean whose standard deviation is known to be one."""
    half = float(norm.ppf((1 + confidence) / 2)) / math.sqrt(samples.n)
    return samples.estimate, samples.estimate - half, samples.estimate + half


def seen(values: np.ndarray, low: float, high: float):
    def take(n: int) -> Samples:
        return Samples(values[:n], "number", "logits", list(range(n)))

    return look_by_look(
        Measurement(take, False, None), BUDGET, seed=0, interval=interval, race=None, ends=lambda _: (low, high)
    )


@pytest.mark.parametrize(("low", "high"), [(0.0, math.inf), (-math.inf, 0.02), (-0.05, 0.05), (0.1, 0.3)])
@pytest.mark.parametrize("observed", [-0.05, 0.0, 0.03, 0.12])
def test_the_chance_is_that_of_finishing_the_sample_many_times(low: float, high: float, observed: float):
    n, most, half = 240, 960, Z / math.sqrt(240)
    found = predictive_power(observed, observed - half, observed + half, low, high, n=n, most=most, confidence=CONFIDENCE)
    random = np.random.default_rng(7)
    # The truth is only known as far as the sample tells: first a truth around the estimate, then the rest of the prompts.
    truth = observed + random.standard_normal(200_000) / math.sqrt(n)
    rest = truth + random.standard_normal(200_000) / math.sqrt(most - n)
    final, half = (n * observed + (most - n) * rest) / most, Z / math.sqrt(most)
    decided = ((final - half >= low) & (final + half <= high)) | (final + half < low) | (final - half > high)
    assert found == pytest.approx(decided.mean(), abs=0.005)


def test_few_of_those_that_end_early_would_have_been_decided():
    random, early, decided = np.random.default_rng(11), 0, 0
    for distance in random.uniform(-0.25, 0.25, 1500):
        values = distance + random.standard_normal(960)
        result = seen(values, 0.0, math.inf)
        if result.spared:
            early += 1
            _, low, high = interval(Samples(values, "number", "logits", list(range(960))), CONFIDENCE)
            decided += verdict_of(low, high, 0.0, math.inf) != "inconclusive"
    assert early > 150, "this simulation must end early often enough to say anything"
    assert decided / early < HARDLY


def test_no_verdict_is_given_that_the_whole_budget_would_not_give():
    random = np.random.default_rng(3)
    for _ in range(200):
        values = random.uniform(-0.3, 0.3) + random.standard_normal(960)
        result = seen(values, 0.0, math.inf)
        if result.verdict == "inconclusive":
            continue
        all_looks = (
            verdict_of(*interval(Samples(values[:n], "", "", list(range(n))), confidence)[1:], 0.0, math.inf)
            for n, confidence in LOOKS
        )
        assert result.verdict == next(verdict for verdict in all_looks if verdict != "inconclusive")


def test_a_claim_on_the_bound_does_not_spend_the_whole_budget():
    values = np.random.default_rng(0).standard_normal(960)
    result = seen(values - values[:480].mean(), 0.0, math.inf)
    assert (result.verdict, result.samples.n, result.spared) == ("inconclusive", 480, 480)


def test_a_claim_that_more_prompts_may_decide_spends_it():
    values = np.random.default_rng(0).standard_normal(960)
    values += 2.2 / math.sqrt(960) - values.mean()
    assert seen(values, 0.0, math.inf).samples.n == 960
