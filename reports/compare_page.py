"""A comparison in words: lines for a terminal, compare.md, compare.html (one file that opens from disk) and compare.json."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich.cells import cell_len

from circuit_claims.reports import bases, compare, wording
from circuit_claims.reports.compare import Change, Comparison
from circuit_claims.reports.document import css_class, document
from circuit_claims.reports.render import markdown_text
from circuit_claims.reports.terminal import shorten, wrapped
from circuit_claims.verdicts.rows import UNTESTED

#: What a comparison is written as.
WRITTEN = ("compare.html", "compare.md", "compare.json")

#: What the terminal lists, and how many of the kinds that nobody has lost a claim by.
_LISTED = (compare.FELL, compare.NO_LONGER_RUNS, compare.WEAKENED, compare.ROSE, compare.STRENGTHENED, compare.MOVED)
_MOST_LISTED = 10
#: The kinds that the files tell of in one line a claim.
_BRIEF = (compare.NOT_TESTED, compare.INVALID_IN_BASE, compare.ONLY_IN_BASE, compare.ONLY_IN_OTHER)
_GAP = "  "
#: Kinds are drawn in the colours that the report has for its verdicts.
_CLASSES = {
    compare.FELL: "v-refuted",
    compare.NO_LONGER_RUNS: "v-invalid",
    compare.WEAKENED: "v-inconclusive",
    compare.ROSE: "v-holds",
    compare.STRENGTHENED: "v-holds",
    compare.MOVED: "v-known-false",
}
_STRIP_WIDTH, _STRIP_HEIGHT = 200, 36


@dataclass(frozen=True)
class Line:
    """One line for a terminal; `change` is the kind that it is a heading of, so that it may be coloured."""

    text: str
    change: str = ""


def lines(found: Comparison, width: int) -> list[Line]:
    """The comparison in short: set-ups, counts, and every claim that changed."""
    said = []
    for name, run in _runs(found):
        said.append(Line(shorten(f"{name:<5}  {_named(run)}", width)))
        said += [Line(f"{_GAP * 3} {text}") for it in bases.sentences(run.rows) for text in wrapped(it, max(width - 7, 40))]
    if found.set_up:
        said.append(Line("the set-ups differ:"))
        said += [
            Line(shorten(f"{_GAP}{_words(one.label)}: {_words(one.base)} → {_words(one.other)}", width)) for one in found.set_up
        ]
    said += [Line(wording.one_line(remark)) for remark in found.remarks]
    for change in _LISTED:
        changes = found.of(change)
        shown = changes if change in compare.LOST else changes[:_MOST_LISTED]
        if changes:
            said += [Line(""), Line(f"{change}: {_number_of(changes)}", change)]
        for one in shown:
            said += [Line(text) for text in _terminal_claim(one, width)]
        if len(shown) < len(changes):
            said.append(Line(f"{_GAP}and {len(changes) - len(shown)} more, in compare.html"))
    return [*said, Line(""), Line(counts_line(found))]


def counts_line(found: Comparison) -> str:
    """`2 fell · 1 no longer runs · 30 stayed · 4 untested (1 in other alone)`; what nobody lost is said too."""
    counts = dict.fromkeys(compare.LOST, 0) | found.counts()
    return " · ".join(
        f"{n} {change}{_untested_where(found) if change == compare.NOT_TESTED else ''}" for change, n in counts.items()
    )


def markdown(found: Comparison) -> str:
    """The comparison as GitHub-flavoured markdown."""
    from pandas import DataFrame

    def table(records: Sequence[dict[str, str]]) -> str:
        return DataFrame(list(records), dtype=object).to_markdown(index=False, disable_numparse=True)

    parts = ["# Two runs of the claims, compared", counts_line(found)]
    held = {name: bases.line(run.rows) for name, run in _runs(found)}
    of_run = [
        f"- {name}: {markdown_text(_named(run))}{held[name] and markdown_text(f'; {held[name]}')}" for name, run in _runs(found)
    ]
    parts.append("\n".join(of_run))
    parts += [f"**Note:** {markdown_text(remark)}" for remark in found.remarks]
    if found.set_up:
        given = [{"": one.label, "base": one.base, "other": one.other} for one in found.set_up]
        parts += ["## The set-ups differ", table([{key: markdown_text(text) for key, text in one.items()} for one in given])]
    for change in compare.MEANINGS:
        changes = found.of(change)
        if changes and change != compare.NOT_RUN_NOW:
            row = _markdown_brief if change in _BRIEF else _markdown_row
            parts += [
                f"## {change}: {markdown_text(_number_of(changes))}",
                compare.MEANINGS[change],
                table([row(one) for one in changes]),
            ]
    return "\n\n".join([*parts, f"{compare.RULE}"]) + "\n"


def page(found: Comparison) -> str:
    """The comparison as one HTML document, which looks as the report does."""
    sections = [
        {
            "change": change,
            "anchor": change.replace(" ", "-"),
            "class": _CLASSES.get(change, "v-untested"),
            "meaning": compare.MEANINGS[change],
            "brief": change in _BRIEF,
            "number": _number_of(found.of(change)),
            "claims": [_claim(one) for one in found.of(change)],
        }
        for change in found.counts()
        if change != compare.NOT_RUN_NOW
    ]
    return document(
        "compare.html.j2",
        base=found.base.subject,
        other=found.other.subject,
        runs=[(name, _facts(run)) for name, run in _runs(found)],
        set_up=found.set_up,
        remarks=found.remarks,
        lost=found.lost,
        not_run=len(found.of(compare.NOT_RUN_NOW)),
        untested_where=_untested_where(found),
        sections=sections,
        rule=compare.RULE,
    )


def record(found: Comparison) -> dict[str, Any]:
    """The comparison as data."""

    def run(one: compare.Run) -> dict[str, Any]:
        keys = ("subject", "weights_sha256", "card", "started")
        facts = {key: one.meta.get(key) for key in keys}
        return {"path": str(one.path)} | facts | {"rows": len(one.rows), "bases": bases.record(one.rows)}

    def side(row: dict[str, Any] | None) -> dict[str, Any] | None:
        keys = (
            "verdict",
            "observed",
            "ci_low",
            "ci_high",
            "op",
            "expected_low",
            "expected_high",
            "n",
            "exact",
            "quantity",
            "unit",
            "reason",
            "basis",
            "card",
        )
        return row and {key: row.get(key) for key in keys}

    return {
        "base": run(found.base),
        "other": run(found.other),
        "lost": found.lost,
        "counts": found.counts(),
        "set_up": [asdict(one) for one in found.set_up],
        "remarks": found.remarks,
        "rule": compare.RULE,
        "changes": [
            {
                "claim_id": one.claim_id,
                "statement": one.row.get("statement"),
                "change": one.change,
                "base": side(one.base),
                "other": side(one.other),
                "difference": one.difference and asdict(one.difference),
                "notes": list(one.notes),
            }
            for one in found.changes
        ],
    }


def write(found: Comparison, folder: Path) -> Path:
    """Write every format into `folder`, each of them whole or not there, and return the path of compare.html."""
    texts = {
        "compare.md": markdown(found),
        "compare.json": json.dumps(record(found), indent=1, allow_nan=False) + "\n",
        "compare.html": page(found),
    }
    folder.mkdir(parents=True, exist_ok=True)
    temporary = {name: folder / f".{name}.{os.getpid()}.tmp" for name in texts}
    try:
        for name, text in texts.items():
            temporary[name].write_bytes(text.encode("utf-8", errors="replace"))
        for name, path in temporary.items():
            path.replace(folder / name)
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)
    return folder / "compare.html"


def strips(base: dict[str, Any], other: dict[str, Any]) -> str:
    """Base above other on one scale: band, interval and dot as in the report, base's dot hollow; empty where one has none."""
    lanes = [(row, *_expected_range(row)) for row in (base, other)]
    if any(row.get("observed") is None for row in (base, other)):
        return ""
    keys = ("observed", "ci_low", "ci_high")
    shown = [row[key] for row, *_ in lanes for key in keys if row.get(key) is not None]
    shown += [end for _, *ends in lanes for end in ends if end is not None]
    span = max(shown) - min(shown) or max(abs(shown[0]) * 0.1, 1e-9)
    left, right = min(shown) - 0.1 * span, max(shown) + 0.1 * span

    def x(at: float) -> str:
        return f"{2 + (_STRIP_WIDTH - 4) * (at - left) / (right - left):.2f}"

    parts = []
    for lane, (row, low, high) in enumerate(lanes):
        middle = _STRIP_HEIGHT * (1 + 2 * lane) / 4
        top, bottom = middle - 7, middle + 7
        start, end = x(left if low is None else low), x(right if high is None else high)
        if low is not None or high is not None:
            width = f"{float(end) - float(start):.2f}"
            parts.append(f'<rect class="band" x="{start}" y="{top}" width="{width}" height="14"/>')
        parts.append(f'<line class="axis" x1="2" y1="{middle}" x2="{_STRIP_WIDTH - 2}" y2="{middle}"/>')
        parts += [
            f'<line class="bound" x1="{x(at)}" y1="{top}" x2="{x(at)}" y2="{bottom}"/>' for at in (low, high) if at is not None
        ]
        if row.get("ci_low") is not None and row.get("ci_high") is not None:
            parts.append(
                f'<line class="interval" x1="{x(row["ci_low"])}" y1="{middle}" x2="{x(row["ci_high"])}" y2="{middle}"/>'
            )
        name = "dot hollow" if lane == 0 else "dot"
        parts.append(f'<circle class="{name}" cx="{x(row["observed"])}" cy="{middle}" r="3.6"/>')
    said = escape(f"base {wording.observed_with_interval(base)}; other {wording.observed_with_interval(other)}")
    return (
        f'<svg class="strip" role="img" aria-label="{said}" viewBox="0 0 {_STRIP_WIDTH} {_STRIP_HEIGHT}" '
        f'width="{_STRIP_WIDTH}" height="{_STRIP_HEIGHT}"><title>{said}</title>{"".join(parts)}</svg>'
    )


