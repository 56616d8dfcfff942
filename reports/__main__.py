"""Reports from the command line.

`circuit-claims report render FILE.jsonl`: the report of a run that was cut short, from its journal.
`circuit-claims report compare BASE OTHER`: what became of each claim from one run to another.
"""

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

from circuit_claims.option_checks import contradiction
from circuit_claims.reports.folder_lock import FolderInUse, FolderLock, in_use
from circuit_claims.reports.journal import ReportError, read
from circuit_claims.reports.render import render


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; 2 with one sentence on stderr when the input or the output folder is no good.

    Else 0, but 1 when a comparison finds that a claim fell or no longer runs.
    """
    given = sys.argv[1:] if arguments is None else arguments
    parser = _parser()
    options = parser.parse_args(given)
    if twice := contradiction(given, ("--out",)):
        parser.error(twice)
    try:
        return options.run(options)
    except ReportError as error:
        print(f"circuit-claims report: {error}", file=sys.stderr)
        return 2


def render_journal(journal: Path, out: Path | None) -> Path:
    """Render a journal into `out`, or else into the journal's own folder, and return the path of report.html."""
    folder = out or journal.parent
    under_way = in_use(journal.parent)
    meta, rows = read(journal)
    if "finished" not in meta:
        what = f"The run is still under way ({under_way})" if under_way else "The run did not finish"
        warning = f"{what}: this report covers the {len(rows)} rows it had written."
        meta = meta | {"warnings": [*(meta.get("warnings") or []), warning]}
    with _locked(folder):
        return render(meta, rows, folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Write into a folder that no run writes into.

    Raises ReportError where one does, or where the folder cannot be written into.
    """
    lock = FolderLock(folder)
    try:
        if said := lock.acquire():
            print(f"circuit-claims report: {said}", file=sys.stderr)
        yield
    except FolderInUse as error:
        raise ReportError(
            f"a run writes its report into {folder} ({error.holder}): wait for its end, or name another folder with --out."
        ) from error
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        lock.release()


def compare_reports(base: Path, other: Path, out: Path | None) -> int:
    """Print what became of each claim of `base` in `other`, write it into `out` (default: beside `other`), and return 1 when
    a claim fell or no longer runs, else 0."""
    from circuit_claims.reports import compare, compare_page

    found = compare.compare(compare.read(base), compare.read(other))
    if not found.shared:
        raise ReportError(f"{base} and {other} have no claim in common: compare two runs of the same claims.")
    folder = out or found.other.path.parent
    # An output that is no UTF-8, as CI may have, must not turn a finding into a traceback.
    if isinstance(sys.stdout, TextIOWrapper):  # what replaces it in tests and notebooks may be no such thing
        sys.stdout.reconfigure(errors="replace")
    for line in compare_page.lines(found, shutil.get_terminal_size((100, 24)).columns):
        print(line.text)
    with _locked(folder):
        print(f"comparison: {compare_page.write(found, folder)}")
    return 1 if found.lost else 0


def _render(options: argparse.Namespace) -> int:
    print(render_journal(options.journal, options.out))
    return 0


def _compare(options: argparse.Namespace) -> int:
    return compare_reports(options.base, options.other, options.out)


def _unwritable(folder: Path, error: OSError) -> ReportError:
    return ReportError(f"cannot write into {folder} ({error.strerror}): name another folder with --out.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="circuit-claims report",
        description="Reports of claims: from a journal, and compared.",
        epilog="Example: circuit-claims report compare out/base out/my-finetune",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "render",
        help="write the report of a run from its journal, a killed run's included",
        epilog="Example: circuit-claims report render circuit-claims-report/claims.jsonl",
    )
    command.add_argument("journal", type=Path, metavar="FILE.jsonl", help="the journal, claims.jsonl in the report's folder")
    command.add_argument("--out", type=Path, metavar="DIR", help="folder for the report (default: the journal's own)")
    command.set_defaults(run=_render)
    command = commands.add_parser(
        "compare",
        help="say what became of each claim from one run to another",
        description="Hold one run against another, claim by claim. Exit status: 1 when a claim fell or no longer runs, 0 when "
        "none did, 2 when there is nothing to compare.",
        epilog="Example: circuit-claims report compare out/base/claims.json out/my-finetune/claims.json",
    )
    what = "its claims.json, its claims.jsonl, or the folder of its report"
    command.add_argument("base", type=Path, metavar="BASE", help=f"the run to hold against: {what}")
    command.add_argument("other", type=Path, metavar="OTHER", help="the run of the changed model, likewise")
    command.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for compare.html, compare.md and compare.json (default: OTHER's)"
    )
    command.set_defaults(run=_compare)
    return parser


if __name__ == "__main__":
    sys.exit(main())
