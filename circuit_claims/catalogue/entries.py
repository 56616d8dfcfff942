"""What stands in the catalogue, read and checked."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTED, CONTESTED, ELSEWHERE, NONE = STATUSES = ("tested", "contested", "elsewhere", "none")
_NUMBER_KEYS = {"id", "published", "status", "claims", "note"}
_CHAPTER_KEYS = {"title", "folders", "text", "numbers"}
_CATALOGUE_KEYS = {"introduction", "closing", "sources", "chapters"}
#: `ioi/test_behaviour.py`, or one test of it, with a parameter or without.
CLAIM = re.compile(r"\w+/test_\w+\.py(::test_\w+(\[[^\]]*\])?)?")


class CatalogueError(ValueError):
    """A catalogue that cannot be read; the message is one sentence."""


@dataclass(frozen=True)
class Number:
    """A published number or statement. id: several of them where the same is said of all; "" of the suite's own."""

    id: str
    published: str
    status: str
    claims: tuple[str, ...]
    note: str


@dataclass(frozen=True)
class Chapter:
    """Numbers about one subject. folders: of the claims that test them, below `claims/`. text: Markdown, after the table."""

    title: str
    folders: tuple[str, ...]
    text: str
    numbers: tuple[Number, ...]


@dataclass(frozen=True)
class Catalogue:
    """All chapters. sources: what the letters of an id stand for. introduction, closing: Markdown, around the chapters."""

    introduction: str
    closing: str
    sources: dict[str, str]
    chapters: tuple[Chapter, ...]


def read_catalogue(path: Path) -> Catalogue:
    """The catalogue in a file.

    Raises CatalogueError where it has an unknown key or status, a claim that names no test, or a number that says neither.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CatalogueError(f"the catalogue {path} cannot be read ({error}): mend it") from error
    _only(data, _CATALOGUE_KEYS, path, "the file")
    chapters = tuple(_chapter(chapter, path) for chapter in data.get("chapters", []))
    return Catalogue(data.get("introduction", ""), data.get("closing", ""), data.get("sources", {}), chapters)


def _chapter(data: dict[str, Any], path: Path) -> Chapter:
    where = f"the chapter {data.get('title')!r}"
    _only(data, _CHAPTER_KEYS, path, where)
    for key in ("title", "folders", "numbers"):
        if key not in data:
            raise CatalogueError(f"the catalogue {path}, {where}, lacks {key!r}: add it")
    numbers = tuple(_number(number, path) for number in data["numbers"])
    return Chapter(data["title"], tuple(data["folders"]), data.get("text", "").strip(), numbers)


def _number(data: dict[str, Any], path: Path) -> Number:
    where = f"the number {data.get('id')!r} ({data.get('published')!r})"
    _only(data, _NUMBER_KEYS, path, where)
    for key in ("id", "published", "status"):
        if key not in data:
            raise CatalogueError(f"the catalogue {path}, {where}, lacks {key!r}: add it")
    number = Number(data["id"], data["published"], data["status"], tuple(data.get("claims", [])), data.get("note", ""))
    if number.status not in STATUSES:
        raise CatalogueError(f"the catalogue {path}, {where}, has the status {number.status!r}: use {', '.join(STATUSES)}")
    for claim in number.claims:
        if not CLAIM.fullmatch(claim):
            raise CatalogueError(f"the catalogue {path}, {where}, names {claim!r}: write FOLDER/test_FILE.py::test_NAME")
    if (number.status in (TESTED, CONTESTED)) != bool(number.claims):
        raise CatalogueError(
            f"the catalogue {path}, {where}, is {number.status!r}: name claims where it is tested, and only there"
        )
    if not number.claims and not number.note:
        raise CatalogueError(f"the catalogue {path}, {where}, has no claim: say in a note why not")
    return number


def _only(data: dict[str, Any], known: set[str], path: Path, where: str) -> None:
    if unknown := sorted(set(data) - known):
        raise CatalogueError(
            f"the catalogue {path}, {where}, has the unknown key {unknown[0]!r}: use only {', '.join(sorted(known))}"
        )
