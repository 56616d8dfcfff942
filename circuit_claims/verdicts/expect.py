"""`expect`: turns a measurement and a bound into a verdict and a row.

    expect(ioi.logit_difference(), source="Wang et al. 2022, section 2").near(card["logit_difference"])

A share (a recovery, what an ablation leaves) presupposes that the whole is there, and that the model does the task: where that
is not so after all looks, the claim is refuted, and the row says what is missing (see
`circuit_claims.measure.presuppositions`).

The verdict: *holds* where the whole interval lies inside the expected range, *refuted* where it lies wholly outside, and
*inconclusive* where it straddles the bound after the prompt budget is spent. Prompts are added (each look doubles them) until
the verdict is clear; since every look is another chance to be wrong, the error rate is divided by the number of looks that
the budget allows (Bonferroni), so that the stated confidence covers the whole procedure.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from circuit_claims.cards.card import Card, Published
from circuit_claims.cards.ranges import MEASURED, RANGES, proper_ends
from circuit_claims.heads import Head
from circuit_claims.measure.intervals import grid_interval, mean_interval, rate_interval
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.presuppositions import ROUNDING
from circuit_claims.measure.races import Race, Raced
from circuit_claims.measure.races.ranks import RankRace
from circuit_claims.measure.samples import Grid, GridStatistic, Samples
from circuit_claims.verdicts import expected_from
from circuit_claims.verdicts.budget import Budget
from circuit_claims.verdicts.look_by_look import Interval, MakeRace, Measured, look_by_look
from circuit_claims.verdicts.rows import HOLDS, INCONCLUSIVE, REFUTED, Row
from circuit_claims.verdicts.undecided import what_would_decide


class Refuted(AssertionError):
    """The observation contradicts the claim."""


class Ledger(Protocol):
    """Where rows go: the running claim's record."""

    def row(self, **fields: Any) -> Row:
        """A new row for the claim that is running, filled in with what is known of the run."""
        ...

    def universal(self, key: tuple[str, str]) -> Row | None:
        """The row that earlier examples of the same universal statement have made, if any."""
        ...

    def counterexample(self, samples: Samples, index: int, prepend_bos: bool | None) -> dict[str, Any]:
        """The prompt at `index` with what the model says to it."""
        ...

    def card(self) -> Card | None:
        """The card that the running claim goes by; None where it goes by none."""
        ...


class Expect:
    """The fixture `expect`, one for the session: call it with what was measured, then say what is expected of it."""

    def __init__(self, ledger: Ledger, budget: Budget, seed: int) -> None:
        self._ledger, self._budget, self._seed = ledger, budget, seed
        #: What was handed over and not said anything of yet, with what is missing: a claim that ends so expects nothing.
        self.unsaid: dict[int, str] = {}

    def __call__(self, measured: Measured, source: str = "", *, kind: str = "", because: str = "") -> "Expectation":
        """What was measured, where the expected value comes from, and of what kind the claim is.

        source: paper and section; left out, the card's own source for the bound is used.
        kind: one of `circuit_claims.verdicts.rows.KINDS`; left out, it follows from the comparison.
        because: a word on how the bound was chosen, for the report.
        """
        number = max(self.unsaid, default=0) + 1
        self.unsaid[number] = "expect(...) has no bound: end it with one, such as .above(0) or .near(3.5, within=0.1)"
        return Expectation(self._ledger, self._budget, self._seed, measured, source, kind, because, partial(self._said, number))

    def _said(self, number: int, still_missing: str = "") -> None:
        if still_missing:
            self.unsaid[number] = still_missing
        else:
            self.unsaid.pop(number, None)


