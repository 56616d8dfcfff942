"""The basis of each expectation in words, and verdicts counted by it.

"170 hold" says little where most of the 170 compare a model with its own numbers from other prompts. Statements of the
literature (published for this very model, or a threshold that a claim states of any model), a model's own values, and values of
another model are counted apart. Untested and invalid claims count nowhere: nothing was said about them.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from circuit_claims.cards.bases import (
    BASES,
    DEFINITION,
    MEASURED_ELSEWHERE,
    PUBLISHED,
    PUBLISHED_ELSEWHERE,
    RE_MEASURED,
)
from circuit_claims.reports import chapters, wording
from circuit_claims.verdicts.rows import HOLDS, INCONCLUSIVE, KNOWN_FALSE, NOW_TRUE, REFUTED

#: The two that speak of the literature, and the two whose numbers are another model's.
LITERATURE = (PUBLISHED, DEFINITION)
ELSEWHERE = (PUBLISHED_ELSEWHERE, MEASURED_ELSEWHERE)
#: What a report says that each of them means.
MEANINGS = {
    PUBLISHED: "A source published the value, or the heads, for this very model.",
    DEFINITION: "The claim itself states the threshold, for any model, as the definition of a role implies it.",
    RE_MEASURED: "This model's own card: measured with this suite on other prompts. It says whether a finding reproduces.",
    PUBLISHED_ELSEWHERE: "A source published it for the model that is named: it is held against this one, and not expected.",
    MEASURED_ELSEWHERE: "It was measured on the model that is named: it is held against this one, and not expected.",
}

_HOLDING = (HOLDS, NOW_TRUE)
_DECIDED = (*_HOLDING, REFUTED, KNOWN_FALSE, INCONCLUSIVE)


class Tally(NamedTuple):
    """How many of the claims on one basis hold, of how many with a verdict; `model` is that of a foreign card, else ""."""

    basis: str
    model: str
    holding: int
    of: int


class Other(NamedTuple):
    """What is published for another model beside a row, in the row's units; `within` are its ends where it has two of them."""

    model: str
    value: str
    within: str
    source: str


def basis_of(row: dict[str, Any]) -> str:
    """The row's basis; "" where none is noted, as in reports of earlier versions."""
    return str(row.get("basis") or "")


def tallies(rows: Iterable[dict[str, Any]]) -> list[Tally]:
    """The claims with a verdict by basis, in the order of `BASES`, those of foreign cards by their model; last without one."""
    found: dict[tuple[str, str], list[bool]] = {}
    for row in rows:
        if row.get("verdict") in _DECIDED:
            basis = basis_of(row)
            model = wording.one_line(row.get("card") or "") if basis in ELSEWHERE else ""
            found.setdefault((basis, model), []).append(row["verdict"] in _HOLDING)
    order = {basis: place for place, basis in enumerate(BASES)}
    ordered = sorted(found, key=lambda key: order.get(key[0], len(order)))  # stable
    return [Tally(*key, sum(found[key]), len(found[key])) for key in ordered]


def sentences(rows: Sequence[dict[str, Any]]) -> list[str]:
    """`33 of 46 statements of the literature hold`, `137 of 149 own values reproduce on other prompts` and so on."""
    counted = tallies(rows)
    literature = [tally for tally in counted if tally.basis in LITERATURE]
    said = []
    if literature:
        holding, of = sum(tally.holding for tally in literature), sum(tally.of for tally in literature)
        whose = " of the literature" if _of_the_suite(rows) else ""
        parts = [f"{tally.holding} of {tally.of} {_PARTS[tally.basis]}" for tally in literature]
        detail = f" ({', '.join(parts)})" if len(parts) > 1 else ""
        said.append(f"{holding} of {of} statement{_s(of)}{whose} {_verb('hold', holding, of)}{detail}")
    for basis, model, holding, of in (tally for tally in counted if tally.basis not in LITERATURE):
        if basis == RE_MEASURED:
            said.append(f"{holding} of {of} own value{_s(of)} {_verb('reproduce', holding, of)} on other prompts")
        elif basis in ELSEWHERE:
            said.append(f"{holding} of {of} value{_s(of)} {_whose(basis, model)} {_verb('hold', holding, of)} here, too")
        else:
            said.append(f"{holding} of {of} claim{_s(of)} with no basis noted {_verb('hold', holding, of)}")
    return said


def line(rows: Sequence[dict[str, Any]]) -> str:
    """All of them in one line; empty where there is no verdict."""
    return "; ".join(sentences(rows))


