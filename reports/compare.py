"""Two runs of the claims, held against each other: did a fine-tune, a quantisation, a pruning keep the circuit?

    BASE, OTHER  ->  read  ->  compare  ->  a `Comparison`, which compare_page puts into words

Verdicts have an order: holds (and *now true*) above inconclusive above refuted (and *known false*: what a card foretells does
not make it less refuted). A claim *fell* where it went all the way down and *rose* where it went all the way up; one step is
*weakened* or *strengthened*. *No longer runs* is a claim that had a verdict and is now invalid. Untested on either side, or
invalid in BASE, there is nothing to compare, and that is said apart.

Where the verdict stays, the value may still have *moved*: the difference of the two observations is larger than their
intervals allow. Each interval gives the half-width on the side that faces the other observation; the two combine as the root
of the sum of their squares (Zou and Donner 2008, "MOVER"), which is the interval of a difference of two independent estimates.
Runs with one seed saw the same prompts: then the rule errs to the quiet side. The range of a universal claim is no confidence
interval, and there the two ranges must not overlap.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from circuit_claims.renamed_claims import current_id
from circuit_claims.reports import bases, journal, wording
from circuit_claims.reports.journal import ReportError
from circuit_claims.verdicts.rows import (
    HOLDS,
    INCONCLUSIVE,
    INVALID,
    KNOWN_FALSE,
    NOW_TRUE,
    REFUTED,
    UNTESTED,
    VERDICTS,
    plain,
)

FELL = "fell"
NO_LONGER_RUNS = "no longer runs"
WEAKENED = "weakened"
ROSE = "rose"
STRENGTHENED = "strengthened"
MOVED = "moved"
STAYED = "stayed"
NOT_TESTED = "untested"
INVALID_IN_BASE = "invalid in base"
ONLY_IN_BASE = "only in base"
ONLY_IN_OTHER = "only in other"
NOT_RUN_NOW = "not run now"

#: Every change, in the order of its weight, with what it means.
MEANINGS = {
    FELL: "It held in base, and is refuted in other.",
    NO_LONGER_RUNS: "It had a verdict in base; in other something went wrong while measuring.",
    WEAKENED: "One step down: it held and is inconclusive, or was inconclusive and is refuted.",
    ROSE: "It was refuted in base, and holds in other.",
    STRENGTHENED: "One step up: refuted to inconclusive, or inconclusive to holds.",
    MOVED: "The verdict stays; the observed value differs by more than the two intervals allow.",
    STAYED: "The verdict stays, and no difference in value can be told from chance.",
    NOT_TESTED: "One of the two runs could not test it: nothing is said about a change.",
    INVALID_IN_BASE: "Something went wrong in base: there is nothing to compare with.",
    ONLY_IN_BASE: "Other has no such row.",
    ONLY_IN_OTHER: "Base has no such row.",
    NOT_RUN_NOW: "In base, and not among the claims that this run selected or reached.",
}
#: What makes a comparison fail.
LOST = (FELL, NO_LONGER_RUNS)

RULE = (
    "A value moved where the difference of the two observations is larger than the root of the sum of the squares of their "
    "facing half-widths (of a claim about all prompts: where the two ranges do not overlap). Of a hundred claims in which "
    "nothing changed, up to five may be called moved."
)

OTHER_BOUND = "other bound"
OTHER_QUANTITY = "other quantity"
OTHER_BASIS = "other basis"

#: The engine's own exactness: a smaller difference, of values of size 1 or less, is no doing of the model.
ROUNDING = 1e-4

_STANDING = {HOLDS: 2, NOW_TRUE: 2, INCONCLUSIVE: 1, REFUTED: 0, KNOWN_FALSE: 0}
_STEPS = {-2: FELL, -1: WEAKENED, 0: STAYED, 1: STRENGTHENED, 2: ROSE}
_NUMBERS = ("expected_low", "expected_high", "observed", "ci_low", "ci_high", "margin", "n")
#: Facts of a run that are no part of its set-up, or are said in their own place.
_NO_SET_UP = {"subject", "weights sha256", "versions", "started", "duration", "pytest arguments"}
_NO_SET_UP |= {"subject source", "card title", "card basis", "why no card"}
_BAD = "run the claims again to get a whole report"


@dataclass(frozen=True)
class Run:
    """One report: where it lies, what is known of the run, and its rows in their order."""

    path: Path
    meta: dict[str, Any]
    rows: list[dict[str, Any]]

    @property
    def subject(self) -> str:
        """The model under test."""
        return dict(wording.facts(self.meta, self.rows)).get("subject", "no subject named")

    @property
    def weights(self) -> str:
        """The checksum of its weights; empty where none is noted."""
        return dict(wording.facts(self.meta, self.rows)).get("weights sha256", "")

    def set_up(self) -> dict[str, str]:
        """How the run was made, as label and value: all that may differ between two runs besides the model."""
        facts = {label: value for label, value in wording.facts(self.meta, self.rows) if label not in _NO_SET_UP}
        versions = self.meta.get("versions") or next((row["versions"] for row in self.rows if row.get("versions")), {})
        facts |= {f"version of {name}": str(version) for name, version in versions.items()}
        return facts | _names_given(self.meta.get("pytest_args"))


@dataclass(frozen=True)
class Difference:
    """Other's observation less base's, with its interval."""

    value: float
    low: float
    high: float
    clear: bool


@dataclass(frozen=True)
class Change:
    """What became of one row. `notes` are marks such as "other bound"; a row that one of the runs has not is None."""

    claim_id: str
    change: str
    base: dict[str, Any] | None
    other: dict[str, Any] | None
    difference: Difference | None = None
    notes: tuple[str, ...] = ()

    @property
    def row(self) -> dict[str, Any]:
        """The row of the later run where it has one, else the earlier one's: for what both say alike."""
        return self.other or self.base or {}


