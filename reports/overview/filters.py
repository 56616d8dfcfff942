"""The filters of a report: chips by verdict, basis and chapter, each with its number of claims."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from circuit_claims.reports import wording
from circuit_claims.reports.document import css_class


def filters_of(rows: Sequence[dict[str, Any]], titles: dict[str, str]) -> list[dict[str, Any]]:
    """The groups of chips: {"key", "label", "chips": [(value, text, css class, number)]}; a group of one chip is none.

    titles: of the chapters, by folder, in their order. Rows without a basis have no chip for it.
    """
    verdicts = [(word, word, css_class(word), n) for word, n in wording.counts(rows).items()]
    bases = Counter(str(row["basis"]) for row in rows if row.get("basis"))
    folders = Counter(folder_of(row) for row in rows)
    groups = [
        ("verdict", "Verdict", verdicts),
        ("basis", "Basis", [(word, word, "", n) for word, n in bases.items()]),
        ("chapter", "Chapter", [(folder, title, "", folders[folder]) for folder, title in titles.items()]),
    ]
    least = {"verdict": 1, "basis": 1, "chapter": 2}
    return [{"key": key, "label": label, "chips": chips} for key, label, chips in groups if len(chips) >= least[key]]


def folder_of(row: dict[str, Any]) -> str:
    """The folder that the row's chapter is called by, as in `chapters.by_chapter`."""
    return str(row.get("chapter", row.get("circuit")) or "")
