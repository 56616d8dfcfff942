"""What goes on a card besides families: values and tables, each with its tolerance by rule, and what was left out and why.

The rules know nothing of any model. A tolerance says how far another sample of the same model may lie: a fixed part of the
value, or what sampling noise asks for where that is more.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from circuit_claims.cards.schema import CardError, Entry
from circuit_claims.cards.values import read_table, read_value
from circuit_claims.discovery.survey import TENTH, Survey
from circuit_claims.measure.measurement import Measurement

#: `TENTH`, of a logit difference: as wide as the ones published for GPT-2 small are apart.
#: Of a share of the logit difference, a rate of heads or a correlation: what another choice of names and fillers may move.
SHARE = 0.1
#: Of a probability: five points.
PROBABILITY = 0.05
#: Of a rate near 0 or 1: one point, or five where sampling noise alone would eat the one.
RATE, NOISY_RATE = 0.01, 0.05
#: Of what was found, that a one-sided bound asks for: half, so that the bound speaks of the effect and not of the sample.
HALF = 0.5


@dataclass(frozen=True)
class Value:
    """One entry of [values]: as `circuit_claims.cards.schema.Published`, with a note where it is not simply what was found.

    refused: why it is not to stand on a card, if so.
    """

    value: float
    unit: str
    within: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""
    refused: str = ""


@dataclass(frozen=True)
class Table:
    """One entry of [tables]: rows of numbers in one unit, with one tolerance for all, or None where columns are bounds."""

    columns: tuple[str, ...]
    rows: dict[str, tuple[float, ...]]
    within: float | None
    unit: str
    note: str = ""


@dataclass(frozen=True)
class Findings:
    """Values and tables by their keys, and for what claims ask but this model has not, the reason."""

    values: dict[str, Value] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def __or__(self, other: "Findings") -> "Findings":
        return Findings(self.values | other.values, self.tables | other.tables, self.left_out | other.left_out)


def without_empty_bounds(findings: Findings, shape: tuple[int, int]) -> Findings:
    """The same without the numbers that a card of `shape` (layers, heads a layer) may not have, each with the reason.

    Noise may make a tolerance wider than all that a rate can be, or than half of the number: it then says nothing of the model.
    """
    left_out = {}
    for key, value in findings.values.items():
        if value.refused:
            left_out[key] = value.refused
            continue
        given = {name: at for name, at in asdict(value).items() if at not in (None, "")} | {"source": "what was found"}
        if why := _refused(f"[values.{key}]", given, lambda entry, key=key: read_value(entry, key, (), shape)):
            left_out[key] = why
    for key, found in findings.tables.items():
        given = {"columns": list(found.columns), "rows": {name: list(row) for name, row in found.rows.items()}}
        given |= {"unit": found.unit, "source": "what was found"} | ({} if found.within is None else {"within": found.within})
        if why := _refused(f"[tables.{key}]", given, lambda entry, key=key: read_table(entry, key, shape)):
            left_out[key] = why
    return Findings(
        {key: value for key, value in findings.values.items() if key not in left_out},
        {key: found for key, found in findings.tables.items() if key not in left_out},
        findings.left_out | left_out,
    )


def _refused(where: str, given: dict[str, Any], read: Callable[[Entry], Any]) -> str:
    """Why a card would not be read with this entry; empty where it would."""
    try:
        read(Entry(Path("card"), where, given))
    except CardError as error:
        return str(error).partition(f"{where}, ")[2].rpartition(": ")[0]
    return ""


def near(survey: Survey, measurement: Measurement, unit: str, tolerance: float | None = None) -> Value:
    """What was found, to within a tolerance (a tenth of it where none is given), or its noise where that is more.

    It is measured on as many prompts as bring the noise down to the tolerance, as far as that goes. A value whose noise is more
    than half of it, and of the logit difference where it is in logits, says next to nothing of the model, and is refused.
    """

    def allowed(value: float) -> float:
        return TENTH * abs(value) if tolerance is None else tolerance

    value, noise, _ = survey.told(measurement, allowed, tolerance)
    most = HALF * max(abs(value), abs(survey.logit_difference) if unit == "logits" else 0.0)
    # Where the model does not do the task, claims are refuted whatever their bounds.
    noisy = survey.shows_the_task and noise > max(allowed(value), most)
    refused = f"sampling alone moves it by {noise:.3g}, beside the {value:.3g} found" if noisy else ""
    return Value(rounded(value), unit, within=rounded_up(max(allowed(value), noise)), refused=refused)


def rate(survey: Survey, measurement: Measurement) -> Value:
    """A rate near 0 or 1, to within a point, or five points where a verdict's interval reaches further than one."""
    value, _, (low, high) = survey.told(measurement, lambda _: NOISY_RATE, HALF * NOISY_RATE)
    reaches = value - low if value > 0.5 else high - value
    return Value(rounded(value), "rate", within=RATE if reaches <= RATE else rounded_up(max(NOISY_RATE, reaches)))


def layer(survey: Survey, measurement: Measurement) -> Value:
    """A layer, exactly, or to within as many as it moves between resamples of the prompts."""
    value, (low, high) = round(survey.estimate(measurement)), survey.interval(measurement)
    return Value(value, "layer", within=round(max(value - low, high - value)))


def at_least_half(found: float, unit: str) -> Value:
    """A lower bound (an upper one, where what was found is negative): half of what was found."""
    return Value(rounded(HALF * found), unit, note=f"half of the {found:.3f} found")


def at_most_twice(found: float, noise: float, unit: str) -> Value:
    """An upper bound: twice what was found, or its noise above it where that is more."""
    bound = max(found / HALF, found + noise)
    return Value(rounded_up(bound), unit, note=f"twice the {found:.3f} found, or its noise above that")


def half_way_to_one(found: float) -> Value:
    """The bound of a share that is left: half of the change that was found."""
    return Value(rounded((1 + found) / 2), "share", note=f"half way between the {found:.3f} found and 1")


def rounded(value: float) -> float:
    """Two decimals of a number above 1, three of another; never minus zero."""
    return round(float(value), 2 if abs(value) > 1 else 3) + 0.0


def rounded_up(tolerance: float) -> float:
    """A tolerance, to two digits, never smaller than it is."""
    if tolerance <= 0:
        return 0.0
    digits = 1 - math.floor(math.log10(tolerance))
    return round(math.ceil(round(tolerance * 10**digits, 6)) / 10**digits, digits)


def table(
    survey: Survey,
    columns: Sequence[str],
    rows: Mapping[str, Sequence[Measurement]],
    unit: str,
    tolerance: float,
    note: str = "",
) -> Table:
    """What was found in every cell, to within one tolerance for all, or the noise of the noisiest where that is more."""
    told = {name: [survey.told(cell, lambda _: tolerance, tolerance) for cell in cells] for name, cells in rows.items()}
    values = {name: tuple(rounded(value) for value, _, _ in cells) for name, cells in told.items()}
    noise = max(noise for cells in told.values() for _, noise, _ in cells)
    return Table(tuple(columns), values, rounded_up(max(tolerance, noise)), unit, note)
