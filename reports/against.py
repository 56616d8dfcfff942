"""`pytest claims --against BASE`: this run held against an earlier one, at its end.

The earlier report is read before anything runs: a wrong path costs no time, and the run may write its report into the same
folder. What became of each claim is printed below the claims' table and written beside the report; a claim that fell or no
longer runs makes pytest's exit status 1, whatever pytest itself made of it: a claim that held and is now *known false* is an
expected failure to pytest, and fell all the same.
"""

import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from circuit_claims.fixtures.session import session_of
from circuit_claims.reports.journal import ReportError
from circuit_claims.reports.plugin import Collector, is_claim
from circuit_claims.verdicts.claim_ids import claim_id_of

#: What a comparison is written as; `reports.compare_page` itself is imported only where there is something to compare.
_WRITTEN = ("compare.html", "compare.md", "compare.json")
_COLOURS = {"fell": "red", "no longer runs": "red", "weakened": "yellow", "rose": "green", "strengthened": "green"}
#: Options by which pytest runs a part of what it is pointed at.
_SELECTIONS = ("keyword", "markexpr", "deselect", "lf", "stepwise")


def pytest_configure(config: pytest.Config) -> None:
    """Read the earlier run; in a worker of pytest-xdist there is nothing to do.

    Raises pytest.UsageError where it cannot be read.
    """
    if hasattr(config, "workerinput"):
        return
    given = config.getoption("--cc-against")
    base = None
    if given is not None:
        from circuit_claims.reports.compare import read

        try:
            base = read(config.invocation_params.dir / given)
        except ReportError as error:
            raise pytest.UsageError(f"--against: {error}") from error
    if not config.option.collectonly:
        config.pluginmanager.register(Against(config, base), "claims-against")


class Against:
    """Compares when the session ends. Without an earlier run, it only sees to it that no stale comparison stays."""

    def __init__(self, config: pytest.Config, base: Any) -> None:
        self._config = config
        self._base = base
        self._started: str | None = None
        self._chapters: set[str] = set()  # the files whose claims were collected, named as ids name them
        self._found: Any = None
        self._page: Path | None = None
        self._failure = ""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Which chapters this run is about; under pytest-xdist the next hook says it."""
        self._collected([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """A worker has collected."""
        self._collected(ids)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """With the first claim a new report begins: no comparison of the former one must lie beside it."""
        collector = self._collector()
        if self._started is None and collector is not None and is_claim(self._config, nodeid):
            self._started = datetime.now(UTC).isoformat(timespec="seconds")
            for name in _WRITTEN:
                try:
                    (collector.folder / name).unlink(missing_ok=True)
                except OSError as error:
                    self._failure = f"{collector.folder / name}: {error.strerror}"

    # After the collector, which comes first and writes the report.
    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Compare, write, and let the exit status tell. Whatever goes wrong in writing is told at the end."""
        collector = self._collector()
        rows = collector.sorted_rows() if collector is not None else []
        if self._base is None or collector is None or not rows:
            return
        from circuit_claims.reports import compare

        whole = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        stopped = bool(session.shouldstop or session.shouldfail or not whole)
        now = compare.Run(collector.folder / "claims.json", self._meta(stopped), compare.plain(rows))
        self._found = compare.compare(self._base, now, self._not_selected(stopped))
        if self._base.path.parent.resolve() == collector.folder.resolve():
            self._found.remarks.append("The report of base was read, and this run's own has taken its place.")
        if self._found.lost and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from circuit_claims.reports.compare_page import write

                self._page = write(self._found, collector.folder)
        except Exception as error:
            self._failure = f"{type(error).__name__}: {error}"

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """What became of each claim, below the table of the claims."""
        if self._base is None:
            return
        terminalreporter.section("against base")
        if self._found is None:
            terminalreporter.write_line(f"no claim ran: nothing was held against {self._base.path}", yellow=True)
            return
        from circuit_claims.reports.compare_page import counts_line, lines

        if self._config.get_verbosity() < -1:
            terminalreporter.write_line(counts_line(self._found))
        else:
            for line in lines(self._found, self._config.get_terminal_writer().fullwidth):
                colour = _COLOURS.get(line.change, "cyan")
                terminalreporter.write_line(line.text, **{colour: True} if line.change else {})
        if self._failure:
            terminalreporter.write_line(f"the comparison is not complete: {self._failure}", red=True)
        if self._page:
            terminalreporter.write_line(f"comparison: {self._page}")
        if self._found.lost:
            terminalreporter.write_line(f"{self._found.lost} fell or no longer run: the exit status is not 0", red=True)

    def _collector(self) -> Collector | None:
        return self._config.pluginmanager.get_plugin("claims-collector")

    def _collected(self, ids: Sequence[str]) -> None:
        claims = session_of(self._config).claims
        known = map(claim_id_of, ids) if claims is None else (claims.get(nodeid, "") for nodeid in ids)
        self._chapters |= {_chapter(claim) for claim in known if claim}

    def _meta(self, stopped: bool) -> dict[str, Any]:
        """What is known of this run, as its report has it."""
        arguments = [str(argument) for argument in self._config.invocation_params.args]
        ended = {} if stopped else {"finished": datetime.now(UTC).isoformat(timespec="seconds")}
        return {**session_of(self._config).meta, "started": self._started, "pytest_args": arguments, **ended}

    def _not_selected(self, stopped: bool) -> Callable[[str], bool]:
        """Whether a claim of base that has no row now was left out of this run, by its id.

        A run of a part (by -k, by a test's name, or stopped early) says nothing of what it has not: all of that was not run.
        A run of whole chapters says that what is not there any more is gone.
        """
        option = self._config.option
        in_part = stopped or any(getattr(option, name, None) for name in _SELECTIONS)
        in_part = in_part or any("::" in argument for argument in self._config.args)
        return lambda claim: in_part or _chapter(claim) not in self._chapters


def _chapter(claim: str) -> str:
    """`ioi/name_movers` of `ioi/name_movers/they_attend[L9H9]`."""
    return claim.partition("[")[0].rpartition("/")[0]
