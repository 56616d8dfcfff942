"""Anybody's claims on the controls: which of them cannot fail.

    circuit-claims audit my_claims/ --subject path/to/my-model

The claims are run on the subject, and then where a claim that says something of it should fall: on random weights of its shape,
on its own heads at other places, and, for claims about pairs of one's own, with the answers dealt out anew. A claim that holds
on every control that ran it says nothing of the subject, and is named.

Exit status 1 where there is such a claim, or a run broke off, and 2 where nothing can be audited. A control that the subject
cannot have is told, and the others count.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from circuit_claims.audit.table import FALSE, TRUE, Audited, table
from circuit_claims.controls.names import is_control
from circuit_claims.option_checks import FEWEST_PROMPTS
from circuit_claims.prompts.contrasts.population import DEALT
from circuit_claims.subjects.find import choose
from circuit_claims.verdicts.rows import INVALID, UNTESTED

#: pytest's exit statuses: tests ran, all passed or some failed; an option was refused, as a subject is that cannot be had; no
#: test was collected.
RAN, USAGE, NONE_COLLECTED = (0, 1), 4, 5
AUDIT = "audit.json"
SHUFFLED_PAIRS = "shuffled pairs"


@dataclass(frozen=True)
class Control:
    """A run that true claims should fail on: what it is called in the table, and pytest's arguments for it."""

    called: str
    arguments: tuple[str, ...]


def controls_of(subject: str) -> list[Control]:
    """The controls of a subject; of one that is a control itself, its pairs with the answers dealt out anew alone."""
    shuffled = Control(SHUFFLED_PAIRS, ("--cc-subject", subject, "--cc-shuffle-pairs"))
    if is_control(subject):
        return [shuffled]
    named = [("random weights", f"random:{subject}"), ("shuffled heads", f"shuffled:{subject}")]
    return [*(Control(called, ("--cc-subject", name)) for called, name in named), shuffled]


@dataclass(frozen=True)
class Ran:
    """A run: its rows, or in one sentence why there are none; missing: since there is no such control of the subject."""

    rows: list[dict[str, Any]]
    failure: str = ""
    missing: bool = False


def main(arguments: Sequence[str]) -> int:
    """Run the claims on the subject and its controls, say what cannot fail, write the table."""
    args = _arguments(arguments)
    for path in args.claims:
        if not Path(path.partition("::")[0]).exists():
            return _refuse(f"there is no {path}: name a folder or a file of claims")
    if args.max_prompts < args.prompts or args.prompts < FEWEST_PROMPTS:
        return _refuse(f"--prompts must be at least {FEWEST_PROMPTS}, and --max-prompts no fewer: raise them")
    args.subject, folder = choose(args.subject)[0], args.runs.resolve()
    base = Control(args.subject, ("--cc-subject", args.subject))
    first = _run(base, folder / "subject", args)
    if first.failure or not first.rows:
        return _refuse(first.failure or f"{' '.join(args.claims)} has no claims: a claim is a test that asks for `expect`")
    controls = controls_of(args.subject)
    with ThreadPoolExecutor(max(1, args.jobs)) as pool:
        found = pool.map(lambda it: _run(it, folder / it.called.replace(" ", "-"), args), controls)
        runs = dict(zip((control.called for control in controls), found, strict=True))
    failed = {called: run.failure for called, run in runs.items() if run.failure}
    audit = table({args.subject: first.rows} | {called: run.rows for called, run in runs.items() if not run.failure})
    for claim in audit:
        _note_lost_claims(claim, runs)
    ran = [called for called in runs if called not in failed]
    _say(audit, args.subject, ran, failed)
    _write(folder, audit, args.subject, ran, failed)
    if not ran:
        print(f"{args.subject} has no control that could be run: nothing is shown of its claims", file=sys.stderr)
    broken = any(run.failure and not run.missing for run in runs.values())
    return 1 if broken or not ran or any(cannot_fail(claim, ran) for claim in audit) else 0


def _note_lost_claims(claim: Audited, runs: Mapping[str, Ran]) -> None:
    """A claim that ended without a row on a control that ran, by an error of its own, is invalid there and not untested."""
    for called, run in runs.items():
        if called != SHUFFLED_PAIRS and not run.failure:
            claim.verdicts.setdefault(called, INVALID)


def cannot_fail(claim: Audited, controls: Sequence[str]) -> bool:
    """Whether controls ran it, and it held on every one that did."""
    said = [verdict for control in controls if (verdict := claim.verdicts.get(control, UNTESTED)) != UNTESTED]
    return bool(said) and all(verdict in TRUE for verdict in said)


