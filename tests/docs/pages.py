"""The documentation as text: the README, its neighbours and the pages of docs/, for tests that hold it against the code."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
#: Every page by its path from the project's root: those that lie there, and those of the site.
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")))
}
EVERYTHING = "\n".join(PAGES.values())


def page(name: str) -> str:
    """A page of docs/, such as `how-to/pairs.md`."""
    return PAGES[f"docs/{name}"]


def section(text: str, heading: str) -> str:
    """What stands under a heading of the second level, up to the next one."""
    return re.split(r"^## ", text[text.index(f"\n## {heading}\n") + 4 :], maxsplit=1, flags=re.M)[0]


def blocks(text: str, language: str = "") -> list[str]:
    """The fenced blocks in a language; "" for commands, which stand in blocks without one."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M)
    return [block for tagged, block in fences if tagged == language]


def anchors(text: str) -> set[str]:
    """The addresses of a page's headings, as GitHub and mkdocs write them where there is no punctuation but in code."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