@dataclass(frozen=True)
class Expectation:
    """One measurement waiting for its bound. Every method makes one row, and raises `Refuted` where the claim is refuted."""

    ledger: Ledger
    budget: Budget
    seed: int
    measured: Measured
    source: str
    kind: str
    because: str
    #: Called with what is still missing, or with nothing once a bound is given.
    said: Callable[..., None] = field(default=lambda still_missing="": None, repr=False, compare=False)

    def above(self, bound: float | Published) -> None:
        """The mean lies above `bound`; of a card's value with a tolerance, above its lower end."""
        low = _lower(bound)
        self._judge(">", low, math.inf, bound, "direction" if low == 0 else "magnitude")

    def below(self, bound: float | Published) -> None:
        """The mean lies below `bound`; of a card's value with a tolerance, below its upper end."""
        high = _upper(bound)
        self._judge("<", -math.inf, high, bound, "direction" if high == 0 else "magnitude")

    def near(self, value: float | Published, within: float | None = None) -> None:
        """The mean lies within `within` of `value`; a card's value may bring its own tolerance.

        Raises ValueError where neither gives a tolerance.
        """
        if within is not None:
            low, high = float(value) - within, float(value) + within
        elif isinstance(value, Published) and value.low is not None and value.high is not None:
            low, high = value.low, value.high
        else:
            raise ValueError(
                "near() needs a tolerance: pass within=..., or give the card's value `within`, or `low` and `high`"
            )
        self._judge("within", low, high, value, "magnitude")

    def between(self, low: float | Published, high: float | Published) -> None:
        """The mean lies between `low` and `high`."""
        self._judge("within", float(low), float(high), expected_from.ends(low, high), "magnitude")

    def rate_at_least(self, rate: float | Published) -> None:
        """The share of prompts on which it is so is at least `rate` (a fraction), or a card's value less its tolerance.

        Raises ValueError where a sample is neither 0 nor 1, and where every rate, or none, is at least that.
        """
        self._judge("rate >=", _lower(rate), math.inf, rate, "behaviour", self._rate)

    def rate_at_most(self, rate: float | Published) -> None:
        """The share of prompts on which it is so is at most `rate` (a fraction), or a card's value plus its tolerance.

        Raises ValueError where a sample is neither 0 nor 1, and where every rate, or none, is at most that.
        """
        self._judge("rate <=", -math.inf, _upper(rate), rate, "behaviour", self._rate)

    def top(self, k: int | Published) -> "TopExpectation":
        """Speak of the k highest cells of a sweep: `expect(sweep).top(3).contains(heads)`; k may be a card's number."""
        self.said(f"top({int(k)}) lacks what it should contain: end it with .contains(heads)")
        return TopExpectation(self, int(k), k)

    def bottom(self, k: int | Published) -> "TopExpectation":
        """Speak of the k lowest cells of a sweep: `expect(sweep).bottom(2).contains(heads)`."""
        self.said(f"bottom({int(k)}) lacks what it should contain: end it with .contains(heads)")
        return TopExpectation(self, int(k), k, lowest=True)

    def always_above(self, bound: float | Published) -> None:
        """The mean of this population lies above `bound`, and of every other that hypothesis draws."""
        self._always("always >", float(bound), math.inf, bound)

    def always_below(self, bound: float | Published) -> None:
        """The mean of this population lies below `bound`, and of every other that hypothesis draws."""
        self._always("always <", -math.inf, float(bound), bound)

    def always_within(self, low: float | Published, high: float | Published) -> None:
        """The mean of this population lies between `low` and `high`, and of every other that hypothesis draws."""
        self._always("always within", float(low), float(high), expected_from.ends(low, high))

    def _rate(self, samples: Samples, confidence: float) -> tuple[float, float, float]:
        if not ((samples.values == 0) | (samples.values == 1)).all():
            raise ValueError(f"a rate counts prompts, so its samples are 0 or 1: {samples.quantity} has others")
        return samples.estimate, *rate_interval(samples, confidence)

    def _mean(self, samples: Samples | Grid | GridStatistic, confidence: float) -> tuple[float, float, float]:
        if isinstance(samples, Grid):
            raise TypeError(_no_number(samples))
        if isinstance(samples, GridStatistic):
            return grid_interval(samples, confidence, self.seed)
        if samples.unit == "rate":  # a bootstrap of ones alone would claim to be certain
            return self._rate(samples, confidence)
        return samples.estimate, *mean_interval(samples, confidence, self.seed)

    @property
    def _race(self) -> MakeRace | None:
        """The race for a number that is read off a sweep; None where there is none for it."""
        statistic = getattr(self.measured, "statistic", None)
        return statistic.race if isinstance(statistic, Raced) else None

    def _judge(
        self,
        op: str,
        low: float,
        high: float,
        bound: float | Published,
        kind: str,
        interval: Interval | None = None,
        race: MakeRace | None = None,
    ) -> None:
        """Look at more and more prompts until the interval is on one side of the bound; make the row; raise if refuted."""
        self.said()
        if op.startswith("rate"):
            proper_ends(low, high, RANGES["rate"], "a rate")
        ranks = op in ("top k", "bottom k")

        def ends(samples: Any) -> tuple[float, float]:
            return (low, high) if ranks else _proper_ends(samples, op, low, high, bound)

        seen = look_by_look(
            self.measured, self.budget, self.seed, interval=interval or self._mean, race=race or self._race, ends=ends
        )
        samples, low, high, nothing, verdict = seen.samples, seen.low, seen.high, seen.nothing, seen.verdict
        observed, ci_low, ci_high = seen.observed, seen.ci_low, seen.ci_high
        if not nothing and op in "<>" and bound_is_zero(low, high) and max(abs(ci_low), abs(ci_high)) < ROUNDING:
            nothing = f"{samples.quantity} is zero to within rounding: no effect at all, in either direction"
        if nothing:
            verdict = REFUTED
        row = self._row(samples, op, low, high, bound, kind)
        row.effects = seen.effects
        row.observed, row.ci_low, row.ci_high, row.n, row.verdict = observed, ci_low, ci_high, samples.n, verdict
        row.margin = margin_of(ci_low, ci_high, low, high, float(bound))
        if verdict == INCONCLUSIVE:
            row.reason = what_would_decide(observed, ci_low, ci_high, low, high, samples.n, seen.limit, seen.spared)
        if verdict == REFUTED:
            what = f"the worst rank in {samples.quantity}" if ranks else samples.quantity
            row.reason = f"{what} is {_number(observed)} [{_number(ci_low)}, {_number(ci_high)}]"
            row.reason = nothing or f"{row.reason}, {expected_from.said(row)} {_range(op, low, high)}"
            if isinstance(samples, Samples) and len(samples.prompts):
                row.counterexample = self.ledger.counterexample(samples, _worst(samples, low, high), row.prepend_bos)
            raise Refuted(row.reason)

    def _always(self, op: str, low: float, high: float, bound: float | Published) -> None:
        """One example of a universal claim. Hypothesis calls it many times; all calls share one row."""
        self.said()
        measured = self.measured
        samples = measured.take(self.budget.batch) if isinstance(measured, Measurement) else measured
        if isinstance(samples, Grid):
            raise TypeError(_no_number(samples))
        low, high = _proper_ends(samples, op, low, high, bound)
        observed = samples.estimate
        row = self.ledger.universal((samples.quantity, op))
        if row is None:
            row = self._row(samples, op, low, high, bound, "universal")
            row.verdict = HOLDS
        fails = not low <= observed <= high
        if row.verdict == HOLDS or fails:
            row.n += samples.n
            row.populations += 1
            # A new row has none of these yet.
            lowest, highest, closest = (observed if e is None else e for e in (row.ci_low, row.ci_high, row.observed))
            row.ci_low, row.ci_high = min(lowest, observed), max(highest, observed)
            room = {value: min(value - low, high - value) for value in (closest, observed)}
            row.observed = min(room, key=room.__getitem__)
            row.margin = margin_of(row.ci_low, row.ci_high, low, high, float(bound))
        if fails:
            # Hypothesis runs the smallest failing example last, so the row ends with the minimal one.
            row.verdict = REFUTED
            if isinstance(samples, Samples):
                row.counterexample = self.ledger.counterexample(samples, _worst(samples, low, high), row.prepend_bos)
            row.counterexample = (row.counterexample or {}) | {"batch_mean": observed}
            row.reason = f"{samples.quantity} is {_number(observed)} on average over {samples.n} prompts of one population"
            row.reason += f", {expected_from.said(row)} {_range(op.removeprefix('always '), low, high)} on every one"
            raise Refuted(row.reason)

    def _row(
        self, samples: Samples | Grid | GridStatistic, op: str, low: float, high: float, bound: float | Published, kind: str
    ) -> Row:
        source = self.source or (bound.source if isinstance(bound, Published) else "")
        fields: dict[str, Any] = {"prepend_bos": self.measured.prepend_bos} if isinstance(self.measured, Measurement) else {}
        ends = {"expected_low": None if math.isinf(low) else low, "expected_high": None if math.isinf(high) else high}
        if isinstance(samples, Grid):
            fields["figure"] = samples.figure()
        elif isinstance(samples, GridStatistic):
            fields["figure"] = samples.figure(*ends.values())
        elif samples.drawn is not None:
            fields["figure"] = dict(samples.drawn)
        elif samples.distribution:
            fields["figure"] = samples.figure(*ends.values())
        fields |= samples.facts
        if isinstance(bound, Published) and bound.readings:
            fields["readings"] = [dataclasses.asdict(reading) for reading in bound.readings]
        fields |= expected_from.row_fields(bound, fields.get("figure"))
        return self.ledger.row(
            kind=self.kind or kind,
            quantity=samples.quantity,
            unit=samples.unit,
            op=op,
            **ends,
            exact=samples.exact,
            source="; ".join(filter(None, [source, f"the bound: {self.because}" if self.because else ""])),
            **fields,
        )


