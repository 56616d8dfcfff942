"""How many of many statements are true, with an interval, from a test of each and of its contrary.

As for ranks in Mogstad, Romano, Shaikh and Wilhelm 2024 ("Inference for Ranks with Applications to Mobility across
Neighbourhoods and Academic Achievement across Countries"): which counts are excluded follows from how many tests say so, and
the error rate is shared out among as many of them as would have to be wrong.

`against_false` are the p-values against "it is false", one a statement, `against_true` those against "it is true"; `tail` is
the probability with which each end of the interval may be wrong.
"""

import numpy as np
from jaxtyping import Bool, Float

PValues = Float[np.ndarray, " statement"]


def at_least(against_false: PValues, tail: float, first: int = 0) -> int:
    """The lowest count that is not excluded: one below k is, where k statements are surely enough true.

    Were fewer than k true, at least one of the k that seem to be would be one of the others, of which there are at least
    all − k + 1. Counts are tried one after the other up to one that is not shown, from 1 on, or from `first` on where that is
    shown: it has to be fixed beforehand, as the bound of a claim is.
    """

    def shown(count: int) -> bool:
        return surely_true(against_false, count, tail).sum() >= count

    count = first if 0 < first <= len(against_false) and shown(first) else 0
    while count < len(against_false) and shown(count + 1):
        count += 1
    return count


def at_most(against_true: PValues, tail: float, first: int = 0) -> int:
    """The highest count that is not excluded: k is, where fewer than k statements are left that may be true.

    Were k true, at least one of these k would have to be taken for false. Counts are tried one after the other down to one that
    is not excluded, from all on, or from `first` on where that is excluded (as for `at_least`).
    """

    def excluded(count: int) -> bool:
        return (~surely_false(against_true, count, tail)).sum() < count

    count = first - 1 if 0 < first <= len(against_true) and excluded(first) else len(against_true)
    while count > 0 and excluded(count):
        count -= 1
    return count


def surely_true(against_false: np.ndarray, count: int, tail: float, of: int | None = None) -> Bool[np.ndarray, "..."]:
    """Which statements are true surely enough to show that at least `count` are; of: how many there are, if not all these."""
    return against_false < tail / ((against_false.shape[-1] if of is None else of) + 1 - count)


def surely_false(against_true: np.ndarray, count: int, tail: float) -> Bool[np.ndarray, "..."]:
    """Which are false surely enough to show that fewer than `count` are true."""
    return against_true < tail / count


def undecided(
    against_false: PValues, against_true: PValues, most: int, tail_low: float, tail_high: float
) -> Bool[np.ndarray, " statement"]:
    """The statements on which it still turns whether at most `most` are true."""
    true = surely_true(against_false, most + 1, tail_low) if most < len(against_false) else np.zeros(len(against_false), bool)
    false = surely_false(against_true, most + 1, tail_high)
    return ~(true | false)
