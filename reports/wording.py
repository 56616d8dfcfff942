"""How a row is put in words: expectation, observation, margin, names, counts.

Every function is total: a missing value becomes a dash, an operator nobody has heard of is printed with its bounds. A report
that fails on an odd row would hide all the others.
"""

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from circuit_claims.verdicts.basis import as_measured
from circuit_claims.verdicts.rows import (
    HOLDS,
    INCONCLUSIVE,
    INVALID,
    KNOWN_FALSE,
    NOW_TRUE,
    REFUTED,
    UNTESTED,
    VERDICTS,
)

NOTHING = "—"
EXACT = "exact"
MINUS = "−"

MEANINGS = {
    HOLDS: "The whole confidence interval lies inside the expected range.",
    REFUTED: "The whole interval lies outside the expected range, or a counterexample was found.",
    INCONCLUSIVE: "The interval straddles the bound: this sample cannot decide.",
    UNTESTED: "What the claim needs is missing here. It says nothing about the claim.",
    INVALID: "Something else went wrong while measuring. It says nothing about the claim.",
    KNOWN_FALSE: "Marked beforehand as false for this subject, and refuted as foretold.",
    NOW_TRUE: "Marked beforehand as false for this subject, yet it holds: the mark is out of date.",
}

INSIDE, OUTSIDE = "inside", "outside"


class Reading(NamedTuple):
    """One source's number for what a row measures, in words; `place` is INSIDE or OUTSIDE this run's interval, or a dash."""

    value: str
    setup: str
    source: str
    place: str


_SYMBOLS = {">": ">", ">=": "≥", "<": "<", "<=": "≤"}


def readable_name(claim_id: Any) -> str:
    """`ioi/name_movers/name_movers_carry_the_answer[L9H9]` -> `name movers carry the answer · L9H9`."""
    path, bracket, parameters = str(claim_id or "").partition("[")
    name = re.split(r"/|::", path)[-1].removeprefix("test_").replace("_", " ").strip()
    variant, _, ordinal = parameters.rpartition("]")  # a claim's second row is called `name[variant]#2`
    suffix = variant + ordinal if bracket else ""
    return one_line(" · ".join(part for part in (name, suffix) if part)) or "unnamed claim"


def name_of(row: dict[str, Any]) -> str:
    """The claim's name, which calls nothing published that its statement does not: a claim's id is one for all cards."""
    name = readable_name(row.get("claim_id"))
    return name if "publish" in str(row.get("statement") or "publish").lower() else as_measured(name)


def visible(text: Any) -> str:
    """Text with its control characters spelled out (`\\x1b`, `\\u202e`), line breaks kept.

    Prompts and tokens come from outside: no escape sequence may reach the terminal, no text-direction override a reader.
    """
    return "".join(_spelled(character) if character != "\n" else character for character in str(text))


def one_line(text: Any) -> str:
    """Like `visible`, on one line: a line break shows as `↵`."""
    return visible(text).replace("\n", "↵")


def is_rate(row: dict[str, Any]) -> bool:
    """Whether the row's values are fractions of prompts, to be shown as percentages."""
    return row.get("unit") == "rate" or str(row.get("op") or "").startswith("rate")


def is_rank(row: dict[str, Any]) -> bool:
    """Whether the row's values are places in an order, 1 the highest."""
    return str(row.get("op") or "").startswith(("top", "bottom"))


def expected(row: dict[str, Any]) -> str:
    """The expectation: `> 0.42`, `3.41 … 3.71`, `≥ 99 %`, `in the top 3`, `always > 0`."""
    op = str(row.get("op") or "").strip()
    low, high = row.get("expected_low"), row.get("expected_high")
    if low is None and high is None:
        return one_line(op) or NOTHING
    always = "always " if op.startswith("always") else ""
    core = op.removeprefix("always").removeprefix("rate").strip()
    if is_rank(row):
        return f"in the {core.split()[0]} {bound(row, high if high is not None else low)}"
    if core in (">", ">="):
        return f"{always}{_SYMBOLS[core]} {bound(row, low if low is not None else high)}"
    if core in ("<", "<="):
        return f"{always}{_SYMBOLS[core]} {bound(row, high if high is not None else low)}"
    if low is None:
        span = f"≤ {bound(row, high)}"
    elif high is None:
        span = f"≥ {bound(row, low)}"
    else:
        span = f"{number(_scaled(row, low))} … {bound(row, high)}"
    return f"{always}{span}" if core in ("", "within") else f"{always}{one_line(core)} {span}"


