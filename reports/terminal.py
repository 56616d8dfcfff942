"""The table that closes a run in the terminal: claim, expected, observed with its interval, n, verdict.

Plain text, made for a given width. Where the claims' names have no room beside the numbers, each gets a line of its own above
them, and where the verdict has none either, it moves up too: a name that is cut to a few letters tells nobody which claim fell.
Many claims of a chapter that are untested for one reason, as where the model has no card, are one line.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size

from circuit_claims.reports import bases, chapters, multiplicity, wording
from circuit_claims.verdicts.rows import HOLDS, KNOWN_FALSE, UNTESTED

_HEADINGS = ("claim", "expected", "observed", "n")
_GAP = "  "
_LEAST_NAME = 40
#: Claims of a chapter that are untested for the same reason, from which on one line stands for all of them.
_MANY_ALIKE = 6
_QUIET = (HOLDS, KNOWN_FALSE)


@dataclass(frozen=True)
class Line:
    """One line of the table. `verdict` ends the line and is apart from `text` so that a terminal may colour it."""

    text: str
    verdict: str = ""

    def __str__(self) -> str:
        return self.text + self.verdict


def table(rows: Sequence[dict[str, Any]], width: int) -> list[Line]:
    """The rows, by chapter in the order they come, then what holds by its basis, the verdicts, and how many may be wrong."""
    if not rows:
        return []
    cells = {id(row): _cells(row) for row in rows}
    widths = [max(cell_len(text) for text in column) for column in zip(_HEADINGS, *cells.values(), strict=True)]
    verdict_width = max(len("verdict"), *(cell_len(_verdict(row)) for row in rows))
    room = width - sum(widths[1:]) - verdict_width - len(_GAP) * 5
    stacked = room < min(widths[0], _LEAST_NAME)
    # Where numbers and verdict have no room beside each other, the verdict stands beside the name above them.
    above = stacked and len(_GAP) * 6 + sum(widths[1:]) + verdict_width > width
    widths[0] = len(_GAP) if stacked else min(room, widths[0])
    beside = max(width, _LEAST_NAME) - len(_GAP) * 2 - verdict_width
    lines = [_named(_HEADINGS[0], beside, "verdict")] if above else []
    lines.append(_line(("" if stacked else _HEADINGS[0], *_HEADINGS[1:]), widths, "" if above else "verdict"))
    in_chapters = chapters.by_chapter(rows)
    for folder, chapter in in_chapters.items():
        heading = chapters.title(folder)
        # One chapter's counts are those of the run, which come last.
        heading += f": {bases.heading_line(chapter)}" if len(in_chapters) > 1 else ""
        lines.append(Line(shorten(heading, max(width, _LEAST_NAME))))
        alike = _untested_alike(chapter)
        for row in chapter:
            if row.get("verdict") == UNTESTED and wording.reason(row) in alike:
                continue
            name, *numbers = cells[id(row)]
            if above:
                lines.append(_named(name, beside, _verdict(row)))
            elif stacked:
                lines.append(Line(_GAP + shorten_name(name, max(width - len(_GAP), _LEAST_NAME))))
            name = "" if stacked else name
            lines.append(_line((name, *numbers), widths, "" if above else _verdict(row)))
            said = [*(["contested"] if wording.readings(row) else []), wording.populations(row)]
            if row.get("verdict") not in _QUIET:
                said.append(wording.reason(row))
            if any(said):
                text = " · ".join(part for part in said if part)
                lines.append(Line(_GAP * 3 + shorten(text, max(width - len(_GAP) * 3, _LEAST_NAME))))
        for why, number in alike.items():
            lines.append(
                Line(
                    _GAP + shorten(f"{number} claims: {why}", max(width, _LEAST_NAME) - len(_GAP * 3 + UNTESTED)) + _GAP * 2,
                    UNTESTED,
                )
            )
    lines.append(Line(""))
    lines += [
        Line(shorten(f"in brackets: {whose}, and not expected of this model", max(width, _LEAST_NAME)))
        for whose in dict.fromkeys(bases.label(row) for row in rows if bases.is_foreign(row) and row.get("op"))
    ]
    errors = multiplicity.line(rows)
    lines += [Line(text) for said in bases.sentences(rows) for text in wrapped(said, max(width, _LEAST_NAME))]
    lines.append(Line(bases.verdicts_line(rows)))
    return [*lines, Line(shorten(errors, max(width, _LEAST_NAME)))] if errors else lines


def _untested_alike(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """The reasons that many claims of a chapter are untested for, each with their number: one line says it of all of them."""
    reasons = Counter(wording.reason(row) for row in rows if row.get("verdict") == UNTESTED)
    return {why: number for why, number in reasons.items() if number >= _MANY_ALIKE}


def shorten(text: str, width: int) -> str:
    """`text` in at most `width` cells, with an ellipsis for what is cut."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def wrapped(text: str, width: int) -> list[str]:
    """`text` on as few lines of `width` cells as its words fit on."""
    found = [""]
    for word in text.split(" "):
        joined = f"{found[-1]} {word}" if found[-1] else word
        found[-1:] = [joined] if cell_len(joined) <= width or not found[-1] else [found[-1], word]
    return found


def shorten_name(name: str, width: int) -> str:
    """Like `shorten`, but keeps what tells a claim's variants apart: the head after the dot."""
    stem, dot, variant = name.rpartition(" · ")
    kept = f"{dot}{variant}"
    if cell_len(name) <= width or not dot or cell_len(kept) > width // 2:
        return shorten(name, width)
    return shorten(stem, width - cell_len(kept)) + kept


def _cells(row: dict[str, Any]) -> tuple[str, str, str, str]:
    name = wording.name_of(row)
    held_against = f"({wording.expected(row)})" if bases.is_foreign(row) else wording.expected(row)
    observed = " ".join(part for part in (wording.observed(row), wording.interval(row, brief=True)) if part)
    return name, held_against, observed, wording.sample_size(row)


def _named(name: str, width: int, verdict: str) -> Line:
    return Line(_GAP + set_cell_size(shorten_name(name, width), width) + _GAP, verdict)


def _line(cells: Sequence[str], widths: Sequence[int], verdict: str) -> Line:
    name, expected, observed, n = cells
    padded = [set_cell_size(shorten_name(name, widths[0]), widths[0]), set_cell_size(expected, widths[1])]
    padded += [set_cell_size(observed, widths[2]), n.rjust(widths[3])]
    return Line(_GAP + _GAP.join(padded) + _GAP, verdict)


def _verdict(row: dict[str, Any]) -> str:
    return wording.one_line(row.get("verdict") or "no verdict")
