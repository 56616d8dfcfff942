"""The chapters of a report: the rows of one folder below `claims/` together, under a title in words."""

from collections.abc import Iterable
from typing import Any

from circuit_claims.reports import wording

#: What the folders are about. A folder that stands not here goes by its name.
TITLES = {
    "ioi": "Indirect object identification",
    "induction": "Induction",
    "attribution": "Attribution",
    "facts": "Factual recall",
    "greater_than": "Greater-than",
    "acronyms": "Acronyms",
    "copy_suppression": "Copy suppression",
    "successors": "Successor heads",
    "subject_verb_agreement": "Subject-verb agreement",
    "gendered_pronouns": "Gendered pronouns",
    "docstrings": "Docstrings",
    "two_digit_addition": "Two-digit addition",
    "discovery": "Discovery of circuits by edges",
    "other_circuits": "Other circuits",  # reports of an earlier version
    "probing": "Probing",
    "sae": "Sparse autoencoder",
    "weights": "Weights alone",
    "tokenizer": "Tokenizer alone",
    "": "Other claims",
}


def by_chapter(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each folder, rows in the order in which they come; folders in that of `TITLES`, and others after them."""
    chapters: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        chapters.setdefault(str(row.get("chapter", row.get("circuit")) or ""), []).append(row)
    places = {folder: place for place, folder in enumerate(TITLES)}
    return dict(sorted(chapters.items(), key=lambda chapter: places.get(chapter[0], len(places))))


def title(folder: str) -> str:
    """A chapter's title: in words where they are known, else the folder's name with spaces."""
    if folder in TITLES:
        return TITLES[folder]
    name = " ".join(wording.one_line(folder).replace("_", " ").split())
    return name[:1].upper() + name[1:]


def title_of(folder: str, rows: Iterable[dict[str, Any]], meta: dict[str, Any]) -> str:
    """The title, with whose weights it is about where these are not the run's subject's: `Weights alone · on gpt2-small`."""
    measured = dict.fromkeys(row.get("subject") for row in rows if row.get("observed") is not None)
    others = [wording.one_line(subject) for subject in measured if subject and subject != meta.get("subject", subject)]
    return f"{title(folder)} · on {', '.join(others)}" if others else title(folder)