def conclusion(claim: Audited, subject: str, controls: Sequence[str]) -> str:
    """What the controls show of a claim, in a few words."""
    refuted = [control for control in controls if claim.verdicts.get(control) in FALSE]
    if cannot_fail(claim, controls):
        said = "CANNOT FAIL: holds on every control"
    elif refuted:
        said = f"can fail: refuted on {', '.join(refuted)}"
    else:
        said = "not shown to fail: no control decided it"
    verdict = claim.verdicts.get(subject, UNTESTED)
    return said if verdict in TRUE else f"{said}; {verdict} on the subject"


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="circuit-claims audit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("claims", nargs="+", metavar="CLAIMS", help="folders or files of claims")
    add("--subject", default="auto", metavar="NAME", help="the model that they are about, as for pytest")
    add("--card", metavar="FILE", help="as for pytest; controls go by it too")
    add("--prompts", type=int, default=60, metavar="N", help="at a verdict's first look (60)")
    add("--max-prompts", type=int, default=240, metavar="N", help="that a verdict may cost in all (240)")
    add("-k", default="", metavar="EXPRESSION", help="only these claims, as for pytest")
    add("--jobs", type=int, default=1, metavar="N", help="so many runs at a time, of one thread each (1)")
    add("--runs", type=Path, default=Path("circuit-claims-audit"), metavar="DIR", help="for the reports of the runs")
    return parser.parse_args(list(given))


def _run(control: Control, folder: Path, args: argparse.Namespace) -> Ran:
    """The rows of the claims on one model; a report of an earlier run is not taken for this one's."""
    options = ["--cc-prompts", str(args.prompts), "--cc-max-prompts", str(args.max_prompts), "--hypothesis-profile", "fast"]
    options += ["--cc-card", args.card] if args.card else []
    options += ["-k", args.k] if args.k else []
    command = [sys.executable, "-m", "pytest", *args.claims, *control.arguments, "--cc-report-dir", str(folder), "-q", *options]
    rows = folder / "claims.json"
    rows.unlink(missing_ok=True)
    print(f"{control.called} ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as cache:  # nothing is left in the project that is audited
        command += ["-o", f"cache_dir={cache}"]
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode == NONE_COLLECTED:
        return Ran([])
    if done.returncode in RAN and not rows.exists():  # tests without a claim among them
        return Ran([])
    if done.returncode not in RAN:
        said = [line for line in done.stdout.splitlines() if line.strip()]
        return Ran([], _why(said), missing=done.returncode == USAGE)
    found = json.loads(rows.read_text(encoding="utf-8"))["rows"]
    # Answers that are dealt out anew change nothing for a claim that is about no pairs.
    return Ran([row for row in found if DEALT in row["quantity"] or control.called != SHUFFLED_PAIRS])


def _why(said: Sequence[str]) -> str:
    """The line of pytest's output that says what is wrong."""
    wrong = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR")]
    return wrong[-1] if wrong else said[-1] if said else "pytest could not run"


def _say(audit: Sequence[Audited], subject: str, controls: Sequence[str], failed: Mapping[str, str]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)
    shown = Table("claim", subject, *controls, "so", title="What the controls say of each claim")
    for claim in audit:
        verdicts = (claim.verdicts.get(name, "—") for name in (subject, *controls))
        shown.add_row(claim.claim_id, *verdicts, conclusion(claim, subject, controls))
    console.print(shown, markup=False)
    for called, why in failed.items():
        console.print(f"{called}: could not be run ({why})", markup=False)
    for claim in audit:
        if cannot_fail(claim, controls):
            console.print(f"cannot fail: {claim.claim_id}: {claim.statement}", markup=False)
    console.print(
        f"{len(audit)} claims: {sum(any(c.verdicts.get(it) in FALSE for it in controls) for c in audit)} refuted by a control, "
        f"{sum(cannot_fail(c, controls) for c in audit)} that cannot fail"
    )


def _write(folder: Path, audit: Sequence[Audited], subject: str, controls: Sequence[str], failed: Mapping[str, str]) -> None:
    entry = {
        "subject": subject,
        "controls": list(controls),
        "not_run": dict(failed),
        "claims": [
            {
                "claim_id": claim.claim_id,
                "statement": claim.statement,
                "verdicts": claim.verdicts,
                "cannot_fail": cannot_fail(claim, controls),
                "conclusion": conclusion(claim, subject, controls),
            }
            for claim in audit
        ],
    }
    half = folder / f"{AUDIT}.half"
    half.write_text(json.dumps(entry, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    half.replace(folder / AUDIT)


def _refuse(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 2