def short(rows: Sequence[dict[str, Any]]) -> str:
    """`literature 4 of 5, own values 9 of 10`, for a heading; empty where every verdict is about the literature."""
    counted = tallies(rows)
    if all(tally.basis in LITERATURE or not tally.basis for tally in counted):
        return ""
    literature = [tally for tally in counted if tally.basis in LITERATURE]
    parts = [("literature", sum(it.holding for it in literature), sum(it.of for it in literature))] if literature else []
    for basis, model, holding, of in (tally for tally in counted if tally.basis not in LITERATURE):
        name = "own values" if basis == RE_MEASURED else _whose(basis, model) if basis else "no basis noted"
        parts.append((name, holding, of))
    return ", ".join(f"{name} {holding} of {of}" for name, holding, of in parts)


def verdicts_line(rows: Sequence[dict[str, Any]]) -> str:
    """The verdicts counted, with a word that they are not all about the literature where some are not."""
    counts = wording.counts_line(rows)
    return f"verdicts on whatever basis: {counts}" if short(rows) else counts


def heading_line(rows: Sequence[dict[str, Any]]) -> str:
    """The verdicts of a chapter counted, and how many of them are about the literature where not all are."""
    apart = short(rows)
    return wording.counts_line(rows) + (f" ({apart})" if apart else "")


def kinds(rows: Iterable[dict[str, Any]]) -> str:
    """`2 published, 1 own value`: rows of any verdict by what they rest on; empty where all speak of the literature."""
    found: dict[str, int] = {}
    for row in rows:
        basis = basis_of(row)
        name = _whose(basis, wording.one_line(row.get("card") or "")) if basis in ELSEWHERE else _KINDS.get(basis, "")
        found[name] = found.get(name, 0) + 1
    unnoted = found.pop("", 0)
    if found.keys() <= {_KINDS[basis] for basis in LITERATURE}:
        return ""
    named = [f"{n} {name}{_s(n) if name == _KINDS[RE_MEASURED] else ''}" for name, n in found.items()]
    return ", ".join([*named, *([f"{unnoted} without a basis"] if unnoted else [])])


def label(row: dict[str, Any]) -> str:
    """The basis in a few words: the schema's word, or whose value it is."""
    basis = basis_of(row)
    return _whose(basis, wording.one_line(row.get("card") or "")) if basis in ELSEWHERE else wording.one_line(basis)


def is_foreign(row: dict[str, Any]) -> bool:
    """Whether the row is held against what was published for, or measured on, another model."""
    return basis_of(row) in ELSEWHERE


def expected(row: dict[str, Any]) -> str:
    """What the row is held against; a value of another model is called so, and not what is expected."""
    said = wording.expected(row)
    return f"{label(row)}: {said}" if is_foreign(row) else said


def beside(row: dict[str, Any]) -> list[Other]:
    """What is published for other models under the row's name, in its units."""
    given = row.get("beside")
    return [_other(row, one) for one in given if isinstance(one, dict)] if isinstance(given, list) else []


def beside_line(row: dict[str, Any]) -> str:
    """`published for GPT-2 small: 3.56`; empty where nothing is."""
    return "; ".join(f"published for {one.model}: {one.value}" for one in beside(row))


def record(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tallies as data."""
    return [tally._asdict() for tally in tallies(rows)]


_PARTS = {PUBLISHED: "published for this model", DEFINITION: "by definition"}
_KINDS = {PUBLISHED: "published", DEFINITION: "by definition", RE_MEASURED: "own value"}


def _other(row: dict[str, Any], given: dict[str, Any]) -> Other:
    value, low, high = (_number(given.get(key)) for key in ("value", "low", "high"))
    said, within = wording.NOTHING if value is None else wording.bound(row, value), ""
    if low is not None and high is not None:
        within = f"{wording.bound(row, low)} … {wording.bound(row, high)}"
    elif low is not None:
        said = f"≥ {wording.bound(row, low)}"
    elif high is not None:
        said = f"≤ {wording.bound(row, high)}"
    model, source = (
        wording.one_line(given.get(key) or otherwise) for key, otherwise in (("model", "another model"), ("source", ""))
    )
    return Other(model, said, within, source)


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whose(basis: str, model: str) -> str:
    return f"{'published for' if basis == PUBLISHED_ELSEWHERE else 'measured on'} {model or 'another model'}"


def _of_the_suite(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether all that the claims state is this suite's, and so the literature's: a project's own claims are anybody's."""
    stated = [folder for folder, chapter in chapters.by_chapter(rows).items() for row in chapter if basis_of(row) in LITERATURE]
    return all(folder and folder in chapters.TITLES for folder in stated)


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _verb(verb: str, count: int, of: int) -> str:
    return f"{verb}s" if 1 in (count, of) else verb