def bound(row: dict[str, Any], value: Any) -> str:
    """A bound, or what a source says, in the units of the row: `0.42`, `99 %`."""
    return number(_scaled(row, value)) + (" %" if is_rate(row) else "")


def observed(row: dict[str, Any]) -> str:
    """The measurement alone: `0.612`, `98.7 %`, `rank 2`."""
    value = row.get("observed")
    if value is None:
        return NOTHING
    if is_rank(row):
        return f"rank {number(value)}"
    return number(_scaled(row, value), _decimals(row)) + (" %" if is_rate(row) else "")


def is_universal(row: dict[str, Any]) -> bool:
    """Whether the row is about every population of prompts: its ends are a range over those tried, and no interval."""
    return row.get("kind") == "universal" or str(row.get("op") or "").startswith("always")


def populations(row: dict[str, Any]) -> str:
    """What the range of a universal claim is over: `range over 12 populations`; nothing for any other claim."""
    if not is_universal(row) or (row.get("ci_low") is None and row.get("ci_high") is None):
        return ""
    number = row.get("populations")
    return f"range over {number:,} population{'s' if number != 1 else ''}" if number else "range over populations"


def interval(row: dict[str, Any], *, brief: bool = False) -> str:
    """The confidence interval, `[0.551, 0.673]`; "exact" where there was no sampling; or nothing where there is none.

    Of a universal claim, `0.551 … 0.673 (range over 12 populations)`; brief: without what is in parentheses.
    """
    low, high = row.get("ci_low"), row.get("ci_high")
    if low is None and high is None:
        return ""
    if row.get("exact") is True and low == high:
        return EXACT
    decimals = None if is_rank(row) else _decimals(row)
    ends = [number(_scaled(row, end), decimals) if end is not None else "…" for end in (low, high)]
    if is_universal(row):
        return " … ".join(ends) + ("" if brief else f" ({populations(row)})")
    return f"[{', '.join(ends)}]"


def observed_with_interval(row: dict[str, Any]) -> str:
    """`0.612 [0.551, 0.673]`."""
    return " ".join(part for part in (observed(row), interval(row)) if part)


def readings(row: dict[str, Any]) -> list[Reading]:
    """What the sources of a contested number say, each held against the interval of this run; empty where they agree."""
    given = row.get("readings")
    return [reading(row, entry) for entry in given] if isinstance(given, list) else []


def reading(row: dict[str, Any], given: Any) -> Reading:
    """One source's number in words, in the units of the row and held against its interval."""
    if not isinstance(given, dict):
        return Reading(NOTHING, one_line(given), "", NOTHING)
    setup, source = (one_line(given.get(key) or "") for key in ("setup", "source"))
    value, low, high = given.get("value"), row.get("ci_low"), row.get("ci_high")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Reading(NOTHING if value is None else one_line(value), setup, source, NOTHING)
    # What was not sampled has an interval of no width: there a reading is as good as the digits that it is published with.
    rounding = 0.5 * 10.0 ** -_places(value) if row.get("exact") is True else 0.0
    place = INSIDE if (low is None or low - rounding <= value) and (high is None or value <= high + rounding) else OUTSIDE
    said = f"rank {number(value)}" if is_rank(row) else bound(row, value)
    return Reading(said, setup, source, NOTHING if low is None and high is None else place)


def margin(row: dict[str, Any]) -> str:
    """The room between interval and bound, signed: `+0.31`."""
    value = row.get("margin")
    if value is None:
        return NOTHING
    text = number(float(f"{value:.2g}"))
    return text if value < 0 else f"+{text}"


def sample_size(row: dict[str, Any]) -> str:
    """How many prompts were measured."""
    return f"{row['n']:,}" if row.get("n") else NOTHING


def effects(row: dict[str, Any]) -> str:
    """Of a raced sweep, how many effects were measured, of how many that the whole sweep has: `2,304 of 17,280`."""
    given = row.get("effects")
    if not isinstance(given, dict) or not all(isinstance(given.get(key), int) for key in ("measured", "of")):
        return ""
    return f"{given['measured']:,} of {given['of']:,}"


