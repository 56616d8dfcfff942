"""One run at a time writes into a report's folder; and a journal with lines of two runs is of one of them, and says so."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import filelock
import pytest

from circuit_claims.reports import journal
from circuit_claims.reports.__main__ import main
from circuit_claims.reports.folder_lock import FILE, FolderInUse, FolderLock, in_use
from tests.support.claim_projects import claimed, run, verdicts, write

CLAIM = '''
def test_holds(expect):
    """Twos lie above one."""
    expect(sizes(2, 2, 2), "made up").above(1)
'''

#: Says that it runs, then waits until it is told to go on.
WAITS = '''
import pathlib, time

def test_a(expect):
    """Twos lie above one."""
    expect(sizes(2, 2, 2), "made up").above(1)

def test_waits(expect):
    """Waits."""
    pathlib.Path("waits").touch()
    while not pathlib.Path("go on").exists():
        time.sleep(0.02)
    expect(sizes(2, 2, 2), "made up").above(1)
'''


@pytest.fixture
def lock(project):
    """The lock of the project's report folder, as another run would hold it."""
    lock = FolderLock(project.path / "report")
    yield lock
    lock.release()


@pytest.fixture
def other_run(project):
    """Another run into the folder `report`, in the middle of its claims."""
    write(project, WAITS)
    command = [sys.executable, "-m", "pytest", "--report-dir", "report"]
    process = subprocess.Popen(command, cwd=project.path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not (project.path / "waits").exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    yield process
    process.kill()
    process.wait()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("processes", [(), ("-n", "1")], ids=["one process", "a worker"])
def test_a_second_run_is_refused_in_one_sentence_and_leaves_the_report_as_it_was(project, lock, processes):
    _, before = claimed(project, CLAIM)
    lock.acquire()
    result, after = run(project, *processes)
    assert result.ret == pytest.ExitCode.USAGE_ERROR and after == before
    (said,) = [line for line in [*result.outlines, *result.errlines] if "another run writes" in line]
    assert str(project.path / "report") in said and f"process {os.getpid()} on " in said and "--report-dir" in said
    assert "passed" not in result.stdout.str() and in_use(lock.folder)
    assert run(project, folder="other")[0].ret == 0
    lock.release()
    assert run(project)[0].ret == 0 and FILE not in names(lock.folder)


def test_two_runs_at_once_and_a_killed_one_blocks_nobody(project, other_run, capsys):
    folder = project.path / "report"
    kept = (folder / "claims.jsonl").read_bytes()
    result, _ = run(project, "-k", "test_a")
    assert result.ret == pytest.ExitCode.USAGE_ERROR and (folder / "claims.jsonl").read_bytes() == kept
    result.stderr.fnmatch_lines([f"*another run writes its report into {folder} (process {other_run.pid} on *"])

    # Its rows so far may be looked at, elsewhere.
    capsys.readouterr()
    assert main(["render", str(folder / "claims.jsonl")]) == 2
    assert f"process {other_run.pid}" in capsys.readouterr().err and names(folder) == [FILE, "claims.jsonl", "run.yaml"]
    assert main(["render", str(folder / "claims.jsonl"), "--out", str(project.path / "peek")]) == 0
    peek = json.loads((project.path / "peek" / "claims.json").read_text())
    assert len(peek["rows"]) == 1 and f"still under way (process {other_run.pid}" in peek["meta"]["warnings"][-1]

    other_run.send_signal(signal.SIGKILL)
    other_run.wait()
    assert names(folder) == [FILE, "claims.jsonl", "run.yaml"]
    result, rows = run(project, "-k", "test_a")
    assert result.ret == 0 and verdicts(rows) == ["holds"] and FILE not in names(folder)


def test_what_is_compared_goes_into_no_folder_in_use(project, lock, capsys):
    claimed(project, CLAIM)
    run(project, folder="base")
    lock.acquire()
    reports = [str(project.path / name) for name in ("base", "report")]
    capsys.readouterr()
    assert main(["compare", *reports]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and "compare.html" not in names(project.path / "report")
    assert main(["compare", *reports, "--out", str(project.path / "comparison")]) == 0


def test_a_run_without_claims_needs_no_folder(project, lock):
    lock.acquire()
    write(project, "def test_other(): pass\n", "other/test_x.py")
    assert run(project, "other")[0].ret == 0


def test_a_run_that_is_refused_after_all_makes_no_folder(project):
    with (project.path / "conftest.py").open("a") as file:
        file.write("import pytest\ndef pytest_runtestloop(session):\n    raise pytest.UsageError('no such subject')\n")
    write(project, CLAIM)
    result, _ = run(project, folder="deep/er/report")
    assert result.ret == pytest.ExitCode.USAGE_ERROR and not (project.path / "deep").exists()


def test_a_file_system_without_locks_is_a_warning(project, monkeypatch):
    def no_locks(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.BaseFileLock, "acquire", no_locks)
    result, rows = claimed(project, CLAIM)
    assert result.ret == 0 and verdicts(rows) == ["holds"]
    meta = json.loads((project.path / "report" / "claims.json").read_text())["meta"]
    assert "cannot be locked (No locks available)" in meta["warnings"][-1]
    assert FILE not in names(project.path / "report")


def test_what_a_lock_says_is_shown_on_one_line(tmp_path):
    (tmp_path / FILE).write_text("process 1\n\x1b[31m" + "x" * 999)
    with filelock.FileLock(tmp_path / FILE), pytest.raises(FolderInUse) as error:
        FolderLock(tmp_path).acquire()
    assert "\n" not in error.value.holder and "\x1b" not in error.value.holder and len(error.value.holder) <= 200


# A journal that has lines of two runs all the same.


def line(run_id, **entry):
    return json.dumps(entry | ({"run": run_id} if run_id else {})) + "\n"


def row(name):
    return {"claim_id": name, "verdict": "holds"}


@pytest.mark.parametrize(("first", "second"), [("1", "2"), ("", "2"), ("1", ""), ("", "")])
def test_two_journals_in_one_file_are_the_later_run_with_a_warning(tmp_path, first, second):
    path = tmp_path / "claims.jsonl"
    lines = [line(first, meta={"seed": 1}), line(first, row=row("a"), index=0), line(first, meta={"seed": 1, "finished": "x"})]
    path.write_text("".join([*lines, line(second, meta={"seed": 2}), line(second, row=row("b"), index=0)]))
    meta, rows = journal.read(path)
    assert rows == [row("b")] and meta["seed"] == 2 and "finished" not in meta
    assert meta["warnings"] == [
        "claims.jsonl has lines of 2 runs: this report is of the one that began last, with its rows alone."
    ]


def test_lines_of_two_runs_at_once_are_told_apart(tmp_path):
    """The second began while the first ran, and emptied the file; the first goes on writing and ends last."""
    path = tmp_path / "claims.jsonl"
    journal.start(path, {"seed": 1}, "one")
    journal.append_row(path, row("a"), 0, "one")
    journal.start(path, {"seed": 2, "warnings": ["w"]}, "two")
    for name, index, run_id in [("b", 1, "one"), ("a", 0, "two"), ("b", 1, "two"), ("c", 2, "one")]:
        journal.append_row(path, row(name) | {"seed": run_id}, index, run_id)
    journal.append_meta(path, {"seed": 2, "finished": "x"}, "two")
    journal.append_meta(path, {"seed": 1, "finished": "y"}, "one")
    meta, rows = journal.read(path)
    assert [(one["claim_id"], one["seed"]) for one in rows] == [("a", "two"), ("b", "two")]
    assert meta["seed"] == 2 and meta["finished"] == "x" and "2 runs" in meta["warnings"][-1]


def test_every_line_of_a_run_names_it(project):
    claimed(project, CLAIM)
    runs = [json.loads(text)["run"] for text in (project.path / "report" / "claims.jsonl").read_text().splitlines()]
    assert len(runs) == 3 and len(set(runs)) == 1
    run(project)
    assert json.loads((project.path / "report" / "claims.jsonl").read_text().splitlines()[0])["run"] != runs[0]
