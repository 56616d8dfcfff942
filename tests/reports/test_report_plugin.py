"""The plugin: each row once, in one order, under any number of processes; and nothing where no claim ran."""

import json
import os
from pathlib import Path

import pytest

from circuit_claims.reports import journal
from circuit_claims.reports.__main__ import main

ROOT = Path(__file__).parents[2]

CONFTEST = """
import pytest
from circuit_claims.fixtures.session import session_of

@pytest.fixture
def expect(request):
    def record(verdict, **more):
        circuit, chapter = request.path.parts[-2], request.path.stem
        row = {"claim_id": f"{circuit}/{chapter}/{request.node.name}", "chapter": circuit, "verdict": verdict}
        request.node.user_properties.append(("claim", row | more))
    return record

def pytest_configure(config):
    session_of(config).meta.update(subject="mini", warnings=["from elsewhere"])
"""

#: Rows come from the conftest: what makes them of real claims is left out.
PLUGINS = ("-p", "no:circuit_claims.plugin", "-p", "circuit_claims.fixtures.options", "-p", "circuit_claims.reports.plugin")

CLAIMS = '''
import pytest

def test_first(expect):
    """The first statement.

    More about it.
    """
    expect("holds", observed=1.0)

@pytest.mark.parametrize("head", ["L9H9", "L9H6"])
def test_second(expect, head):
    """The second statement."""
    expect("refuted", reason="too low")
    assert False

def test_third(expect):
    expect("untested")
    pytest.skip("no such family")

@pytest.fixture
def broken_setup(expect):
    expect("invalid", reason="no model")
    raise RuntimeError

def test_fourth(broken_setup):
    pass

@pytest.fixture
def broken_teardown(expect):
    yield
    expect("invalid", reason="left hooks behind")
    raise RuntimeError

def test_fifth(expect, broken_teardown):
    expect("holds")
    expect("holds", n=2)
'''

EXPECTED = [
    ("test_first", "holds"),
    ("test_second[L9H9]", "refuted"),
    ("test_second[L9H6]", "refuted"),
    ("test_third", "untested"),
    ("test_fourth", "invalid"),
    ("test_fifth", "holds"),
    ("test_fifth", "holds"),
    ("test_fifth", "invalid"),
]