@dataclass(frozen=True)
class SetUp:
    """One thing that differs between the runs besides the model."""

    label: str
    base: str
    other: str


@dataclass(frozen=True)
class Comparison:
    """Two runs and what became of each claim; `remarks` are what a reader must know before the numbers."""

    base: Run
    other: Run
    changes: list[Change]
    set_up: list[SetUp]
    remarks: list[str] = field(default_factory=list)

    def of(self, change: str) -> list[Change]:
        """The changes of one kind, in the order of the claims."""
        return [one for one in self.changes if one.change == change]

    def counts(self) -> dict[str, int]:
        """How many of each kind, in the order of `MEANINGS`."""
        found = Counter(one.change for one in self.changes)
        return {change: found[change] for change in MEANINGS if found[change]}

    @property
    def lost(self) -> int:
        """How many claims fell or no longer run."""
        return sum(one.change in LOST for one in self.changes)

    @property
    def shared(self) -> int:
        """How many rows were held against each other."""
        return sum(one.base is not None and one.other is not None for one in self.changes)


def read(path: Path) -> Run:
    """The run that a `claims.json`, a journal `claims.jsonl` or a report's folder tells of.

    Raises ReportError, in one sentence, where it is missing, damaged, empty or nothing that this suite wrote.
    """
    file = path
    if path.is_dir():
        # A run that was killed leaves its journal alone; one that began deletes the earlier claims.json.
        candidates = [path / "claims.json", path / "claims.jsonl"]
        file = next((candidate for candidate in candidates if candidate.exists()), path)
        if file is path:
            raise ReportError(f"the folder {path} holds neither claims.json nor claims.jsonl: give a report's folder or file.")
    meta, rows = journal.read(file) if file.suffix == ".jsonl" else _read_json(file)
    if not rows:
        raise ReportError(f"{file} holds no claims, so there is nothing to compare: {_BAD}.")
    meta, rows = plain(meta), plain(rows)
    for key, kind in (("versions", dict), ("warnings", list), ("pytest_args", list)):
        if not isinstance(meta.get(key), kind | None):
            raise ReportError(f"{file} has something odd for {key}, so this is no report of this suite: {_BAD}.")
    for number, row in enumerate(rows, start=1):
        _check(row, f"row {number} of {file}")
    return Run(file, meta, [row | {"claim_id": current_id(row["claim_id"])} for row in rows])


