"""The catalogue as a page of Markdown: a table for each chapter."""

from circuit_claims.catalogue.entries import CONTESTED, STATUSES, Catalogue, Chapter, Number

#: What stands behind the claims at once; all else after a semicolon.
_GOES_ON = ("(", "and ", "with ")


def page(catalogue: Catalogue) -> str:
    """The page, with a newline at its end."""
    parts = [
        "# Coverage",
        "<!-- Written by `circuit-claims coverage --page` from claims/catalogue.toml: change that file, not this one. -->",
        catalogue.introduction.strip(),
        summary(catalogue),
        "## What the ids stand for",
        _table(("id", "source"), [(name, source) for name, source in catalogue.sources.items()]),
        *(part for chapter in catalogue.chapters for part in _chapter(chapter)),
        catalogue.closing.strip(),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(catalogue: Catalogue) -> str:
    """How many numbers of each chapter are tested, and how many not, as a table."""
    rows = [(chapter.title, *map(str, counts(chapter))) for chapter in catalogue.chapters]
    totals = [str(sum(counts(chapter)[place] for chapter in catalogue.chapters)) for place in range(len(STATUSES))]
    return _table(("chapter", *STATUSES), [*rows, ("all", *totals)])


def counts(chapter: Chapter) -> tuple[int, ...]:
    """How many numbers have each status, in the order of `STATUSES`."""
    return tuple(sum(number.status == status for number in chapter.numbers) for status in STATUSES)


def _chapter(chapter: Chapter) -> list[str]:
    folders = ", ".join(f"`claims/{folder}`" for folder in chapter.folders)
    rows = [(number.id or "(ours)", number.published, claims_of(number)) for number in chapter.numbers]
    return [f"## {chapter.title}", f"Claims: {folders}.", _table(("id", "published", "claim"), rows), chapter.text]


def claims_of(number: Number) -> str:
    """The cell of a number: its claims, those first that the note does not speak of, and the note."""
    note, listed = number.note, []
    for claim in number.claims:
        short = f"`{claim.partition('::')[2] or claim.partition('/')[2]}`"
        if short in note:
            note = note.replace(short, f"`{claim}`", 1)
        else:
            listed.append(f"`{claim}`")
    text = ", ".join(listed)
    if number.status == CONTESTED and "*contested*" not in note:
        text += ", *contested*"
    if not note or not text:
        return text or note
    return f"{text} {note}" if note.startswith(_GOES_ON) else f"{text}; {note}"


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (heads, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(heads), *lines[1:]])
