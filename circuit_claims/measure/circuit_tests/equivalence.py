"""Equivalence: is the circuit's score above the model's on about half of the prompts?

Source: Shi et al. 2024, the equivalence test: under the null hypothesis, the probability that the circuit's score exceeds the
model's is within epsilon of one half. The p-value is an exact binomial sum, largest at the edge of the null hypothesis.
(Their published code takes a mean difference in place of the share of prompts; this is the paper's test.)
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from circuit_claims.measure.circuit_tests.outcome import Outcome, between_zero_and_one, numbers, same_length


def equivalence(
    circuit: Sequence[float] | np.ndarray,
    model: Sequence[float] | np.ndarray,
    *,
    epsilon: float = 0.1,
    alpha: float = 0.05,
) -> Outcome:
    """Test that circuit and model are as good as each other, from their scores `[prompt]` on the same prompts.

    Prompts on which the two are equal say nothing of who is ahead and are left out, as in every sign test; `n` counts the
    others. Where all are equal, nothing speaks against equivalence, and the p-value is 1.
    Raises ValueError on empty, NaN or infinite scores, on different numbers of prompts, and on an alpha or epsilon out of
    range.
    """
    circuit, model = numbers("circuit", circuit), numbers("model", model)
    same_length(circuit=circuit, model=model)
    above, below = int((circuit > model).sum()), int((circuit < model).sum())
    if above + below == 0:
        _check(epsilon, alpha)
        return Outcome(statistic=0.0, p_value=1.0, alpha=alpha, n=0)
    return equivalence_of_counts(above, above + below, epsilon=epsilon, alpha=alpha)


def equivalence_of_counts(above: int, n: int, *, epsilon: float = 0.1, alpha: float = 0.05) -> Outcome:
    """The same from counts: on `above` of `n` prompts the circuit's score exceeds the model's.

    The statistic is |above / n − 1/2|; the p-value the probability of one as large or larger where the circuit is ahead with
    probability 1/2 + epsilon, in both tails.
    Raises ValueError where `above` is not among 0 … n, and on n = 0 or an alpha or epsilon out of range.
    """
    _check(epsilon, alpha)
    if n < 1 or not 0 <= above <= n:
        raise ValueError(f"{above} of {n} prompts is no count: it takes at least one prompt, and 0 to n of them")
    # In whole numbers, so that no rounding decides which outcomes are as far from one half as this one.
    fewer = min(above, n - above)
    p_value = (
        1.0 if 2 * fewer == n else stats.binom.cdf(fewer, n, 0.5 + epsilon) + stats.binom.sf(n - fewer - 1, n, 0.5 + epsilon)
    )
    return Outcome(statistic=abs(above / n - 0.5), p_value=min(1.0, float(p_value)), alpha=alpha, n=n)


def _check(epsilon: float, alpha: float) -> None:
    between_zero_and_one(alpha=alpha)
    if not 0 <= epsilon < 0.5:
        raise ValueError(f"epsilon should be at least 0 and below one half, and is {epsilon}")
