"""The progress bar: one live line below what pytest prints, while claims run on a terminal.

What pytest prints during the run goes through the same console that draws the bar: whole lines above it, the line that pytest
is still writing (a file's name and its letters) as the upper part of the drawing. So nothing is garbled, and what remains on
the screen is what would be there without the bar.
"""

import math
import os
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import pytest
from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from circuit_claims import forward_passes
from circuit_claims.reports.plugin import is_claim
from circuit_claims.reports.wording import one_line

#: Columns from which on there is room for a drawn bar beside the figures, and its own.
_WIDE, _DRAWN = 100, 20
#: Columns at the end of the line that stay empty.
_SPARE = 3
#: Columns between two figures.
_GAP = "  "


def pytest_configure(config: pytest.Config) -> None:
    """Register what counts and draws; never in a worker of pytest-xdist, whose output is not the terminal's."""
    if not (hasattr(config, "workerinput") or config.option.collectonly or config.getoption("--cc-no-progress")):
        config.pluginmanager.register(Progress(config), "claims-progress")


class Progress:
    """Counts claims as they start and end, and has the bar drawn from the first claim's start to the end of the last test."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._collected = 0
        self._running: dict[str, None] = {}  # node ids in the order of their start: several under pytest-xdist
        self._done: set[str] = set()
        self._started = self._last_done = 0.0
        self._passes_before = 0
        self._bar: Bar | None = None
        self._over = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """However the run ends (all done, Ctrl-C, a usage error), the bar is gone before anything is said about it."""
        self._collected = sum(is_claim(self._config, item.nodeid) for item in session.items)
        try:
            return (yield)
        finally:
            self._stop()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Under pytest-xdist the controller itself collects nothing."""
        self._collected = sum(is_claim(self._config, nodeid) for nodeid in ids)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Start with the first claim: before it the subject is loaded, and the hub's downloads draw bars of their own."""
        if is_claim(self._config, nodeid):
            self._running[nodeid] = None
            if self._bar is None and not self._over:
                self._start()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A claim is done with its teardown, or with the report that its worker crashed, which is of no phase."""
        if report.when not in ("setup", "call") and report.nodeid in self._running:
            del self._running[report.nodeid]
            self._done.add(report.nodeid)
            self._last_done = time.monotonic()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """For a run that was under way before anybody knew of claims, as pytest-xdist's controller is."""
        self._stop()

    def pytest_enter_pdb(self) -> None:
        """From the first breakpoint on, the terminal is the debugger's."""
        if self._bar is not None:
            self._bar.abandon()
        self._stop()

    def _start(self) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        writer = self._config.get_terminal_writer() if reporter and _wanted(self._config, reporter) else None
        # The writer's file is no public attribute: a pytest that has no such thing goes without a bar.
        if reporter is None or writer is None or not hasattr(writer, "_file"):
            self._over = True
            return
        reporter.ensure_newline()
        self._started = self._last_done = time.monotonic()
        self._passes_before = forward_passes.total()
        self._bar = Bar(writer, self._figures, colour=reporter.hasmarkup)
        self._bar.start()

    def _stop(self) -> None:
        self._over = True
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.stop()

    def _figures(self) -> "Figures":
        # The forward passes of pytest-xdist's workers are counted there, and not sent here.
        distributed = self._config.pluginmanager.has_plugin("dsession")
        now = time.monotonic()
        return Figures(
            done=len(self._done),
            collected=self._collected,
            passes=None if distributed else forward_passes.total() - self._passes_before,
            elapsed=now - self._started,
            since_last=now - self._last_done,
            running=[one_line(nodeid).rpartition("claims/")[2] for nodeid in list(self._running)],
        )


@dataclass(frozen=True)
class Figures:
    """What the bar says at one moment.

    passes: forward passes of this run; None where they are not known.
    since_last: seconds since a claim was last done, or since the start.
    """

    done: int
    collected: int
    passes: int | None
    elapsed: float
    since_last: float
    running: Sequence[str]

    def seconds_left(self) -> float | None:
        """An estimate by the mean time of the claims so far, None before the first is done and after the last.

        Of the claim that is running, one that has lasted for long is expected to last as long again.
        """
        if not 0 < self.done < self.collected:
            return None
        mean = (self.elapsed - self.since_last) / self.done
        return mean * (self.collected - self.done - 1) + max(mean - self.since_last, self.since_last)

    def line(self, width: int) -> str:
        """The figures, then as much of the end of the running claim's id as there is room for."""
        parts = [f"{self.done}/{self.collected} claims"]
        if self.passes is not None:
            parts.append(f"{humanised(self.passes)} forward passes")
        left = self.seconds_left()
        parts.append(clock(self.elapsed) + ("" if left is None else f", about {clock(math.ceil(left))} left"))
        said = _GAP.join(parts)
        room = width - cell_len(said) - len(_GAP)
        return _GAP.join([said, _end_of(", ".join(self.running), room)]) if room > 0 else said


