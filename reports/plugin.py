"""The pytest side of the report: rows arrive with the test reports, go into the journal, and are rendered at the end.

A claim's rows travel in `report.user_properties` as `("claim", JSON of the row)`, which pytest-xdist carries from its
workers by itself: the collector lives in the controlling process alone. What is known of the whole run (subject, device, seed,
versions) comes in `config.stash[META]`, filled by whoever knows it, at any time before the session ends.
"""

import inspect
import os
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from circuit_claims.embedded import suite_folder
from circuit_claims.fixtures.options import OPTIONS
from circuit_claims.fixtures.profiles import profile_name
from circuit_claims.fixtures.session import session_of
from circuit_claims.reports import bases, journal, terminal, wording
from circuit_claims.reports.folder_lock import FolderInUse, FolderLock
from circuit_claims.run_files import record
from circuit_claims.verdicts.claim_ids import claim_id_of
from circuit_claims.verdicts.rows import HOLDS, INVALID, KNOWN_FALSE, NOW_TRUE, REFUTED, rows_of

#: What a finished run writes beside its journal; features.html where there are dashboards of features.
RENDERED = ("report.html", "features.html", "report.md", "claims.csv", "claims.json")

#: Under this suite's own repository, and in the folder that pytest was started in anywhere else.
_AT_HOME, _ELSEWHERE = Path("reports/out/latest"), Path("circuit-claims-report")
_COLOURS = {HOLDS: "green", REFUTED: "red", NOW_TRUE: "red", INVALID: "red", KNOWN_FALSE: "cyan"}


def pytest_configure(config: pytest.Config) -> None:
    """Register the collector, or the listing where claims are only collected; neither in a worker of pytest-xdist."""
    if hasattr(config, "workerinput"):
        return
    if config.option.collectonly:
        config.pluginmanager.register(Listing(), "claims-listing")
        return
    given = config.getoption("--cc-report-dir")
    folder = config.invocation_params.dir / given if given else default_folder(config)
    if given:
        _check_writable(folder)
    config.pluginmanager.register(Collector(config, folder), "claims-collector")


def default_folder(config: pytest.Config) -> Path:
    """Where the report goes where nothing was said."""
    at_home = suite_folder().parent == config.rootpath
    return config.rootpath / _AT_HOME if at_home else config.invocation_params.dir / _ELSEWHERE


