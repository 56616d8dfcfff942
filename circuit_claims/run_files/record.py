"""`run.yaml` beside every report: the run with every option spelt out, and what it was made with.

`circuit-claims run --config run.yaml` makes the same run again.
"""

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from circuit_claims import __version__
from circuit_claims.embedded import suite_folder
from circuit_claims.fixtures.options import OPTIONS
from circuit_claims.run_files.arguments import SUITE, chapters
from circuit_claims.run_files.schema import ELSEWHERE, PATHS

NAME = "run.yaml"
_HEAD = """\
# This run of claims, with every option. To make it again, into another folder:
#   circuit-claims run --config {name} --report-dir ANOTHER
# Paths are relative to this file. What stands under made_with is compared, and changes nothing.
"""


def resolved(
    options: Mapping[str, Any],
    *,
    named: Sequence[str],
    started_in: Path,
    folder: Path,
    select: str,
    profile: str,
    workers: int,
    made_with: Mapping[str, Any],
) -> dict[str, Any]:
    """A run as a run file says it.

    options: by name, each with its value; named: what pytest was told to collect; started_in: the folder that paths were
    relative to; folder: that of the report, where the file will lie.
    """

    def beside(value: str) -> str:
        path, colons, rest = value.partition("::")
        there = started_in / Path(path).expanduser()
        return f"{os.path.relpath(there, folder)}{colons}{rest}" if path and there.exists() else value

    def chapter_or_path(one: str) -> str:
        chapter = _chapter(one, started_in)
        return beside(one) if chapter is None else chapter

    values = {name: options[name] for name in OPTIONS if name not in ELSEWHERE}
    values |= {name: beside(str(values[name])) for name in PATHS if values[name] is not None}
    return {
        "subject": beside(str(options["subject"])),
        "claims": [name for name in map(chapter_or_path, named) if name],
        "select": select,
        "options": {name: value for name, value in values.items() if value is not None},
        "hypothesis_profile": profile,
        "workers": workers,
        "report": ".",
        "made_with": dict(made_with),
    }


def _chapter(named: str, started_in: Path) -> str | None:
    """The name of the suite's chapter that was named, "" for the whole suite, None for claims of one's own."""
    if named == SUITE or named.removeprefix(f"{SUITE}.") in chapters():
        return named.removeprefix(SUITE).removeprefix(".")
    path = (started_in / named.partition("::")[0]).resolve()
    if "::" not in named and path == suite_folder().resolve():
        return ""
    return path.name if "::" not in named and path.parent == suite_folder().resolve() and path.name in chapters() else None


def made_with(meta: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Versions, commit, device and weights, from what the report knows of the run; root: of the project where it is run."""
    return {
        "circuit_claims": __version__,
        "python": platform.python_version(),
        "versions": dict(meta.get("versions") or {}),
        "git": commit(root),
        "device": str(meta.get("device", "")),
        "dtype": str(meta.get("dtype", "")),
        "weights_sha256": str(meta.get("weights_sha256", "")),
        "started": str(meta.get("started", "")),
    }


def commit(root: Path) -> dict[str, Any] | None:
    """The commit of the project at `root`, and whether files differ from it; None where it is in no git repository."""
    try:
        head = _git(root, "rev-parse", "HEAD").strip()
        return {"commit": head, "changed_files": bool(_git(root, "status", "--porcelain").strip())}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout


def write(folder: Path, run: Mapping[str, Any]) -> None:
    """Write run.yaml into the report's folder, whole or not at all. Raises OSError where that cannot be done."""
    path = folder / NAME
    half = path.with_suffix(".half")
    text = yaml.safe_dump(dict(run), sort_keys=False, allow_unicode=True, width=120)
    half.write_text(_HEAD.format(name=NAME) + text, encoding="utf-8")
    half.replace(path)


def unlike(made: Mapping[str, Any] | None) -> str:
    """One sentence where this machine has other versions than those that a run file was made with; else empty."""
    if not made:
        return ""
    from circuit_claims.subjects.subject import versions

    then = {"circuit-claims": made.get("circuit_claims"), "python": made.get("python"), **(made.get("versions") or {})}
    now = {"circuit-claims": __version__, "python": platform.python_version(), **versions()}
    other = [f"{name} {then[name]} (here {now[name]})" for name in now if then.get(name) not in (None, now[name])]
    return f"this run file was made with {', '.join(other)}: numbers may differ" if other else ""
