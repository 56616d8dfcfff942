"""Pairs as columns, checked: what every source of pairs is made into, and what prompts are made from, one when it is asked for.

All checks go over whole columns, and what is slow, such as reading marks, over those texts alone that have a bracket, so that
100,000 pairs take a second or two. Nothing is tokenized here.
"""

import ast
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from circuit_claims.prompts.contrasts.errors import PairsError
from circuit_claims.prompts.contrasts.marks import Mark, MarksError, read_marks
from circuit_claims.prompts.contrasts.prompt import Answer, ContrastPrompt

if TYPE_CHECKING:  # slow to import
    from pandas import DataFrame

TEXTS = ("clean", "corrupted")
#: The columns of answers, in the order of preference: texts, lists of texts, numbers of tokens (EAP-IG, MIB).
ANSWERS = (("answer", "foil"), ("answers", "foils"), ("correct_idx", "incorrect_idx"))
#: Fewer pairs than this give no interval worth the name.
FEWEST_PAIRS = 8

Answers = tuple[Answer, ...]


@dataclass(frozen=True, eq=False)
class PairTable:
    """Checked pairs, column by column, each pair once.

    name: what they are called in rows. texts: `[pair]` without marks; marks: those of the texts that have any, by number.
    """

    name: str
    clean: Sequence[str]
    corrupted: Sequence[str]
    right: Sequence[Answers]
    wrong: Sequence[Answers]
    clusters: Sequence[str]
    rows: Sequence[int]
    clean_marks: Mapping[int, tuple[Mark, ...]]
    corrupted_marks: Mapping[int, tuple[Mark, ...]]
    roles: tuple[str, ...]
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.clean)

    def prompt(self, i: int, answers_of: int) -> ContrastPrompt:
        """A pair, with the answers of the pair `answers_of`: its own, unless they are dealt out anew."""
        return ContrastPrompt(
            self.clean[i],
            self.corrupted[i],
            self.right[answers_of],
            self.wrong[answers_of],
            self.clusters[i],
            self.clean_marks.get(i, ()),
            self.corrupted_marks.get(i, ()),
            self.rows[i],
        )

    @cached_property
    def digest(self) -> str:
        """A number of the pairs' content alone: the same on every machine, wherever they were read from."""
        found = hashlib.sha256()
        marks = (sorted(self.clean_marks.items()), sorted(self.corrupted_marks.items()))
        for column in (self.clean, self.corrupted, self.right, self.wrong, self.clusters, *marks):
            found.update(repr(list(column)).encode("utf-8", "surrogatepass"))
        return found.hexdigest()[:16]

    @cached_property
    def largest_token(self) -> tuple[int, int]:
        """The largest number of a token among the answers and its row; (−1, 0) where they are texts."""
        numbers = [
            (answer, row)
            for right, wrong, row in zip(self.right, self.wrong, self.rows, strict=True)
            for answer in (*right, *wrong)
            if isinstance(answer, int)
        ]
        return max(numbers, key=lambda it: it[0], default=(-1, 0))


def table_of(frame: "DataFrame", name: str, *, marks: bool = True, first_row: int = 1) -> PairTable:
    """Check pairs that lie in the columns of a frame.

    marks: whether brackets in the texts are marks. first_row: the number of the first row, as messages count them.

    Raises PairsError where a column is missing or a pair cannot be used.
    """
    columns = {str(column).strip(): column for column in frame.columns}
    missing = [column for column in TEXTS if column not in columns]
    kinds = [kind for kind in ANSWERS if all(column in columns for column in kind)]
    if not kinds:
        half = next((kind for kind in ANSWERS if any(column in columns for column in kind)), ANSWERS[0])
        missing += [column for column in half if column not in columns]
    if missing:
        there = ", ".join(map(repr, columns)) or "none"
        raise PairsError(
            f"{name} has no column {' and no column '.join(map(repr, missing))} (its columns: {there}): it needs clean, "
            "corrupted, answer and foil, or correct_idx and incorrect_idx for the last two"
        )
    check = _Columns(name, first_row)
    if not len(frame):
        raise PairsError(f"{name} has no pairs: give one a row, with clean, corrupted, answer and foil")
    written = [check.texts(frame[columns[column]].tolist(), column) for column in TEXTS]
    right, wrong = (check.answers(frame[columns[column]].tolist(), column) for column in kinds[0])
    check.answers_differ(right, wrong)
    (clean, clean_marks), (corrupted, corrupted_marks) = (
        check.marks(texts, column) if marks else (texts, {}) for texts, column in zip(written, TEXTS, strict=True)
    )
    check.texts_differ(clean, corrupted)
    roles = check.same_marks(clean_marks, corrupted_marks, len(clean))
    clusters = clean
    if "cluster" in columns:
        clusters = check.clusters(frame[columns["cluster"]].tolist())
    kept = _each_once(clean, corrupted, right, wrong, clusters, clean_marks, corrupted_marks)
    if len(kept) < FEWEST_PAIRS:
        pairs = (
            "1 pair" if len(kept) == 1 else f"{len(kept)} different pairs" if len(kept) < len(clean) else f"{len(kept)} pairs"
        )
        raise PairsError(f"{name} has {pairs}: give at least {FEWEST_PAIRS}, since fewer give no interval worth the name")
    return PairTable(
        name,
        clean=[clean[i] for i in kept],
        corrupted=[corrupted[i] for i in kept],
        right=[right[i] for i in kept],
        wrong=[wrong[i] for i in kept],
        clusters=[clusters[i] for i in kept],
        rows=[i + first_row for i in kept],
        clean_marks={new: clean_marks[i] for new, i in enumerate(kept) if i in clean_marks},
        corrupted_marks={new: corrupted_marks[i] for new, i in enumerate(kept) if i in corrupted_marks},
        roles=roles,
        left_out=len(clean) - len(kept),
    )


