"""One run at a time writes into a report's folder: two at once would mix their rows in one journal.

The lock is the operating system's own on a hidden file in the folder. It ends with the process that holds it, however that
ends: a file that a killed run left behind blocks nobody.
"""

import contextlib
import errno
import os
import platform
from datetime import datetime
from pathlib import Path
from typing import Any

from circuit_claims.reports import wording

#: Made when a run begins, and removed when it ends; what it says is for people.
FILE = ".claims.lock"
#: What file systems answer that know no locks, some of those on a network among them.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


class FolderInUse(Exception):
    """Another process writes into the folder; `holder` says which, as far as is known."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


class FolderLock:
    """The right to write into a folder, from `acquire` to `release`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: Any = None
        self._made: list[Path] = []  # folders that are there for the lock's sake alone so far

    def acquire(self) -> str:
        """Take the lock, and make the folder where it is not there; a warning where the file system knows no locks, else "".

        Raises FolderInUse where another process has it, OSError where the folder cannot be written into.
        """
        from filelock import FileLock, Timeout

        self._made = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            self._remove_made()
            raise
        path = self.folder / FILE
        lock = FileLock(path, fallback_to_soft=False)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise FolderInUse(_holder(path)) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                self._remove_made()
                raise
            with contextlib.suppress(OSError):
                path.unlink()
            return (
                f"{self.folder} cannot be locked ({error.strerror}): see to it that no other run writes there at the same time."
            )
        self._lock = lock
        with contextlib.suppress(OSError):  # a full disk
            since = datetime.now().astimezone().isoformat(timespec="seconds")
            path.write_text(f"process {os.getpid()} on {platform.node() or 'this machine'}, since {since}\n", encoding="utf-8")
        return ""

    def release(self) -> None:
        """Give it back, if it was taken, and leave nothing behind that only the lock needed."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                (self.folder / FILE).unlink()  # before the lock ends, so that it is never another run's
            with contextlib.suppress(OSError):
                self._lock.release()
            self._lock = None
        self._remove_made()

    def _remove_made(self) -> None:
        for folder in self._made:  # the innermost first
            with contextlib.suppress(OSError):  # something was written into it
                folder.rmdir()
        self._made = []


def in_use(folder: Path) -> str:
    """Who writes into a folder at this moment, as `FolderInUse.holder` says it; empty where nobody does, or nobody can tell."""
    if not (folder / FILE).exists():
        return ""
    lock = FolderLock(folder)
    try:
        lock.acquire()
    except FolderInUse as error:
        return error.holder
    except OSError:
        return ""
    lock.release()
    return ""


def _holder(path: Path) -> str:
    try:
        said = wording.one_line(path.read_text(encoding="utf-8", errors="replace").strip())[:200]
    except OSError:
        said = ""
    return said or "another process"
