"""A report in words: what its rows show, role by role, and what they do not.

Made from the rows alone, and says no more than they do: what was measured on the very model that it is held against "reproduces
on other prompts", and what was not tested is listed as such.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from circuit_claims.reports import chapters, wording
from circuit_claims.reports.overview.roles import TOPICS, topic_of
from circuit_claims.reports.overview.untested import by_reason, is_untested
from circuit_claims.verdicts.rows import HOLDS, INCONCLUSIVE, INVALID, KNOWN_FALSE, NOW_TRUE, REFUTED

#: The chapter that is told role by role.
STORY = "ioi"
#: What a row's expectation stands on, where it was measured on this very model (`Row.basis`).
RE_MEASURED = "re-measured"
#: The rows that say whether the model does the task, and by how much.
_PREFERS = "ioi/behaviour/IO_outranks_S_on_nearly_every_prompt"
_DIFFERENCE = "ioi/behaviour/mean_logit_difference_is_as_published"
#: How a refuted claim's reason begins where what it presupposes is not so (`circuit_claims.measure.presuppositions`).
_NOTHING = "there is nothing to take a share of"
#: What the statements of each basis are called, in this order; a model's own values come last.
_KINDS = {"published": "published statements", "definition": "statements by definition", "": "statements"}
_NAMED, _REASONS, _LONGEST = 2, 2, 90


@dataclass(frozen=True)
class Summary:
    """lead: the behaviour, in a sentence or two; "" where no row is about it. topics: each role with what its rows say.
    chapters: each further chapter (its folder and its title) in a sentence. missing: what was not tested at all.
    """

    lead: str = ""
    topics: tuple[tuple[str, str], ...] = ()
    chapters: tuple[tuple[str, str, str], ...] = ()
    missing: str = ""


def summary(rows: Sequence[dict[str, Any]]) -> Summary:
    """The rows in words."""
    told = chapters.by_chapter(rows)
    missing: list[str] = []
    topics: list[tuple[str, str]] = []
    for topic, of_topic in _by_topic(told.get(STORY, [])).items():
        if all(is_untested(row) for row in of_topic):
            missing.append(f"{topic[:1].lower() + topic[1:] if topic[1:2].islower() else topic} ({_why(of_topic)})")
        else:
            topics.append((topic, _sentence(of_topic)))
    others: list[tuple[str, str, str]] = []
    for folder, of_chapter in told.items():
        if folder == STORY:
            continue
        if all(is_untested(row) for row in of_chapter):
            missing.append(f"{chapters.title(folder)} ({_why(of_chapter)})")
        else:
            others.append((folder, chapters.title(folder), _sentence(of_chapter)))
    not_shown = f"Not tested: {'; '.join(missing)}." if missing else ""
    return Summary(_behaviour(told.get(STORY, [])), tuple(topics), tuple(others), not_shown)


def _by_topic(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(topic_of(row), []).append(row)
    return {topic: found[topic] for topic in (*TOPICS, *(topic for topic in found if topic not in TOPICS)) if topic in found}


def _behaviour(rows: Sequence[dict[str, Any]]) -> str:
    """Whether the model does the task, with the numbers."""
    if not rows:
        return ""
    measured = {key: _row(rows, key) for key in (_PREFERS, _DIFFERENCE)}
    said = []
    if (row := measured[_PREFERS]) is not None:
        of = f" of {wording.sample_size(row)} prompts" if row.get("n") else " of prompts"
        said.append(f"IO is preferred over S on {wording.observed_with_interval(row)}{of}{_unless_it_holds(row)}")
    elif presupposed := next(filter(None, map(_presupposed, rows)), ""):
        said.append(presupposed)
    if (row := measured[_DIFFERENCE]) is not None:
        said.append(f"the mean logit difference is {wording.observed_with_interval(row)} logits{_unless_it_holds(row)}")
    verdict = "is not shown by these rows"
    if (row := measured[_PREFERS]) is not None:
        own = row.get("basis") == RE_MEASURED
        there = "is there, as often on other prompts as when its card was made" if own else "is there"
        not_so = "is not there as stated"
        verdict = {HOLDS: there, NOW_TRUE: there, REFUTED: not_so, KNOWN_FALSE: not_so}.get(str(row.get("verdict")), verdict)
    elif said and _presupposed_missing(rows):
        verdict = "is not there"
    return f"Indirect object identification {verdict}{': ' if said else ''}{'; '.join(said)}."


def _row(rows: Iterable[dict[str, Any]], claim_id: str) -> dict[str, Any] | None:
    return next((row for row in rows if row.get("claim_id") == claim_id and row.get("observed") is not None), None)


def _unless_it_holds(row: dict[str, Any]) -> str:
    return "" if row.get("verdict") == HOLDS else f" ({_word(row)}: expected {wording.expected(row)})"


def _presupposed(row: dict[str, Any]) -> str:
    """The share of prompts on which IO is preferred, as a refuted row says it of what it presupposes."""
    found = re.search(r"(IO is preferred on [^:]*? of \d+ prompts)", str(row.get("reason") or ""))
    return wording.one_line(found[1]) if found else ""


def _presupposed_missing(rows: Iterable[dict[str, Any]]) -> bool:
    return any(_fell(row) for row in rows)


def _sentence(rows: Sequence[dict[str, Any]]) -> str:
    """What holds, what does not, and what was not tested."""
    tested = [row for row in rows if not is_untested(row) and row.get("verdict") != INVALID]
    parts = [*_holding(tested), *_refuted(rows), *_others(rows)]
    untested = [row for row in rows if is_untested(row)]
    if untested:
        parts.append(f"{len(untested)} untested ({_why(untested)})")
    return f"{'; '.join(parts)}."


def _holding(tested: Sequence[dict[str, Any]]) -> list[str]:
    """How many hold of how many, each basis by itself, since they say different things."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in tested:
        groups.setdefault(wording.one_line(row.get("basis") or ""), []).append(row)
    said = []
    for basis in sorted(groups, key=lambda basis: (basis == RE_MEASURED, list(_KINDS).index(basis) if basis in _KINDS else 9)):
        rows = groups[basis]
        holding = f"{sum(row.get('verdict') in (HOLDS, NOW_TRUE) for row in rows)} of {len(rows)}"
        if basis == RE_MEASURED:
            said.append(f"{holding} of its own values reproduce on other prompts")
        else:
            said.append(f"{holding} {_KINDS.get(basis, f'statements ({basis})')} hold")
    return [", ".join(said)] if said else []