def compare(base: Run, other: Run, not_selected: Callable[[str], bool] | None = None) -> Comparison:
    """Hold `other` against `base`, claim by claim.

    not_selected: whether a claim of base that `other` has no row of was simply not run, by its id; without it, none was.
    """
    before, after = _by_key(base.rows), _by_key(other.rows)
    ran_before, ran_after = _by_claim(base.rows), _by_claim(other.rows)
    same_bos = base.meta.get("prepend_bos") == other.meta.get("prepend_bos")
    changes = []
    for key in _in_order(list(before), list(after)):
        claim_id, old, new = key[0], before.get(key), after.get(key)
        claim = claim_of(claim_id)
        if old is not None and new is not None:
            changes.append(_compared(claim_id, old, new, same_bos))
        elif new is not None:
            changes.append(_appeared(claim_id, new, ran_before.get(claim, [])))
        elif claim in ran_after:
            note = "in other the claim ended before it came to this"
            changes.append(Change(claim_id, ONLY_IN_BASE, old, None, notes=(note,)))
        else:
            change = NOT_RUN_NOW if not_selected is not None and not_selected(claim) else ONLY_IN_BASE
            changes.append(Change(claim_id, change, old, None))
    return Comparison(base, other, changes, _set_up(base, other), _remarks(base, other, changes))


def change_of(before: str, after: str) -> str:
    """The change between two verdicts."""
    if UNTESTED in (before, after):
        return NOT_TESTED
    if before == INVALID:
        return INVALID_IN_BASE
    if after == INVALID:
        return NO_LONGER_RUNS
    return _STEPS[_STANDING[after] - _STANDING[before]]


def difference(base: dict[str, Any], other: dict[str, Any]) -> Difference | None:
    """How far the observation went, by the rule that this module begins with; None where there is no telling."""
    given = [row.get(key) for row in (base, other) for key in ("observed", "ci_low", "ci_high")]
    numbers: list[float] = [number for number in given if number is not None]
    if len(numbers) < len(given) or not _same_quantity(base, other):
        return None
    old, old_low, old_high, new, new_low, new_high = numbers
    value = new - old
    if "universal" in (base.get("kind"), other.get("kind")):
        low, high = min(new_low - old_high, value), max(new_high - old_low, value)
    else:
        # A percentile interval can miss its own estimate by a hair: no half-width is below zero.
        low = value - math.hypot(max(new - new_low, 0), max(old_high - old, 0))
        high = value + math.hypot(max(new_high - new, 0), max(old - old_low, 0))
    clear = abs(value) > ROUNDING * max(1, abs(old), abs(new)) and not low <= 0 <= high
    return Difference(value, low, high, clear)


def claim_of(claim_id: str) -> str:
    """The claim that a row is of: its second row is called `name#2`."""
    return re.sub(r"#\d+$", "", claim_id)


def _compared(claim_id: str, base: dict[str, Any], other: dict[str, Any], same_bos: bool) -> Change:
    change = change_of(base["verdict"], other["verdict"])
    gap = difference(base, other)
    notes = []
    measured = change not in (NOT_TESTED, INVALID_IN_BASE, NO_LONGER_RUNS)
    other_bound = measured and any(base.get(key) != other.get(key) for key in ("op", "expected_low", "expected_high"))
    if other_bound:
        notes.append(OTHER_BOUND)
    if measured and len({bases.label(row) for row in (base, other)} - {""}) > 1:
        notes.append(f"{OTHER_BASIS}: {bases.label(base)} in base, {bases.label(other)} in other")
    if measured and not _same_quantity(base, other):
        notes.append(OTHER_QUANTITY)
    if measured and same_bos and base.get("prepend_bos") != other.get("prepend_bos"):
        notes.append("other BOS")
    if change == STAYED:
        for verdict in (KNOWN_FALSE, NOW_TRUE):
            if [base["verdict"], other["verdict"]].count(verdict) == 1:
                notes.append(f"called {verdict} in {'base' if base['verdict'] == verdict else 'other'} alone")
        change = MOVED if gap is not None and gap.clear else STAYED
    elif measured and gap is not None and not gap.clear:
        notes.append("the values do not differ clearly" + (": it is the bound that differs" if other_bound else ""))
    return Change(claim_id, change, base, other, gap, tuple(notes))


def _appeared(claim_id: str, row: dict[str, Any], claim_before: Sequence[dict[str, Any]]) -> Change:
    """A row that base has not. One that says how the claim ended badly, where it had ended well, is a loss and no novelty."""
    verdicts = {before["verdict"] for before in claim_before}
    ended_well = bool(verdicts) and verdicts <= {HOLDS, NOW_TRUE, INCONCLUSIVE}
    if ended_well and row["verdict"] in (REFUTED, KNOWN_FALSE, INVALID):
        before = min(verdicts, key=_STANDING.__getitem__)
        note = f"in base the claim came to its end ({before}) without this row"
        return Change(claim_id, change_of(before, row["verdict"]), None, row, notes=(note,))
    note = ("in base the claim ended before it came to this",) if claim_before and not ended_well else ()
    return Change(claim_id, ONLY_IN_OTHER, None, row, notes=note)


