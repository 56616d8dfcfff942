"""Whether what a claim presupposes is so: that there is something to take a share of, and that the model does the task.

"The name movers restore half of the logit difference" presupposes that there is one. A model that prefers IO on 51 % of prompts
has a logit difference that can be told from zero, given enough prompts, and no circuit that makes it: shares of it are noise
over next to nothing, and may lie anywhere.
"""

from collections.abc import Iterable

import numpy as np

from circuit_claims.measure.intervals import mean_interval, rate_interval
from circuit_claims.measure.samples import Samples

#: Effects below this are float32's rounding and not the model's doing.
ROUNDING = 1e-5
#: A model does a task where the right answer is ahead on clearly more than half of the prompts: the whole interval of that rate
#: lies above what a coin gives.
CHANCE = 0.5
#: And where the mean is at least this share of its standard deviation over prompts. Cohen (1988, section 2.2) calls 0.2 a small
#: effect and 0.5 a medium one, "visible to the naked eye"; 0.25 is half of medium. It lets weak models pass (a mean of 1 logit
#: with a spread of 2 is 0.5; GPT-2 small, which prefers IO on 99.3 % of prompts, is at about 2.5), and keeps out what more
#: prompts alone would tell from zero: of normally spread values, 60 % are above zero at 0.25.
LEAST_OF_SPREAD = 0.25


def why_nothing(presupposed: Iterable[Samples], confidence: float, seed: int) -> str:
    """Why there is nothing that a claim could be about, in a sentence; empty where what it presupposes is so.

    Of everything presupposed, the whole interval of the mean lies above zero. Values that say whether the model does the task
    (`Samples.shown`) are besides above zero on clearly more than half of the prompts, and their mean is at least
    `LEAST_OF_SPREAD` of their standard deviation over prompts.

    presupposed: in the order in which they are looked at; the sentence is about the first that is missing.
    """
    for whole in presupposed:
        low, high = mean_interval(whole, confidence, seed)
        absent = low <= 0 or high < ROUNDING
        interval = f"{whole.estimate:.4g} [{low:.4g}, {high:.4g}] {whole.unit}"
        if whole.shown is None:
            if absent:
                return f"there is nothing to take a share of: the whole is {interval} after {whole.n} prompts"
        elif absent or not _clear(whole, confidence):
            rate = _above_zero(whole)
            ends = rate_interval(rate, confidence)
            said = f"{whole.shown.what} on {rate.estimate:.1%} [{ends[0]:.1%}, {ends[1]:.1%}] of {whole.n} prompts"
            spread = whole.values.std()
            of_spread = f", {whole.estimate / spread:.2f} of its spread" if spread > 0 else ""
            since = ", since the model does not do the task" if whole.shown.task else ""
            return f"there is nothing to take a share of{since}: {said}, and what is shared out is {interval}{of_spread}"
    return ""


def _clear(whole: Samples, confidence: float) -> bool:
    """Whether the values are above zero on clearly more than half of the prompts, and far enough for how they are spread.

    Few published prompts have no interval that lies above one half: of these, all have to be above zero.
    """
    rate = _above_zero(whole)
    most = rate.estimate == 1 or rate_interval(rate, confidence)[0] > CHANCE
    return most and whole.estimate >= LEAST_OF_SPREAD * float(whole.values.std())


def _above_zero(whole: Samples) -> Samples:
    above = (whole.values > 0).astype(np.float64)
    return Samples(above, f"{whole.quantity} above zero", "rate", whole.clusters, exact=whole.exact)
