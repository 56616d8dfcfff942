"""Runs of this project's claims inside the process of a test, which has imported already what a process of their own would."""

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
from hypothesis import settings

from circuit_claims.reports import figures

ROOT = Path(__file__).parents[2]


class ClaimRun(NamedTuple):
    """A finished run of claims."""

    status: int
    said: str
    report: Path

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the report."""
        return json.loads(self.report.read_text(encoding="utf-8"))["rows"]


def run_claims(folder: Path, *arguments: str) -> ClaimRun:
    """Run claims with these arguments and a report in this folder; a run that did not end with verdicts is an error.

    The report's page has empty figures: drawing takes up to a quarter of a run, and no failure to draw would end one. What is
    refuted is told in a sentence and no traceback, for which pytest would first parse the source of each of its lines.
    """
    with mock.patch.object(figures, "draw", return_value=figures.Drawing("not drawn")):
        done = run_pytest(*arguments, "--report-dir", str(folder), "-q", "--no-progress", "--tb=native")
    assert done.returncode in (0, 1) and (folder / "claims.json").exists(), done.stdout
    return ClaimRun(done.returncode, done.stdout, folder / "claims.json")


def run_pytest(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What `python -m pytest` with these arguments would end with, and all that it would say."""
    profile = settings.get_current_profile_name()
    try:
        return in_process(lambda: int(pytest.main([*arguments, "-p", "no:cacheprovider", "--capture=sys"])))
    finally:
        settings.load_profile(profile)
        for name in [name for name in sys.modules if name.partition(".")[0] == "claims"]:
            del sys.modules[name]  # a later test's project has a folder of that name


def in_process(main: Callable[[], int], folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """What a process of this command, started in this folder, would end with, and all that it would say."""
    said = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = main()
    return subprocess.CompletedProcess([], status, said.getvalue())
