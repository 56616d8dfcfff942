"""Tests against random circuits: minimality, sufficiency, partial necessity.

Source: Shi et al. 2024. Each counts how many of (say) 100 random circuits the circuit at hand beats, and asks with an exact
binomial test whether it beats fewer, or more, than `quantile` of all there are. Where several nodes or circuits are tested
together, the level is divided by their number (Bonferroni), which the published code leaves out.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import stats

from circuit_claims.measure.circuit_tests.outcome import Outcome, between_zero_and_one, numbers, same_length


def minimality(
    changes: Sequence[float] | np.ndarray,
    random_changes: Sequence[float] | np.ndarray,
    *,
    quantile: float = 0.9,
    alpha: float = 0.05,
) -> tuple[Outcome, ...]:
    """For each node of a circuit, test that it is needed: that it matters more than most nodes which do not belong there.

    changes: `[node]`, by how much the score changes when the node is taken out of the circuit, as a size.
    random_changes: `[circuit]`, the same for a random node that was added to the circuit, in each of the inflated circuits.
    The statistic is the share of them that the node exceeds; under the null hypothesis it exceeds at least `quantile` of all.
    A node for which this is rejected could go; the circuit is not minimal where one could.
    Raises ValueError on empty, NaN, infinite or negative changes, and on a quantile or alpha out of range.
    """
    changes, random_changes = numbers("changes", changes), numbers("random_changes", random_changes)
    if (changes < 0).any() or (random_changes < 0).any():
        raise ValueError("a change is given as a size: none may be negative")
    exceeded = (changes[:, None] > random_changes).sum(1)
    return tuple(
        _beaten(int(count), len(random_changes), "less", quantile=quantile, alpha=alpha, tests=len(changes))
        for count in exceeded
    )


def sufficiency(
    circuit: Sequence[float] | np.ndarray,
    model: Sequence[float] | np.ndarray,
    random: Sequence[Sequence[float]] | np.ndarray,
    *,
    quantile: float = 0.9,
    alpha: float = 0.05,
    tests: int = 1,
) -> Outcome:
    """Test that the circuit is no nearer the model than random circuits of its size are.

    circuit, model: scores `[prompt]`; random: `[circuit, prompt]`, the scores of random circuits on the same prompts.
    Near is a small mean squared difference of scores; a random circuit that is as near is not beaten. The statistic is the
    share of them that is; under the null hypothesis, no more than `quantile` of all are.
    tests: how many circuits or sizes are tested together, of which this is one.
    Raises ValueError on empty, NaN or infinite scores, on different numbers of prompts, and on a quantile, alpha or number of
    tests out of range.
    """
    own, others = _distances("circuit", circuit, model, random)
    return _beaten(int((own < others).sum()), len(others), "greater", quantile=quantile, alpha=alpha, tests=tests)


def partial_necessity(
    without_circuit: Sequence[float] | np.ndarray,
    model: Sequence[float] | np.ndarray,
    without_random: Sequence[Sequence[float]] | np.ndarray,
    *,
    quantile: float = 0.9,
    alpha: float = 0.05,
    tests: int = 1,
) -> Outcome:
    """Test that taking the circuit out of the model does no more harm than taking out random ones of its size.

    As `sufficiency`, with the scores of the model without the circuit and without each random one, and harm a large mean
    squared difference from the model's own scores.
    """
    own, others = _distances("without_circuit", without_circuit, model, without_random)
    return _beaten(int((own > others).sum()), len(others), "greater", quantile=quantile, alpha=alpha, tests=tests)


def _beaten(count: int, n: int, alternative: str, *, quantile: float, alpha: float, tests: int) -> Outcome:
    between_zero_and_one(quantile=quantile, alpha=alpha)
    if tests < 1:
        raise ValueError(f"the number of tests made together should be at least 1, and is {tests}")
    p_value = float(stats.binomtest(count, n, quantile, alternative=alternative).pvalue)
    return Outcome(statistic=count / n, p_value=p_value, alpha=alpha / tests, n=n)


def _distances(
    name: str,
    scores: Sequence[float] | np.ndarray,
    model: Sequence[float] | np.ndarray,
    random: Sequence[Sequence[float]] | np.ndarray,
) -> tuple[float, Float[np.ndarray, " circuit"]]:
    """Mean squared differences from the model's scores, of the scores at hand and of each random circuit's."""
    scores, model, random = numbers(name, scores), numbers("model", model), numbers("random", random, axes=2)
    same_length(**{name: scores, "model": model, "random": random})
    return float(((scores - model) ** 2).mean()), ((random - model) ** 2).mean(1)
