"""Many claims are tested in one run: how many of its verdicts to expect wrong, and which stand with all of them counted.

Every verdict that rests on an interval is wrong with a probability of at most 5 % (`circuit_claims.verdicts.expect`, all looks
included), so
of M such verdicts 5 % of M are expected to be wrong at most: where every claim lies on its bound. Universal claims are not
among them: a counterexample is one, and populations that were not tried have no error rate. Nor are exact rows: where all
prompts (or weights) that a claim speaks of were measured, there is no sampling that could mislead.

Holm's correction (Holm 1979) asks for more: that with a probability of 95 % none of the verdicts that survive it is wrong. Rows
carry no p-values, so each gets an approximate one from its interval: the distance from the observation to the bound, in units
of the interval's half-width towards the bound, is taken for that of a normal number whose 95 % interval this is. On the edge of
a verdict the p-value is 5 %. It is approximate, since the bootstrap's intervals are no normal ones; far from the bound it is an
extrapolation, and a very small value means "far" and no more. Two-sided, where most claims are one-sided: the safe side.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

from circuit_claims.reports import wording
from circuit_claims.verdicts.rows import HOLDS, INCONCLUSIVE, KNOWN_FALSE, NOW_TRUE, REFUTED

#: The probability with which a verdict may be wrong, and with which any of those that survive may be.
ERROR = 0.05

SURVIVES, DOES_NOT = "survives", "does not"

_HOLDING, _REFUTED = (HOLDS, NOW_TRUE), (REFUTED, KNOWN_FALSE)


def line(rows: Sequence[dict[str, Any]]) -> str:
    """`at most 8.6 of these 171 verdicts are expected to be wrong at 95 %`; empty where no verdict rests on an interval."""
    decided = _decided(rows)
    if not decided:
        return ""
    if decided == 1:
        return f"the verdict is wrong with a probability of at most {_percent(ERROR)}"
    return f"at most {_wrong_at_most(decided)} of these {decided:,} verdicts are expected to be wrong at {_percent(1 - ERROR)}"


def note(rows: Sequence[dict[str, Any]]) -> str:
    """The same with its conditions, and how many verdicts survive Holm's correction; for the head of a report."""
    decided = _decided(rows)
    if not decided:
        return ""
    verdicts = "verdict rests on an interval and is" if decided == 1 else "verdicts rest on an interval, each"
    said = [f"{decided:,} {verdicts} wrong with a probability of at most {_percent(ERROR)}"]
    if decided > 1:
        said[0] += f": at most {_wrong_at_most(decided)} of these {decided:,} verdicts are expected to be wrong at"
        said[0] += f" {_percent(1 - ERROR)}, and fewer where claims lie far from their bounds"
    surviving = list(holm_marks(rows).values()).count(SURVIVES)
    said.append(f"{surviving:,} of them {'survives' if surviving == 1 else 'survive'} Holm's correction over the run")
    said[-1] += f", under which any wrong one at all has a probability of at most {_percent(ERROR)}"
    said[-1] += " (approximate: from the distance between interval and bound)"
    return ". ".join(said) + "."


def holm_marks(rows: Sequence[dict[str, Any]]) -> dict[int, str]:
    """For each row, by `id`: whether its verdict survives Holm's correction over the run; "" where nothing can be said.

    All rows that were judged by an interval count among the tests: those without a clear verdict, and those whose interval
    gives no p-value, as tests that nothing speaks for.
    """
    judged = [row for row in rows if _judged_by_interval(row)]
    found = [p_value(row) for row in judged]
    survives = holm([1.0 if p is None else p for p in found], ERROR)
    marks = dict.fromkeys(map(id, rows), "")
    for row, p, survived in zip(judged, found, survives, strict=True):
        if p is not None:
            marks[id(row)] = SURVIVES if survived else DOES_NOT
    return marks


def holm(p_values: Sequence[float], error: float) -> list[bool]:
    """Which of the hypotheses are rejected by Holm's step-down procedure, in the order in which they were given.

    The smallest p-value is held against error / m, the next against error / (m − 1), and so on up to the first that fails.
    """
    rejected = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > error / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected


def p_value(row: dict[str, Any]) -> float | None:
    """The approximate two-sided p-value of the row's verdict; None where there is none to be had from its interval.

    That is: without a clear verdict, of a universal claim, where the interval has no width or touches the end of its own scale
    (a rate of 0 or 1, the first or the last rank: there the normal approximation is no approximation), and where the claim was
    refuted for another reason than where its interval lies.
    """
    if not _judged_by_interval(row) or _touches_an_end(row):
        return None
    half_widths = _half_widths(row)
    if half_widths is None or half_widths < 1:
        return None
    distance = half_widths * NormalDist().inv_cdf(1 - ERROR / 2)
    return math.erfc(distance / math.sqrt(2))


def _half_widths(row: dict[str, Any]) -> float | None:
    """From the observation to the bound that decides, in half-widths of the interval on that side."""
    observed, ci_low, ci_high = (_number(row.get(key)) for key in ("observed", "ci_low", "ci_high"))
    low, high = _number(row.get("expected_low")), _number(row.get("expected_high"))
    if wording.is_rank(row):
        low = None  # no rank is below 1: that is no bound
    if observed is None or ci_low is None or ci_high is None:
        return None
    down, up = observed - ci_low, ci_high - observed
    if row["verdict"] in _HOLDING:
        sides = [(observed - low, down)] if low is not None else []
        sides += [(high - observed, up)] if high is not None else []
    elif low is not None and ci_high < low:
        sides = [(low - observed, up)]
    elif high is not None and ci_low > high:
        sides = [(observed - high, down)]
    else:
        sides = []
    return min((distance / half for distance, half in sides), default=None) if all(half > 0 for _, half in sides) else None


def _judged_by_interval(row: dict[str, Any]) -> bool:
    has_interval = all(_number(row.get(key)) is not None for key in ("observed", "ci_low", "ci_high"))
    universal = row.get("kind") == "universal" or str(row.get("op") or "").startswith("always")
    return (
        has_interval
        and not universal
        and row.get("exact") is not True
        and row.get("verdict") in (*_HOLDING, *_REFUTED, INCONCLUSIVE)
    )


def _touches_an_end(row: dict[str, Any]) -> bool:
    if wording.is_rate(row):
        return row["ci_low"] <= 0 or row["ci_high"] >= 1
    return wording.is_rank(row) and (row["ci_low"] <= 1 or row["ci_high"] >= _cells(row))


def _cells(row: dict[str, Any]) -> float:
    """How many cells the sweep of a rank has; as good as infinite where the row does not say."""
    figure = row.get("figure")
    values = figure.get("values") if isinstance(figure, dict) else None
    return sum(map(len, values)) if isinstance(values, list) and all(isinstance(line, list) for line in values) else math.inf


def _decided(rows: Sequence[dict[str, Any]]) -> int:
    return sum(_judged_by_interval(row) and row["verdict"] != INCONCLUSIVE for row in rows)


def _wrong_at_most(decided: int) -> str:
    """5 % of them, rounded up to a tenth."""
    return wording.number(math.ceil(round(ERROR * decided * 10, 6)) / 10)


def _percent(share: float) -> str:
    return f"{wording.number(round(share * 100, 6))} %"


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None
