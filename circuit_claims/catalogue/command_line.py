"""`circuit-claims coverage`: how many published numbers are tested, which are not and why, and the page that lists all."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from circuit_claims.catalogue.entries import STATUSES, CatalogueError, read_catalogue
from circuit_claims.catalogue.page import claims_of, counts, page
from circuit_claims.embedded import suite_folder


def main(given: Sequence[str]) -> int:
    """Print what is asked for, or write the page. Exit status 2, after one sentence, where that cannot be done."""
    args = _arguments(given)
    try:
        catalogue = read_catalogue(suite_folder() / "catalogue.toml")
        if args.page:
            args.page.write_text(page(catalogue), encoding="utf-8")
            return 0
    except CatalogueError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{args.page} cannot be written ({error.strerror}): name another file", file=sys.stderr)
        return 2
    known = {folder for chapter in catalogue.chapters for folder in chapter.folders}
    if unknown := [name for name in args.chapters if name not in known]:
        print(f"there is no chapter {unknown[0]!r} in the catalogue: name one of {', '.join(sorted(known))}", file=sys.stderr)
        return 2
    for chapter in catalogue.chapters:
        if args.chapters and not set(args.chapters) & set(chapter.folders):
            continue
        print(f"{chapter.title}: " + ", ".join(f"{n} {status}" for status, n in zip(STATUSES, counts(chapter), strict=True)))
        for number in chapter.numbers:
            if number.status == args.status or (args.chapters and not args.status):
                print(f"  {number.id or '(ours)'}: {number.published}\n      {number.status}: {claims_of(number)}")
    return 0


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="circuit-claims coverage",
        description="Which published numbers are tested: a count by chapter, or each number of the named chapters.",
        epilog="Example: circuit-claims coverage ioi --status none",
    )
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help="folders of claims, such as ioi")
    parser.add_argument("--status", choices=STATUSES, help="list only the numbers of this status")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the page of documentation that lists all")
    return parser.parse_args(given)
