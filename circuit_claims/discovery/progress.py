"""Which step runs: a bar on a terminal, and elsewhere one line a step, with the seconds so far."""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class Steps(AbstractContextManager["Steps"]):
    """The steps of a search by their names, on standard error."""

    def __init__(self, names: Sequence[str], seconds: Callable[[], float]) -> None:
        """names: all that there are, in their order; seconds: since the search began."""
        self._names, self._seconds = list(names), seconds
        console = Console(stderr=True)
        self._lines = not console.is_terminal
        columns = (BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"), TimeElapsedColumn())
        self._bar = Progress(*columns, TextColumn("{task.description}"), console=console, disable=self._lines)
        self._task = self._bar.add_task("", total=len(self._names))

    def __enter__(self) -> "Steps":
        self._bar.start()
        return self

    def __exit__(self, failed: Any, *_: Any) -> None:
        if failed is None:
            self._bar.update(self._task, completed=len(self._names), description="")
        self._bar.stop()

    def at(self, name: str) -> None:
        """This step begins: all before it are done."""
        place = self._names.index(name)
        self._bar.update(self._task, completed=place, description=name)
        if self._lines:
            of_all = f"{place + 1:>{len(str(len(self._names)))}} of {len(self._names)}"
            print(f"{self._seconds():5.0f} s  {of_all}  {name}", file=sys.stderr, flush=True)