@pytest.fixture
def project(pytester, monkeypatch):
    """A folder with claims in it, and the plugin within reach of its subprocesses."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeconftest(CONFTEST)
    write(pytester, "claims/ioi/test_chapter.py", CLAIMS)
    write(pytester, "tests/test_other.py", "def test_other(): pass")
    return pytester


def write(pytester, name: str, text: str) -> None:
    path = pytester.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def run(pytester, *arguments: str, subprocess: bool = False):
    run = pytester.runpytest_subprocess if subprocess else pytester.runpytest_inprocess
    return run(*PLUGINS, "-p", "no:cacheprovider", "--import-mode=importlib", *arguments)


def report(pytester, folder: str = "circuit-claims-report") -> dict:
    return json.loads((pytester.path / folder / "claims.json").read_text())


def found(rows: list[dict]) -> list[tuple[str, str]]:
    return [(row["claim_id"].rpartition("/")[2], row["verdict"]) for row in rows]


def test_each_row_is_taken_once_and_the_report_is_where_it_is_said_to_be(project):
    result = run(project)
    result.assert_outcomes(passed=3, failed=2, skipped=1, errors=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert found(report(project)["rows"]) == EXPECTED
    folder = project.path / "circuit-claims-report"
    assert sorted(path.name for path in folder.iterdir()) == [
        "claims.csv",
        "claims.json",
        "claims.jsonl",
        "report.html",
        "report.md",
        "run.yaml",
    ]
    result.stdout.fnmatch_lines(["*= claims =*", "*second · L9H9*refuted", "*too low", f"report: {folder / 'report.html'}"])
    result.stdout.fnmatch_lines(["3 hold · 2 refuted · 1 untested · 2 invalid"])


def test_the_meta_is_what_others_know_and_how_the_run_went(project):
    run(project, "--report-dir", "out", "claims")
    meta = report(project, "out")["meta"]
    assert meta["subject"] == "mini" and meta["warnings"] == ["from elsewhere"]
    assert meta["counts"] == {"holds": 3, "refuted": 2, "untested": 1, "invalid": 2}
    assert meta["pytest_args"][-3:] == ["--report-dir", "out", "claims"]
    assert meta["started"] <= meta["finished"]
    assert not (project.path / "circuit-claims-report").exists()


def test_the_duration_is_of_the_whole_run_with_what_comes_before_the_first_claim(project):
    waits = "import time\n\ndef pytest_collection_finish(session):\n    time.sleep(0.8)\n"
    (project.path / "conftest.py").write_text(CONFTEST + waits)
    run(project, "--report-dir", "out", "claims")
    assert report(project, "out")["meta"]["duration_s"] >= 0.8


def test_two_processes_give_the_rows_of_one(project):
    write(project, "claims/induction/test_chapter.py", CLAIMS)
    results = [run(project, "--report-dir", name, *arguments) for name, arguments in [("one", []), ("two", ["-n", "2"])]]
    assert results[0].ret == results[1].ret
    one, two = report(project, "one"), report(project, "two")
    assert len(one["rows"]) == 2 * len(EXPECTED) and one["rows"] == two["rows"]
    assert one["meta"]["counts"] == two["meta"]["counts"] and two["meta"]["subject"] == "mini"
    assert journal.read(project.path / "two" / "claims.jsonl")[1] == [
        {key: value for key, value in row.items() if value is not None} for row in one["rows"]
    ]


def test_without_claims_nothing_is_written_and_nothing_said(project):
    result = run(project, "tests")
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*= claims =*")
    result.stdout.no_fnmatch_line("*report:*")
    assert not (project.path / "circuit-claims-report").exists()


def test_collecting_lists_the_statements_and_writes_nothing(project):
    result = run(project, "--collect-only")
    result.stdout.fnmatch_lines(
        ["*= claims =*", "ioi", "  The first statement.", "  The second statement. (2 variants)", "  third"]
    )
    assert not (project.path / "circuit-claims-report").exists()
    run(project, "--collect-only", "-q").stdout.no_fnmatch_line("*The first statement.*")


def test_a_killed_run_leaves_a_journal_that_renders(project, capsys):
    write(
        project,
        "claims/ioi/test_zz_killed.py",
        "import os, signal\ndef test_killed(expect):\n    expect('holds')\n    os.kill(os.getpid(), signal.SIGKILL)\n",
    )
    run(project, subprocess=True)
    folder = project.path / "circuit-claims-report"
    # The lock's file stays and locks nothing: the process that held it is gone.
    assert sorted(path.name for path in folder.iterdir()) == [".claims.lock", "claims.jsonl", "run.yaml"]
    assert main(["render", str(folder / "claims.jsonl")]) == 0
    kept = report(project)
    assert found(kept["rows"]) == EXPECTED
    assert kept["meta"]["subject"] == "mini" and "did not finish" in kept["meta"]["warnings"][-1]


def test_an_interrupted_run_is_reported_with_a_warning(project):
    write(project, "claims/ioi/test_zz.py", "def test_stop(): raise KeyboardInterrupt\ndef test_never(): pass\n")
    result = run(project, subprocess=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert found(report(project)["rows"]) == EXPECTED
    warnings = " ".join(report(project)["meta"]["warnings"])
    assert "interrupted" in warnings and "test_zz.py::test_stop and 1 more" in warnings


def test_a_claim_that_dies_with_its_worker_is_named(project):
    write(project, "claims/ioi/test_chapter.py", "import os\ndef test_a(expect): expect('holds')\ndef test_b(): os._exit(3)\n")
    result = run(project, "-n", "1", "--max-worker-restart=0")
    assert found(report(project)["rows"]) == [("test_a", "holds")]
    result.stdout.fnmatch_lines(["Collected, but without a row: claims/ioi/test_chapter.py::test_b."])


def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(project):
    (project.path / "file").write_text("")
    result = run(project, "--report-dir", "file/out")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*cannot write the report into*file/out*--report-dir*"])
    result.stdout.no_fnmatch_line("*passed*")


def test_the_usual_folder_matters_only_to_claims(project):
    (project.path / "circuit-claims-report").write_text("in the way")
    assert run(project, "tests").ret == 0
    assert run(project, "claims").ret == pytest.ExitCode.USAGE_ERROR


def test_a_report_that_fails_leaves_the_exit_code_alone_and_no_earlier_run_beside_its_journal(project, monkeypatch):
    run(project, "-k", "first")
    folder = project.path / "circuit-claims-report"
    assert (folder / "report.html").exists()

    def broken(*_):
        raise RuntimeError("no ink")

    monkeypatch.setattr("circuit_claims.reports.render.render", broken)
    result = run(project, "-k", "first")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*first*holds", "*not complete: RuntimeError: no ink*"])
    assert sorted(path.name for path in folder.iterdir()) == ["claims.jsonl", "run.yaml"]
    assert found(journal.read(folder / "claims.jsonl")[1]) == [("test_first", "holds")]


def test_a_disk_that_fills_up_does_not_end_the_run(project, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "append_row", full)
    result = run(project, "-k", "first")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*first*holds", "*not complete:*claims.jsonl: No space left on device*"])


def test_rows_that_later_reports_repeat_are_not_taken_again(project):
    write(
        project,
        "claims/ioi/test_chapter.py",
        """
import pytest

@pytest.fixture
def broken(expect, request):
    def fail(): raise RuntimeError
    request.addfinalizer(fail)
    expect("invalid", reason="no model")
    raise RuntimeError

def test_broken_twice(broken): pass

def test_parts(expect, subtests):
    for head in range(2):
        with subtests.test(head=head):
            expect("holds", n=head)
""",
    )
    run(project)
    assert found(report(project)["rows"]) == [("test_broken_twice", "invalid"), *[("test_parts", "holds")] * 2]


def test_rows_from_outside_the_claims_folder_are_reported_too(project):
    write(project, "mine/ioi/test_chapter.py", "def test_mine(expect): expect('holds')\n")
    run(project, "mine")
    assert found(report(project)["rows"]) == [("test_mine", "holds")]
    assert "circuit-claims-report" in os.listdir(project.path)
