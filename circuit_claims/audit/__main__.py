"""Run every claim on the controls, and write which control refutes it.

Exit status 1 where a claim is vacuous (its controls ran it, none refuted it, and no reason is listed) or a run failed, and 2
where the table cannot be kept.

    circuit-claims audit --base mini --jobs 2
    circuit-claims audit -k name_movers --add

Claims of your own, on the controls of your model (`circuit-claims audit my_claims --help`):

    circuit-claims audit my_claims --subject path/to/my-model
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from circuit_claims.audit.accuracy import accuracy
from circuit_claims.audit.controls import BASES, NO_CONTROL_CAN, OWN_CARD, WITH_KNOWN_TRUTH
from circuit_claims.audit.table import Audited, controls_by_claim, table
from circuit_claims.controls.planted import version
from circuit_claims.embedded import checkout, embedded

Rows = list[dict[str, Any]]
#: Where runs are made: the repository, whose settings of pytest then hold, or else the folder that the command is started in.
ROOT = checkout()
_RUNS = ROOT / "reports/out/audit" if ROOT else Path("circuit-claims-audit")
#: Where rows find their controls; committed, so that a fresh clone's reports have the column too.
LATEST = embedded("audit.json")


def main(arguments: list[str] | None = None) -> int:
    """Run the controls, write the table, say what is vacuous; with claims named, audit these."""
    given = sys.argv[1:] if arguments is None else arguments
    if _names_claims(given):
        from circuit_claims.audit.own import main as audit_own

        return audit_own(given)
    parser = argparse.ArgumentParser(
        prog="circuit-claims audit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    bases = [base.subject for base in BASES]
    parser.add_argument("--base", choices=bases, action="append", help="audit on this base alone (default: all of them)")
    parser.add_argument("--prompts", type=int, default=60, help="at a verdict's first look (60)")
    parser.add_argument("--max-prompts", type=int, default=240, help="that a verdict may cost in all (240)")
    parser.add_argument("--runs", type=Path, default=_RUNS, help=f"folder for the reports of the runs ({_RUNS.name})")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="so many runs at a time, of one thread each")
    parser.add_argument("--reuse", action="store_true", help="take the runs that are there already, and make only the others")
    parser.add_argument("-k", default="", help="only these claims, as for pytest; the table is then not kept, but for --add")
    parser.add_argument("--add", action="store_true", help="with -k: put these claims into the table that is kept")
    every = [subject for base in BASES for subject in (base.subject, *base.controls)]
    parser.add_argument("--on", choices=every, action="append", help="audit on these models alone (default: all of the bases')")
    args = parser.parse_args(arguments)
    args.runs = args.runs.resolve()
    chosen = [base for base in BASES if base.subject in (args.base or bases)]
    subjects = [subject for base in chosen for subject in (base.subject, *base.controls)]
    subjects = [subject for subject in subjects if subject in (args.on or subjects)]
    partial = bool(args.k or args.base or args.on)
    kept = args.add or not partial
    if kept and not os.access(LATEST.parent, os.W_OK):
        message = (
            f"the audit's table cannot be kept, since {LATEST.parent} cannot be written into: audit a part with -k or --base"
        )
        print(message, file=sys.stderr)
        return 2
    with ThreadPoolExecutor(max(1, args.jobs)) as pool:
        runs = pool.map(lambda subject: _run(subject, args), subjects)
        reports = dict(zip(subjects, runs, strict=True))
    audit = table(reports)
    _write(audit, reports, args, LATEST if kept else None)
    _say(audit, [subject for subject in subjects if subject in WITH_KNOWN_TRUTH], not kept)
    return 1 if any(claim.vacuous for claim in audit) else 0


def _names_claims(given: Sequence[str]) -> bool:
    """Whether an argument is there that is neither an option nor the value of one: claims to audit, in place of the suite's."""
    values = iter(given)
    for argument in values:
        if not argument.startswith("-"):
            return True
        if "=" not in argument and argument not in ("--reuse", "--add", "-h", "--help"):
            next(values, None)
    return False


def _run(subject: str, args: argparse.Namespace) -> Rows:
    """The rows of all claims on one subject.

    Raises SystemExit where pytest could not run them.
    """
    folder = args.runs / as_folder(subject)
    path = folder / "claims.json"
    if not (args.reuse and path.exists()):
        options = ["--prompts", str(args.prompts), "--max-prompts", str(args.max_prompts), "--hypothesis-profile", "fast"]
        command = [
            sys.executable,
            "-m",
            "pytest",
            *(["claims"] if ROOT else ["--pyargs", "circuit_claims.claims"]),
            "--subject",
            *_named(subject, folder, args),
            "--report-dir",
            str(folder),
            "-q",
            *options,
        ]
        command += ["-k", args.k] if args.k else []
        print(f"{subject} ...", file=sys.stderr, flush=True)
        done = _alone(command)
        if done.returncode not in (0, 1) or not path.exists():
            raise SystemExit(f"the claims could not be run on {subject}:\n{done.stdout[-2000:]}")
    return json.loads(path.read_text(encoding="utf-8"))["rows"]