@dataclass(frozen=True)
class TopExpectation:
    """The k highest cells of a sweep, or the k lowest."""

    expectation: Expectation
    k: int
    #: k as it was given, which may say where it comes from.
    given: int | Published
    lowest: bool = False

    def contains(self, heads: Sequence[Head]) -> None:
        """All of `heads` are among the k highest (or lowest): the worst rank among them, with its interval, is at most k.

        Raises ValueError where all cells, or none, are among them.
        """

        def worst_rank(shape: tuple[int, int], confidence: float, seed: int) -> Race:
            cells = shape[0] * shape[1]
            if not 1 <= self.k < cells:
                what = f"{'bottom' if self.lowest else 'top'}({self.k}) of a sweep"
                fault = f"a bound that cannot {'hold' if self.k < 1 else 'fail'}"
                raise ValueError(f"{what} is {fault}: ask for 1 to {cells - 1} of its {cells} cells")
            return RankRace(shape, heads, confidence, lowest=self.lowest)

        op, k = "bottom k" if self.lowest else "top k", float(self.k)
        bound = expected_from.place(self.given, heads, self.expectation.ledger.card())
        self.expectation._judge(op, 1.0, k, bound, "magnitude", race=worst_rank)


def bound_is_zero(low: float, high: float) -> bool:
    """Whether the one bound of a direction is zero: such a claim says that there is an effect."""
    return 0.0 in (low, high)


