"""How likely the rest of the budget is to decide a claim that is still undecided: where it hardly is, looking ends early.

Source: Spiegelhalter, Freedman & Blackburn 1986, "Monitoring clinical trials: conditional or predictive power?". The truth is
known as far as the prompts so far tell, and the estimate on all of the budget's prompts is normal around theirs. To end early
says neither holds nor refuted, so it makes no verdict wrong: it can only leave one inconclusive that more prompts would have
decided.
"""

import math

from scipy.stats import norm

#: Below this chance that the last look decides it, a claim is left inconclusive.
HARDLY = 0.1


def predictive_power(
    observed: float, ci_low: float, ci_high: float, low: float, high: float, *, n: int, most: int, confidence: float
) -> float:
    """The chance that the interval will lie on one side of each bound once `most` prompts are measured, from `n` of them.

    observed, ci_low, ci_high: the estimate and its interval, of that confidence; low, high: the range that is expected. Too
    high where prompts are alike in clusters, whose number grows more slowly than theirs.
    """
    z, shrunk = float(norm.ppf((1 + confidence) / 2)), math.sqrt(n / most)
    below, above = (max(observed - ci_low, 0.0), max(ci_high - observed, 0.0))
    spread = max(below, above) / z * math.sqrt(1 - n / most)
    if spread == 0:
        return 1.0 if n < most else 0.0

    def chance(begin: float, end: float) -> float:
        return max(0.0, float(norm.cdf((end - observed) / spread) - norm.cdf((begin - observed) / spread)))

    holds = chance(low + below * shrunk, high - above * shrunk)
    refuted = chance(-math.inf, low - above * shrunk) + chance(high + below * shrunk, math.inf)
    return min(1.0, holds + refuted)