def _terminal_claim(one: Change, width: int) -> list[str]:
    """A claim's id, whole, so that it can be found; its statement; its numbers, whole."""
    told = [_verdicts(one)]
    if one.base is not None and one.other is not None:
        told.append(f"{wording.observed_with_interval(one.base)} → {wording.observed_with_interval(one.other)}")
    told.append(_expected(one) if bases.is_foreign(one.row) else f"expected {_expected(one)}")
    room = max(width - len(_GAP) * 2, 40)
    texts = [_GAP + wording.one_line(one.claim_id), _GAP * 2 + shorten(_words(one.row.get("statement")), room)]
    texts += [_GAP * 2 + text for text in _wrapped([*told, *one.notes], room)]
    if one.change == compare.NO_LONGER_RUNS:
        texts.append(_GAP * 2 + shorten(wording.reason(one.row), room))
    return texts


def _wrapped(parts: Sequence[str], width: int) -> list[str]:
    """The parts on as few lines as they fit on, none of them cut."""
    wrapped = [parts[0]]
    for part in parts[1:]:
        joined = f"{wrapped[-1]} · {part}"
        wrapped[-1:] = [joined] if cell_len(joined) <= width else [wrapped[-1], part]
    return wrapped


def _markdown_row(one: Change) -> dict[str, str]:
    brief = _markdown_brief(one)
    numbers = {
        "expected": markdown_text(_expected(one)),
        "base": wording.observed_with_interval(one.base or {}),
        "other": wording.observed_with_interval(one.other or {}),
        "difference": " ".join(part for part in _difference(one) if part),
    }
    return {key: brief[key] for key in ("claim", "statement")} | numbers | {key: brief[key] for key in ("verdicts", "notes")}


