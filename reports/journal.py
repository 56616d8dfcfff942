"""The journal: every row on disk as soon as it exists, so that a killed run keeps what it found.

One JSON object a line: `{"meta": {...}}` first and, once more, at the end of a finished run; `{"row": {...}, "index": 7}`
for each row between them, where `index` is the claim's place in the collection. Under pytest-xdist rows arrive in any
order; the index brings them back to one order. Each line names its run, `"run": "5c1e..."`: should lines of several have come
into one file, they are told apart.
"""

import json
import os
from pathlib import Path
from typing import Any

from circuit_claims.verdicts.rows import plain


class ReportError(Exception):
    """What went wrong, where, and what to do about it, in one sentence for the user."""


def start(path: Path, meta: dict[str, Any], run: str = "") -> None:
    """Begin a new journal at `path`, in place of an earlier run's. run: what tells this run from others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, {"meta": meta} | _of(run), mode="w")


def append_row(path: Path, row: dict[str, Any], index: int, run: str = "") -> None:
    """Add one row; when this returns, the row survives the death of the process."""
    _write(path, {"row": row, "index": index} | _of(run), mode="a")


def append_meta(path: Path, meta: dict[str, Any], run: str = "") -> None:
    """Add what only the end of a run knows. Later values replace earlier ones."""
    _write(path, {"meta": meta} | _of(run), mode="a")


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The journal's meta and its rows in the order of collection: of the run that began last, where it has lines of several,
    with a warning in the meta.

    A last line cut short by the death of its writer is left out; any other damage raises `ReportError`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ReportError(f"cannot read the journal {path} ({reason}): give the path of a claims.jsonl.") from error
    except UnicodeDecodeError as error:
        raise ReportError(f"{path} is not a text file: give the path of a claims.jsonl.") from error
    entries: list[dict[str, Any]] = []
    *lines, torn = text.split("\n")
    for number, line in enumerate([*lines, torn] if _is_record(torn) else lines, start=1):
        if not _is_record(line):
            raise ReportError(
                f"line {number} of {path} is damaged: run the claims again, or delete that line to report the others."
            )
        entries.append(json.loads(line))
    entries, others = _of_last_run(entries)
    meta: dict[str, Any] = {}
    rows: list[tuple[int, dict[str, Any]]] = []
    for entry in entries:
        if "meta" in entry:
            meta |= entry["meta"]
        else:
            rows.append((entry["index"], entry["row"]))
    if not meta and not rows:
        raise ReportError(f"{path} holds no meta and no rows: run the claims again.")
    if others:
        said = f"{path.name} has lines of {others + 1} runs: this report is of the one that began last, with its rows alone."
        meta["warnings"] = [*(meta.get("warnings") or []), said]
    rows.sort(key=lambda pair: pair[0])
    return meta, [row for _, row in rows]


def _of(run: str) -> dict[str, str]:
    return {"run": run} if run else {}


def _of_last_run(entries: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """The lines of the run that began last, and how many other runs there are.

    A run begins with a meta that does not say when it finished. Lines that name no run, as earlier versions wrote them, are of
    the run that began before them.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    began, unnamed = "", ""
    for number, entry in enumerate(entries):
        begins = "meta" in entry and "finished" not in entry["meta"]
        if begins and not entry.get("run"):
            unnamed = f"line {number}"
        run = str(entry.get("run") or unnamed)
        if begins:
            began = run
        groups.setdefault(run, []).append(entry)
    if not began:
        return entries, 0
    return groups[began], len(groups) - 1


def _is_record(line: str) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    if not isinstance(entry, dict):
        return False
    return isinstance(entry.get("meta"), dict) or (isinstance(entry.get("row"), dict) and isinstance(entry.get("index"), int))


def _write(path: Path, entry: dict[str, Any], mode: str) -> None:
    # ASCII alone: a lone surrogate in a generated token cannot be written as UTF-8.
    line = json.dumps(plain(entry), ensure_ascii=True, allow_nan=False)
    with path.open(mode, encoding="ascii") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