def reason(row: dict[str, Any]) -> str:
    """Why the verdict is what it is, on one line; a counterexample's prompt stands in where no reason is given."""
    given = str(row.get("reason") or "").strip()
    prompt = (row.get("counterexample") or {}).get("prompt")
    if given or not prompt:
        return one_line(given)
    return one_line(f"counterexample: {prompt}")


def duration(seconds: Any) -> str:
    """`0.4 s`, `3 min 20 s`."""
    if not isinstance(seconds, int | float):
        return NOTHING
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def number(value: float, decimals: int | None = None) -> str:
    """A number for readers: no exponent where it can be helped, a true minus sign, no `-0`.

    Without `decimals`, up to six significant digits and no trailing zeros: published bounds are printed as published.
    """
    size = abs(value)
    if size and (size < 1e-4 or size >= 1e7):
        mantissa, exponent = f"{value:.3g}".partition("e")[::2]
        text = f"{mantissa}e{int(exponent)}" if exponent else mantissa
    elif decimals is None:
        text = f"{value:.6g}" if size < 1e5 else f"{value:,.0f}"
    else:
        text = f"{value:,.{decimals}f}"
    if text.startswith("-") and not text.strip("-0.,"):
        text = text[1:]
    return text.replace("-", MINUS)


def counts(rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    """How many rows have each verdict, in the order of `VERDICTS`; words outside it come last."""
    found = Counter(str(row.get("verdict") or "no verdict") for row in rows)
    known = {verdict: found.pop(verdict) for verdict in VERDICTS if verdict in found}
    return known | dict(sorted(found.items()))


def counts_line(rows: Iterable[dict[str, Any]]) -> str:
    """`14 hold · 2 refuted · 1 inconclusive · 3 untested`."""
    parts = (f"{n} hold" if word == HOLDS and n != 1 else f"{n} {one_line(word)}" for word, n in counts(rows).items())
    return " · ".join(parts) or "no claims"


def facts(meta: dict[str, Any], rows: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """What a reader must know to judge or repeat the run, as (label, value), from `meta` or else from the rows themselves."""

    def fact(key: str) -> str:
        given = meta.get(key)
        values = [given] if given is not None else list(dict.fromkeys(row.get(key) for row in rows))
        return ", ".join(_said(value) for value in values if value not in (None, "", {}, []))

    versions = meta.get("versions") or next((row["versions"] for row in rows if row.get("versions")), {})
    listed = [
        ("subject", fact("subject")),
        ("weights sha256", fact("weights_sha256")),
        ("device", fact("device")),
        ("dtype", fact("dtype")),
        ("weight mode", fact("mode")),
        ("BOS prepended", fact("prepend_bos")),
        ("seed", fact("seed")),
        ("profile", fact("profile")),
        ("versions", " · ".join(f"{name} {version}" for name, version in dict(versions).items())),
        ("started", fact("started")),
        ("duration", duration(meta["duration_s"]) if meta.get("duration_s") is not None else ""),
        ("pytest arguments", shlex.join(str(argument) for argument in meta.get("pytest_args") or [])),
    ]
    told = {"subject", "weights_sha256", "device", "dtype", "mode", "prepend_bos", "seed", "profile", "versions", "started"}
    told |= {"finished", "duration_s", "pytest_args", "counts", "bases", "warnings"}
    listed += [(str(key).replace("_", " "), fact(key)) for key in meta if key not in told]
    return [(label, value) for label, value in listed if value]


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return " · ".join(f"{key} {_said(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_said(item) for item in value)
    return str(value)


def _spelled(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


def _scaled(row: dict[str, Any], value: float) -> float:
    return value * 100 if is_rate(row) else value


def _places(value: float) -> int:
    """How many digits a number has after its point, as it is written."""
    exponent = Decimal(repr(value)).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0  # NaN and the infinite have none


def _decimals(row: dict[str, Any]) -> int:
    """As many decimals as show three digits, and more where rounding would print a measurement equal to a bound it misses."""
    bounds = [_scaled(row, row[key]) for key in ("expected_low", "expected_high") if row.get(key) is not None]
    values = [_scaled(row, row[key]) for key in ("observed", "ci_low", "ci_high") if row.get(key) is not None]
    size = max((abs(value) for value in values), default=0.0)
    decimals = next((places for places, limit in ((0, 1000), (1, 100), (1, 10), (2, 1)) if size >= limit), 3)
    while decimals < 6 and any(
        value != bound and round(value, decimals) == round(bound, decimals) for value in values for bound in bounds
    ):
        decimals += 1
    return decimals