def _markdown_brief(one: Change) -> dict[str, str]:
    # As code an id is read, and copied, as it is; one with marks that would end the code or the cell stays text.
    plain_id = re.fullmatch(r"[\w/\[\]@.,:#-]+", one.claim_id)
    return {
        "claim": f"`{one.claim_id}`" if plain_id else markdown_text(one.claim_id),
        "statement": markdown_text(one.row.get("statement") or ""),
        "verdicts": markdown_text(_verdicts(one)),
        "notes": markdown_text("; ".join([*one.notes, *_reasons(one)])),
    }


def _claim(one: Change) -> dict[str, Any]:
    sides = {name: row for name, row in (("base", one.base), ("other", one.other)) if row is not None}
    return {
        "claim_id": one.claim_id,
        "name": wording.readable_name(one.claim_id),
        "statement": one.row.get("statement"),
        "expected": _expected(one),
        "observed": [
            (name, wording.observed(row), wording.interval(row), wording.sample_size(row)) for name, row in sides.items()
        ],
        "strips": Markup(strips(one.base, one.other)) if one.base and one.other else "",
        "difference": _difference(one),
        "verdicts": [(verdict, css_class(verdict)) for verdict in dict.fromkeys(row["verdict"] for row in sides.values())],
        "only": "" if len(sides) == 2 else f"{next(iter(sides))} alone",
        "notes": list(one.notes),
        "reasons": _reasons(one),
    }