@dataclass(frozen=True)
class _Columns:
    """The checks, each of which says which row of what is wrong."""

    name: str
    first_row: int

    def wrong(self, i: int, what: str) -> PairsError:
        return PairsError(f"row {i + self.first_row} of {self.name} {what}")

    def texts(self, values: Sequence[Any], column: str) -> list[str]:
        for i, value in enumerate(values):
            if not isinstance(value, str) or not value.strip():
                found = (
                    "nothing" if isinstance(value, str) or value is None or value != value else f"{value!r}, which is no text,"
                )
                raise self.wrong(i, f"has {found} in the column {column!r}: give it a prompt, or leave the row out")
        return list(values)

    def answers(self, values: Sequence[Any], column: str) -> list[Answers]:
        known: dict[Any, Answers] = {}
        found = []
        for i, value in enumerate(values):
            if isinstance(value, str | int):
                if value not in known:
                    known[value] = self._answers(i, value, column)
                found.append(known[value])
            else:
                found.append(self._answers(i, value, column))
        return found

    def _answers(self, i: int, value: Any, column: str) -> Answers:
        tokens = column.endswith("_idx")
        given = _listed(value)
        if tokens:
            try:
                numbers = tuple(int(part) for part in given if float(part) == int(part))
            except (TypeError, ValueError):
                numbers = ()
            if len(numbers) != len(given) or not numbers or min(numbers) < 0:
                raise self.wrong(i, f"has {value!r} in the column {column!r}: give the number of a token, or a list of them")
            return tuple(dict.fromkeys(numbers))
        texts = tuple(dict.fromkeys(part for part in given if isinstance(part, str) and part.strip()))
        if not texts or len(texts) < len(set(map(str, given))):
            raise self.wrong(i, f"has {value!r} in the column {column!r}: give the answer as a text, or a list of texts")
        return texts

    def answers_differ(self, right: Sequence[Answers], wrong: Sequence[Answers]) -> None:
        for i, (answers, foils) in enumerate(zip(right, wrong, strict=True)):
            both = {_bare(answer) for answer in answers} & {_bare(foil) for foil in foils}
            if both:
                word = next(answer for answer in answers if _bare(answer) in both)
                raise self.wrong(i, f"has {word!r} both as answer and as foil: give a foil that is no answer")

    def texts_differ(self, clean: Sequence[str], corrupted: Sequence[str]) -> None:
        for i, (one, other) in enumerate(zip(clean, corrupted, strict=True)):
            if one == other:
                raise self.wrong(
                    i, f"has the same text as clean and as corrupted ({_short(one)}): change what decides the answer"
                )

    def clusters(self, values: Sequence[Any]) -> list[str]:
        for i, value in enumerate(values):
            if value is None or value != value or not str(value).strip():
                raise self.wrong(i, "has nothing in the column 'cluster': name what it is one observation with")
        return [str(value) for value in values]

    def marks(self, texts: Sequence[str], column: str) -> tuple[list[str], dict[int, tuple[Mark, ...]]]:
        plain, marks = list(texts), {}
        for i, text in enumerate(texts):
            if "[" in text or "]" in text:
                try:
                    plain[i], found = read_marks(text)
                except MarksError as error:
                    raise self.wrong(i, f"({column}: {_short(text)}) {error}") from error
                if found:
                    marks[i] = found
        return plain, marks

    def same_marks(
        self, clean: Mapping[int, tuple[Mark, ...]], corrupted: Mapping[int, tuple[Mark, ...]], n: int
    ) -> tuple[str, ...]:
        """The names of the marks, the same in every text, in the order of the first clean one."""
        if not clean and not corrupted:
            return ()
        first = tuple(mark.name for mark in clean.get(0, ()))
        for i in range(n):
            names, others = ({mark.name for mark in marks.get(i, ())} for marks in (clean, corrupted))
            for one, text, other in ((names - others, *TEXTS), (others - names, *reversed(TEXTS))):
                if one:
                    what = f"has the mark {min(one)!r} in its {text} text and not in its {other} one"
                    raise self.wrong(i, f"{what}: mark both, or neither")
            if names != set(first):
                mine, firsts = (", ".join(map(repr, sorted(some))) or "nothing" for some in (names, first))
                raise self.wrong(i, f"marks {mine} where row {self.first_row} marks {firsts}: mark the same in every row")
        return first


def _listed(value: Any) -> Sequence[Any]:
    """A cell's answers: a list as it is, or as a text that writes one, or the one value itself."""
    if isinstance(value, str) and value.strip().startswith("["):
        for read in (json.loads, ast.literal_eval):
            try:
                found = read(value.strip())
            except (ValueError, SyntaxError):
                continue
            if isinstance(found, list):
                return found
    if isinstance(value, list | tuple | np.ndarray):
        return list(value)
    return [value]


def _bare(answer: Answer) -> Answer:
    return answer.strip() if isinstance(answer, str) else answer


def _each_once(*columns: Any) -> list[int]:
    """The numbers of the pairs, without those that have been there before, marks and all."""
    *lists, clean_marks, corrupted_marks = columns
    first: dict[tuple, int] = {}
    for i, values in enumerate(zip(*lists, strict=True)):
        first.setdefault((*values, clean_marks.get(i, ()), corrupted_marks.get(i, ())), i)
    return list(first.values())


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