def _named(subject: str, folder: Path, args: argparse.Namespace) -> list[str]:
    """The subject, and the options that follow it, as for pytest; its own card is found first.

    Raises SystemExit where discovery finds none.
    """
    name = subject.removesuffix(OWN_CARD)
    if name == subject:
        return subject.split()
    card = folder.resolve() / "card.toml"
    card.parent.mkdir(parents=True, exist_ok=True)
    print(f"{subject}: discovery ...", file=sys.stderr, flush=True)
    # On as many prompts as a verdict may cost: a card of fewer would have wider bounds than verdicts need.
    command = [
        sys.executable,
        "-m",
        "circuit_claims.discovery",
        "--subject",
        name,
        "--out",
        str(card),
        "--prompts",
        str(args.max_prompts),
    ]
    done = _alone([*command, "--force"])
    if done.returncode != 0:
        raise SystemExit(f"discovery could not find the own card of {name}:\n{done.stdout[-2000:]}")
    return [name, "--card", str(card)]


def _alone(command: list[str]) -> "subprocess.CompletedProcess[str]":
    """Several runs share the machine, and one thread each is the fastest way to share it."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, **options)


def as_folder(subject: str) -> str:
    """What a run's folder is called: a subject's name, and options that follow it, without what is awkward in a path."""
    return "-".join(part.replace(":", "-").lstrip("-") for part in subject.split())


def _write(audit: list[Audited], reports: dict[str, Rows], args: argparse.Namespace, latest: Path | None) -> None:
    args.runs.mkdir(parents=True, exist_ok=True)
    entry = {
        "made": datetime.now(UTC).date().isoformat(),
        "prompts": [args.prompts, args.max_prompts],
        "planted": version(),
        "weights": {subject: _weights(rows) for subject, rows in reports.items()},
        "controls": controls_by_claim(audit),
        "verdicts": {claim.claim_id: claim.verdicts for claim in audit},
    }
    if latest and args.add:
        entry = _added(entry, json.loads(latest.read_text(encoding="utf-8")))
    for path in (args.runs / "audit.json", *([latest] if latest else [])):
        half = path.with_suffix(".half")
        half.write_text(json.dumps(entry, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        half.rename(path)


def _weights(rows: Rows) -> str:
    """The checksum of the model: of the first row that has one, since an untested claim may have loaded nothing."""
    return next((row["weights_sha256"] for row in rows if row["weights_sha256"]), "")


def _added(entry: dict[str, Any], latest: dict[str, Any]) -> dict[str, Any]:
    """The latest audit with these claims besides, in place of what it said of them.

    Raises SystemExit where it is of other models, or was made with another number of prompts: the two would not be one table.
    """
    # Where a subject could test none of the claims, nothing was loaded that could differ; a control may be new. Planted models
    # are written anew on every machine, whose processor rounds in its own way: the version of their construction tells them.
    by_version = [subject for subject in entry["weights"] if "planted" in subject]
    known = {subject: checksum for subject, checksum in entry["weights"].items() if checksum and subject not in by_version}
    same = {"weights": all(latest["weights"].get(subject, checksum) == checksum for subject, checksum in known.items())}
    same |= {key: entry[key] == latest[key] for key in ("planted", "prompts")}
    for key, holds in same.items():
        if not holds:
            raise SystemExit(f"the latest audit has other {key}: run the whole of it anew (make audit)")
    verdicts = {claim: latest["verdicts"].get(claim, {}) | said for claim, said in entry["verdicts"].items()}
    both = {
        "weights": entry["weights"] | latest["weights"],
        "verdicts": latest["verdicts"] | verdicts,
        # From all models that each was ever run on, of which these may be some alone.
        "controls": latest["controls"] | controls_by_claim(Audited(claim, "", said) for claim, said in verdicts.items()),
    }
    return latest | both


def _say(audit: list[Audited], known: list[str], partial: bool) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)
    shown = Table("claim", "holds on", "refuted by", title="What refutes each claim")
    for claim in audit:
        why = NO_CONTROL_CAN.get(claim.claim_id, "")
        by = ", ".join(claim.refuted_by) or (f"none can: {why}" if why else "nothing" if claim.audited else "not audited")
        shown.add_row(claim.claim_id, ", ".join(claim.holds_on) or "—", by)
    console.print(shown)
    vacuous = [claim for claim in audit if claim.vacuous]
    unaudited = [claim for claim in audit if not claim.audited]
    console.print(
        f"{len(audit)} claims: {sum(bool(c.refuted_by) for c in audit)} refuted by a control, {len(vacuous)} vacuous, "
        f"{len(unaudited)} untested on every control"
    )
    for claim in vacuous:
        console.print(f"vacuous: {claim.claim_id}: {claim.statement}", markup=False)
    held = accuracy(audit, known)
    if held.pairs:
        by_model = Table(
            "model", "true statements that hold", "false ones that are refuted", title="Verdicts against the truth"
        )
        for subject in known:
            by_model.add_row(subject, *held.on(subject).counts())
        console.print(by_model)
        console.print(str(held), markup=False)
        for pair in held.wrong:
            what = "true, and refuted" if pair.true else "false, and holds"
            console.print(f"wrong: {pair.claim_id} is {what} on {pair.subject}", markup=False)
    if partial:
        console.print("a part of the audit only: the controls column of reports stays as it was")


if __name__ == "__main__":
    sys.exit(main())