def _reasons(one: Change) -> list[str]:
    """What the rows say of their verdicts, once where both say the same."""
    sides = {name: wording.reason(row) for name, row in (("base", one.base), ("other", one.other)) if row is not None}
    if len(set(sides.values())) == 1 and len(sides) == 2:
        return [text for text in [sides["base"]] if text]
    return [f"{name}: {text}" for name, text in sides.items() if text]


def _expected(one: Change) -> str:
    said = bases.expected(one.row)
    if compare.OTHER_BOUND in one.notes and one.base is not None:
        return f"{said}, in base {bases.expected(one.base)}"
    return said


def _difference(one: Change) -> tuple[str, str]:
    """`−0.78` and `[−0.81, −0.74]`, in the unit of the row: places of ranks, percentage points of rates."""
    gap = one.difference
    if gap is None:
        return wording.NOTHING, ""
    if wording.is_rank(one.row):
        value, low, high = (wording.number(round(number, 1)) for number in (gap.value, gap.low, gap.high))
        unit, interval = " places", f"[{low}, {high}]"
    else:
        # As a row without a bound that its numbers might be printed equal to.
        row = {"unit": one.row.get("unit"), "observed": gap.value, "ci_low": gap.low, "ci_high": gap.high}
        row["op"] = "rate" if wording.is_rate(one.row) else ""
        value, interval = wording.observed(row).removesuffix(" %"), wording.interval(row)
        unit = " points" if wording.is_rate(one.row) else ""
    return ("+" if gap.value > 0 else "") + value + unit, interval


def _verdicts(one: Change) -> str:
    words = [row["verdict"] if row is not None else wording.NOTHING for row in (one.base, one.other)]
    return words[0] if words[0] == words[1] else " → ".join(words)


def _untested_where(found: Comparison) -> str:
    """` (2 in other alone, 10 in both)`."""
    sides = [((one.base or {})["verdict"], (one.other or {})["verdict"]) for one in found.of(compare.NOT_TESTED)]
    counted = {
        "in base alone": sum(base == UNTESTED != other for base, other in sides),
        "in other alone": sum(other == UNTESTED != base for base, other in sides),
        "in both": sum(base == other for base, other in sides),
    }
    return f" ({', '.join(f'{n} {where}' for where, n in counted.items() if n)})" if sides else ""


def _number_of(changes: Sequence[Change]) -> str:
    """`3 (2 published, 1 own value)`: how many, and what they rest on."""
    kinds = bases.kinds(one.row for one in changes)
    return f"{len(changes)} ({kinds})" if kinds else f"{len(changes)}"


def _runs(found: Comparison) -> list[tuple[str, compare.Run]]:
    return [("base", found.base), ("other", found.other)]


def _named(run: compare.Run) -> str:
    started = run.meta.get("started")
    return wording.one_line(f"{run.subject} ({run.path}{f', run of {started}' if started else ''})")


def _facts(run: compare.Run) -> list[tuple[str, str]]:
    wanted = ("subject", "weights sha256", "started")
    listed = [(label, value) for label, value in wording.facts(run.meta, run.rows) if label in wanted]
    listed = [(label, f"{value[:16]}…" if label == "weights sha256" else value) for label, value in listed]
    held = bases.line(run.rows)
    return [*listed, ("report", str(run.path)), ("rows", f"{len(run.rows):,}"), ("what holds", held or wording.NOTHING)]


def _expected_range(row: dict[str, Any]) -> tuple[float | None, float | None]:
    low, high = row.get("expected_low"), row.get("expected_high")
    return (1.0, high) if wording.is_rank(row) and high is not None else (low, high)


def _words(text: Any) -> str:
    return wording.one_line(text or "")