class Collector:
    """Takes rows in as tests report, and hands them to the formats when the session ends."""

    def __init__(self, config: pytest.Config, folder: Path) -> None:
        self.config = config
        self.folder = folder
        self.rows: list[tuple[int, dict[str, Any]]] = []
        self._order: dict[str, int] = {}  # every collected test, by its place in the collection
        self._taken: dict[str, int] = {}  # how many of a test's rows are in already
        self._session = datetime.now(UTC)  # what comes before the first claim, such as loading, is a part of the run
        self._started: datetime | None = None
        self._ran = False
        self._page: Path | None = None
        self._failure = ""
        self._lock = FolderLock(folder)
        self._locked = False
        self._unlocked = ""  # why the folder could not be locked
        self._run = uuid4().hex[:12]  # tells this run's lines in the journal from any other's

    def pytest_unconfigure(self) -> None:
        """The folder is free for the next run."""
        self._lock.release()
        self._locked = False

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """The order of the rows; under pytest-xdist the controller collects nothing, and the next hook gives it."""
        self._collected([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """A worker has collected; every worker collects the same tests in the same order."""
        self._collected(ids)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Begin with the first claim, so that a run that is refused leaves the former report as it was."""
        if self._started is None and is_claim(self.config, nodeid):
            self._begin()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the rows that this report brings for the first time.

        A test's properties pile up over its phases, so each later report repeats the earlier rows: a count tells them apart.
        """
        self._ran = True
        rows = rows_of(report.user_properties)
        wanted = report.when == "call" or (report.when == "setup" and not report.passed)
        torn_down_badly = report.when == "teardown" and report.failed
        if not (wanted or torn_down_badly):
            return
        taken = self._taken.get(report.nodeid, 0)
        self._taken[report.nodeid] = max(taken, len(rows))
        for row in rows[taken:]:
            if wanted or row.get("verdict") == INVALID:
                self._take(self._order.get(report.nodeid, len(self._order)), row)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Render the report. Whatever goes wrong here is told at the end and leaves the run's exit code alone."""
        if not self.rows:
            return
        meta = self._meta() | self._ending(session, int(exitstatus))
        try:
            # Rendering brings in pandas and matplotlib: imported here, they cost nothing to a run without claims.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from circuit_claims.reports.render import render

                if not self._failure:
                    journal.append_meta(self._journal, meta, self._run)
                self._page = render(meta, self.sorted_rows(), self.folder)
        except Exception as error:
            self._failure = self._failure or f"{type(error).__name__}: {error}"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The closing table and where the report is."""
        rows, missing = self.sorted_rows(), self._missing()
        if not rows and not missing:
            return
        terminalreporter.section("claims")
        if self.config.get_verbosity() < -1:
            for said in (*bases.sentences(rows), bases.verdicts_line(rows)):
                terminalreporter.write_line(said)
        else:
            for line in terminal.table(rows, self.config.get_terminal_writer().fullwidth):
                terminalreporter.write(line.text)
                colour = _COLOURS.get(line.verdict, "yellow")
                terminalreporter.write_line(line.verdict, **{colour: True} if line.verdict else {})
        if missing:
            terminalreporter.write_line(wording.one_line(_said_missing(missing)), yellow=True)
        if self._failure:
            terminalreporter.write_line(f"the report is not complete: {self._failure}", red=True)
        if self._page:
            terminalreporter.write_line(f"report: {self._page}")

    def sorted_rows(self) -> list[dict[str, Any]]:
        """The rows in the order of collection, however many processes they came from."""
        return [row for _, row in sorted(self.rows, key=lambda pair: pair[0])]

    @property
    def _journal(self) -> Path:
        return self.folder / "claims.jsonl"

    def _collected(self, ids: Sequence[str]) -> None:
        self._order = self._order or {nodeid: place for place, nodeid in enumerate(ids)}
        if self._started is None and any(is_claim(self.config, nodeid) for nodeid in ids):
            _check_writable(self.folder)
            self._take_folder()

    def _take_folder(self) -> None:
        """Keep other runs out of the folder, before anything is loaded.

        Raises pytest.UsageError where another run writes there, or where the folder cannot be written into.
        """
        if self._locked:
            return
        try:
            self._unlocked = self._lock.acquire()
        except FolderInUse as error:
            raise pytest.UsageError(
                f"another run writes its report into {self.folder} ({error.holder}): wait for its end, or name another "
                "folder with --report-dir"
            ) from error
        except OSError as error:
            raise pytest.UsageError(_unwritable(self.folder, str(error.strerror))) from error
        self._locked = True

    def _begin(self) -> None:
        self._take_folder()
        self._started = datetime.now(UTC)
        try:
            journal.start(self._journal, self._meta(), self._run)
            # Should this run be killed, no report of an earlier one must lie beside its journal.
            for name in RENDERED:
                (self.folder / name).unlink(missing_ok=True)
            self._write_run_file()
        except OSError as error:
            raise pytest.UsageError(_unwritable(self.folder, str(error.strerror))) from error

    def _write_run_file(self) -> None:
        """The run as a file that makes it again."""
        config, started_in = self.config, self.config.invocation_params.dir
        options = {name: config.getoption(f"--cc-{name}") for name in OPTIONS}
        run = record.resolved(
            options,
            named=[str(named) for named in config.option.file_or_dir or config.args],
            started_in=started_in,
            folder=self.folder,
            select=config.getoption("keyword", "") or "",
            profile=profile_name(config),
            workers=int(getattr(config.option, "numprocesses", None) or 0),
            made_with=record.made_with(self._meta(), config.rootpath),
        )
        record.write(self.folder, run)

    def _take(self, place: int, row: dict[str, Any]) -> None:
        if self._started is None:
            self._begin()
        self.rows.append((place, row))
        try:
            journal.append_row(self._journal, row, place, self._run)
        except OSError as error:
            # A full disk must not end the run: the rows stay in memory, and the summary says what happened.
            self._failure = self._failure or f"{self._journal}: {error.strerror}"

    def _meta(self) -> dict[str, Any]:
        started = {"started": self._session.isoformat(timespec="seconds")} if self._started else {}
        arguments = [str(argument) for argument in self.config.invocation_params.args]
        return {**session_of(self.config).meta, **started, "pytest_args": arguments}

    def _ending(self, session: pytest.Session, exitstatus: int) -> dict[str, Any]:
        """What only the end of the run knows."""
        finished = datetime.now(UTC)
        said = list(session_of(self.config).meta.get("warnings") or [])
        if exitstatus == pytest.ExitCode.INTERRUPTED or session.shouldstop or session.shouldfail:
            said.append("The run was interrupted before its end.")
        if self._unlocked:
            said.append(self._unlocked)
        missing = self._missing()
        if missing:
            said.append(_said_missing(missing))
        return {
            "finished": finished.isoformat(timespec="seconds"),
            "duration_s": round((finished - self._session).total_seconds(), 3) if self._started else None,
            "counts": wording.counts(self.sorted_rows()),
            "bases": bases.record(self.sorted_rows()),
            "warnings": said,
        }

    def _missing(self) -> list[str]:
        """The claims that were collected and left no row: not run, or lost with their worker."""
        # A run that never began (a wrong option, say) has its own message.
        return [nodeid for nodeid in self._order if self._ran and is_claim(self.config, nodeid) and not self._taken.get(nodeid)]


class Listing:
    """For `--collect-only`: what the claims say, chapter by chapter."""

    def __init__(self) -> None:
        self._statements: dict[str, dict[str, int]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Count the variants of each claim under its statement."""
        claims = session_of(session.config).claims
        for item in session.items:
            if is_claim(session.config, item.nodeid):
                identity = (claims or {}).get(item.nodeid) or claim_id_of(item.nodeid)
                file, _, _ = identity.partition("[")[0].rpartition("/")
                statements = self._statements.setdefault(file.rpartition("/")[0].partition("/")[0] or "other", {})
                said = _statement(item)
                statements[said] = statements.get(said, 0) + 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        """Print the list, unless asked to be quiet."""
        if not self._statements or config.get_verbosity() < 0:
            return
        terminalreporter.section("claims")
        for circuit, statements in self._statements.items():
            terminalreporter.write_line(wording.one_line(circuit))
            for said, variants in statements.items():
                times = f" ({variants} variants)" if variants > 1 else ""
                terminalreporter.write_line(f"  {wording.one_line(said)}{times}")


def _statement(item: pytest.Item) -> str:
    """The first line of the claim's docstring, or its name where it has none."""
    said = inspect.getdoc(getattr(item, "obj", None)) if hasattr(item, "obj") else None
    return said.strip().splitlines()[0] if said and said.strip() else wording.readable_name(item.name)


def is_claim(config: pytest.Config, nodeid: str) -> bool:
    """Whether a test is a claim; where nobody has told which ones are, those below a folder called `claims`."""
    claims = session_of(config).claims
    return nodeid in claims if claims is not None else bool(claim_id_of(nodeid))


def _said_missing(missing: Sequence[str]) -> str:
    first, others = missing[0], len(missing) - 1
    named = f"{first} and {others} more" if others else first
    return f"Collected, but without a row: {named}."


def _check_writable(folder: Path) -> None:
    """Raise a usage error unless `folder` could be made and written into. Makes nothing: there may be no claims to report."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise pytest.UsageError(_unwritable(folder, f"{existing} is not a folder that can be written into"))


def _unwritable(folder: Path, why: str) -> str:
    return f"cannot write the report into {folder} ({why}): name another folder with --report-dir."