class Bar:
    """Draws the figures a few times a second below what a terminal writer writes, which goes through here meanwhile.

    writer: pytest's terminal writer; its file is this object from `start` to `stop`.
    """

    def __init__(self, writer: Any, figures: Callable[[], Figures], *, colour: bool) -> None:
        self._writer = writer
        self._figures = figures
        self._file: TextIO = writer._file
        self._unfinished = ""  # the line that pytest is still writing
        encoding = getattr(self._file, "encoding", None) or "utf-8"
        # While a claim runs, pytest's capture has file descriptor 1: the bar needs one of its own.
        self._terminal = os.fdopen(os.dup(self._file.fileno()), "w", encoding=encoding, errors="replace")
        self._console = _TerminalConsole(
            file=self._terminal, force_terminal=True, force_interactive=True, no_color=None if colour else True
        )
        self._live = Live(
            self,
            console=self._console,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def start(self) -> None:
        """Draw, and take over the writer's file."""
        self._file.flush()
        self._writer._file = self
        self._live.start(refresh=True)

    def stop(self) -> None:
        """Clear the drawing and give the file back, at the place where pytest believes the cursor to be."""
        try:
            self._live.stop()
            self._terminal.close()
        finally:
            self._writer._file = self._file
            self._file.write(self._unfinished)
            self._file.flush()

    def abandon(self) -> None:
        """Leave the drawing as it is: somebody has written a line below it, which `stop` must not take for its own."""
        self._terminal.write("\n")
        self._unfinished = ""

    def write(self, text: str) -> int:
        """Print the lines that `text` completes above the drawing, and keep the rest for it."""
        # A carriage return begins its line anew.
        *lines, self._unfinished = (line.rpartition("\r")[2] for line in (self._unfinished + text).split("\n"))
        if lines:
            self._console.out("\n".join(lines), highlight=False)
        return len(text)

    def flush(self) -> None:
        """Nothing waits here for longer than the bar takes to be drawn anew."""

    def __getattr__(self, name: str) -> Any:
        """Whatever else a file can do, the writer's own does."""
        return getattr(self._file, name)

    def __rich__(self) -> Group:
        """The drawing as of now: what pytest is writing, then the bar."""
        # The last columns are left free for the ^C that a terminal echoes: on a full line it would break into the next.
        figures, width = self._figures(), self._console.width - _SPARE
        unfinished = Text.from_ansi(self._unfinished, no_wrap=True, overflow="crop")
        grid = Table.grid(padding=(0, len(_GAP), 0, 0))
        if width < _WIDE:
            grid.add_row(_cropped(figures.line(width)))
        else:
            drawn = ProgressBar(figures.collected, figures.done, _DRAWN, complete_style="green", finished_style="green")
            grid.add_row(drawn, _cropped(figures.line(width - _DRAWN - len(_GAP))))
        return Group(*([unfinished] if unfinished.plain else []), grid)


class _TerminalConsole(Console):
    """rich's console on a terminal that is not one of this process's standard streams."""

    @property
    def size(self) -> ConsoleDimensions:
        """The size of the terminal that is written to: rich itself would ask the standard streams, which pytest captures."""
        size = os.get_terminal_size(self.file.fileno())
        return ConsoleDimensions(*(size if all(size) else shutil.get_terminal_size()))

    def show_cursor(self, show: bool = True) -> bool:
        """Leave the cursor alone: what is never hidden need not be brought back by a run that is killed."""
        return False


def humanised(number: int) -> str:
    """`999`, `12.4k`, `3.1M`."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        # From 999,950 on, thousands would round to "1000.0k".
        if number >= 0.99995 * size and number >= 1000:
            return f"{number / size:.1f}{unit}"
    return str(number)


def clock(seconds: float) -> str:
    """`0:07`, `12:34`, `1:02:03`."""
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def _wanted(config: pytest.Config, reporter: Any) -> bool:
    """Whether somebody looks at a terminal that can draw, and nothing but pytest's reporter writes to it."""
    option, environ = config.option, os.environ
    watched = reporter.isatty() and not (environ.get("CI") or environ.get("BUILD_NUMBER"))  # a job's log is no screen
    can_draw = environ.get("TERM", "").lower() not in ("", "dumb", "unknown")
    # With less capture, claims print where the bar is; a debugger asks there.
    alone = config.getoption("capture", "no") == "fd" and not option.usepdb and not option.trace
    return watched and can_draw and alone and config.get_verbosity() > -2


def _end_of(text: str, width: int) -> str:
    """The end of a text, which in a node's id says most."""
    if cell_len(text) <= width:
        return text
    kept = text[max(0, len(text) - width + 1) :]
    while cell_len(kept) > width - 1 and kept:
        kept = kept[1:]
    return f"…{kept}"


def _cropped(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="crop")