def _same_quantity(base: dict[str, Any], other: dict[str, Any]) -> bool:
    return all((base.get(key) or "") == (other.get(key) or "") for key in ("quantity", "unit"))


def _set_up(base: Run, other: Run) -> list[SetUp]:
    before, after = base.set_up(), other.set_up()
    missing = "not noted"
    pairs = {label: (before.get(label, missing), after.get(label, missing)) for label in before | after}
    return [SetUp(label, old, new) for label, (old, new) in pairs.items() if old != new]


def _remarks(base: Run, other: Run, changes: Sequence[Change]) -> list[str]:
    remarks = []
    if base.weights and base.weights == other.weights:
        remarks.append(f"Both runs tested the same weights (sha256 {base.weights[:12]}…): whatever changed is not the model.")
    if not any(one.base is not None and one.other is not None for one in changes):
        remarks.append("No claim is in both runs: nothing was compared.")
    elif all(one.base is None or one.other is None or one.change in (NOT_TESTED, INVALID_IN_BASE) for one in changes):
        remarks.append("No claim has a verdict in both runs: nothing can be said about the circuit.")
    bounds = sum(OTHER_BOUND in one.notes for one in changes)
    if bounds:
        remarks.append(f"{bounds} {'claim is' if bounds == 1 else 'claims are'} held against another bound in other: marked.")
    for name, run in (("base", base), ("other", other)):
        if "finished" not in run.meta:
            remarks.append(f"The run of {name} did not finish: it covers the {len(run.rows)} rows it had written.")
        remarks += [f"Warning of the run of {name}: {warning}" for warning in run.meta.get("warnings") or []]
    return remarks


def _by_key(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, int], dict[str, Any]]:
    """The rows by id, and by their count where an id comes twice: none may hide another."""
    seen: Counter[str] = Counter()
    keyed = {}
    for row in rows:
        keyed[row["claim_id"], seen[row["claim_id"]]] = row
        seen[row["claim_id"]] += 1
    return keyed


def _by_claim(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    claims: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        claims.setdefault(claim_of(row["claim_id"]), []).append(row)
    return claims


def _in_order(before: list[tuple[str, int]], after: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """The keys of both in the order of `after`, those of `before` alone following the one that they followed there."""
    known, follows = set(after), {}
    last: tuple[str, int] | None = None
    for key in before:
        if key in known:
            last = key
        else:
            follows.setdefault(last, []).append(key)
    return [*follows.get(None, []), *(one for key in after for one in (key, *follows.get(key, [])))]


def _names_given(arguments: Any) -> dict[str, str]:
    """The options about names, which stand nowhere in a report but among pytest's arguments."""
    given: dict[str, str] = {}
    listed = [str(argument) for argument in arguments] if isinstance(arguments, list) else []
    for argument, following in zip_longest(listed, listed[1:], fillvalue=""):
        option, equals, value = argument.partition("=")
        if option == "--names":
            given["names"] = value if equals else following
    return {"names": "the suite's"} | given


def _read_json(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ReportError(f"cannot read {path} ({reason}): give the claims.json of a report, or its folder.") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, or not JSON
        journal_too = path.with_suffix(".jsonl")
        instead = f"give {journal_too} in its place" if journal_too.is_file() else _BAD
        raise ReportError(f"{path} is no JSON file, or breaks off before its end: {instead}.") from error
    if not isinstance(content, dict) or not isinstance(content.get("meta"), dict) or not isinstance(content.get("rows"), list):
        raise ReportError(f"{path} is no report of this suite: give a claims.json, with its meta and rows.")
    return content["meta"], content["rows"]


def _check(row: Any, where: str) -> None:
    """Raise ReportError unless this is a row that the suite can have written."""
    if not isinstance(row, dict) or not isinstance(row.get("claim_id"), str) or not row["claim_id"]:
        raise ReportError(f"{where} names no claim, so this is no report of this suite: give a claims.json of it.")
    if row.get("verdict") not in VERDICTS:
        given = wording.one_line(row.get("verdict"))
        raise ReportError(f"{where} has the verdict {given!r}, which this version of the suite does not know: {_BAD}.")
    for key in _NUMBERS:
        number = row.get(key)
        if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
            raise ReportError(f"{where} has no number for {key}, so this is no report of this suite: {_BAD}.")