def _lower(bound: float | Published) -> float:
    return bound.low if isinstance(bound, Published) and bound.low is not None else float(bound)


def _upper(bound: float | Published) -> float:
    return bound.high if isinstance(bound, Published) and bound.high is not None else float(bound)


def margin_of(ci_low: float, ci_high: float, low: float, high: float, expected: float) -> float:
    """Signed distance from the interval to the nearest bound, in units of the expected value (of 1 where that is 0)."""
    return float(min(ci_low - low, high - ci_high) / (abs(expected) or 1.0))


def _worst(samples: Samples, low: float, high: float) -> int:
    """The index of the prompt that is furthest on the wrong side."""
    values = (
        samples.values if samples.weights is None else samples.values - samples.weights * (low if high == math.inf else high)
    )
    return int(values.argmin() if samples.estimate < low else values.argmax())


def _proper_ends(
    samples: Samples | Grid | GridStatistic, op: str, low: float, high: float, bound: float | Published
) -> tuple[float, float]:
    """The ends of what is expected; one at the edge of what is possible excludes nothing and is none: infinite.

    Raises ValueError where the range of what is measured decides the claim before anything is measured.
    """
    if op in "<>" and bound_is_zero(low, high) and samples.exact:  # any at all: zero is refuted, where it is no estimate
        return low, high
    among = bound.among if isinstance(bound, Published) and bound.among is not None else MEASURED.get(samples.unit)
    return proper_ends(low, high, among, samples.quantity)


def _no_number(grid: Grid) -> str:
    return (
        f"{grid.quantity} is a sweep and no number: expect .top(k) or .bottom(k) of it, or read a number off it with .of(...)"
    )


def _number(value: float) -> str:
    return f"{value:.4g}"


def _range(op: str, low: float, high: float) -> str:
    if math.isinf(high):
        return f"at least {_number(low)}" if op.startswith("rate") else f"above {_number(low)}"
    if math.isinf(low):
        return f"at most {_number(high)}" if op.startswith("rate") else f"below {_number(high)}"
    return (
        f"a rank of at most {_number(high)}" if op in ("top k", "bottom k") else f"between {_number(low)} and {_number(high)}"
    )
