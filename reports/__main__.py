"""`python -m reports render FILE.jsonl`: the report of a run that was cut short, from its journal."""

import argparse
import sys
from pathlib import Path

from reports.journal import ReportError, read
from reports.render import render


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; 0 when done, 2 with one sentence on stderr when the input or the output folder is no good."""
    options = _parser().parse_args(arguments)
    try:
        print(render_journal(options.journal, options.out))
    except ReportError as error:
        print(f"python -m reports: {error}", file=sys.stderr)
        return 2
    return 0


def render_journal(journal: Path, out: Path | None) -> Path:
    """Render a journal into `out`, or else into the journal's own folder, and return the path of report.html."""
    meta, rows = read(journal)
    if "finished" not in meta:
        warning = f"The run did not finish: this report covers the {len(rows)} rows it had written."
        meta = meta | {"warnings": [*(meta.get("warnings") or []), warning]}
    folder = out or journal.parent
    try:
        return render(meta, rows, folder)
    except OSError as error:
        raise ReportError(f"cannot write into {folder} ({error.strerror}): name another folder with --out.") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reports", description="Reports of claims, from their journals.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("render", help="write the report of a run from its journal, a killed run's included")
    command.add_argument("journal", type=Path, metavar="FILE.jsonl", help="the journal, claims.jsonl in the report's folder")
    command.add_argument("--out", type=Path, metavar="DIR", help="folder for the report (default: the journal's own)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