def _refuted(rows: Sequence[dict[str, Any]]) -> list[str]:
    refuted = [row for row in rows if row.get("verdict") == REFUTED]
    fallen, others = [row for row in refuted if _fell(row)], [row for row in refuted if not _fell(row)]
    said = []
    if others:
        named = [
            f"“{wording.name_of(row)}” ({wording.observed_with_interval(row)}, expected {wording.expected(row)})"
            for row in others[:_NAMED]
        ]
        more = [f"{len(others) - _NAMED} more"] if len(others) > _NAMED else []
        said.append(f"refuted: {', '.join([*named, *more])}")
    if fallen:
        why = next(filter(None, map(_presupposed, fallen)), "there is nothing to take a share of")
        said.append(f"{len(fallen)} refuted since what they presuppose is not so ({why})")
    return said


def _fell(row: dict[str, Any]) -> bool:
    return row.get("verdict") == REFUTED and str(row.get("reason") or "").startswith(_NOTHING)


def _others(rows: Sequence[dict[str, Any]]) -> list[str]:
    words = {
        INCONCLUSIVE: "undecided",
        KNOWN_FALSE: "false, as its card foretold",
        NOW_TRUE: "true although its card calls it false",
        INVALID: "not measured, since something went wrong",
    }
    found = Counter(str(row.get("verdict") or "") for row in rows)
    return [f"{found[verdict]} {word}" for verdict, word in words.items() if found[verdict]]


def _why(untested: Sequence[dict[str, Any]]) -> str:
    reasons = list(by_reason(untested))
    said = [reason if len(reason) <= _LONGEST else f"{reason[:_LONGEST].rstrip()}…" for reason in reasons[:_REASONS]]
    more = len(reasons) - _REASONS
    return ", ".join([*said, *([f"and {more} other reason{'s' if more > 1 else ''}"] if more > 0 else [])])


def _word(row: dict[str, Any]) -> str:
    return wording.one_line(row.get("verdict") or "no verdict")
