"""`pytest claims --against BASE`: told below the table, written beside the report, and in the exit status."""

import json

import pytest

# Imported here, since an inner run in this process forgets the modules that it was the first to import.
import circuit_claims.reports.against
from circuit_claims.reports import compare_page
from circuit_claims.verdicts.rows import HOLDS, KNOWN_FALSE
from tests.support.claim_projects import run, verdicts, write

PROJECT = '''
def test_steady(expect):
    """Twos lie above one."""
    expect(sizes(2, 2, 2), "made up").above(1)

def test_other(expect):
    """Twos lie above zero."""
    expect(sizes(2, 2, 2), "made up").above(0)
'''
FALLEN = PROJECT.replace("2, 2, 2", "0, 0, 0")
FORETOLD = PROJECT.replace("def test_steady", "@known_false\ndef test_steady").replace("above(1)", "above(3)")


@pytest.fixture
def based(project):
    """A small project, of which one run has been made."""
    write(project, PROJECT)
    result, _ = run(project, folder="base")
    assert result.ret == 0
    return project


def against(project, *arguments, base="base", folder="now"):
    """Run the project against a base; the comparison's data where one was written."""
    result, rows = run(project, "-p", "circuit_claims.reports.against", "--against", base, *arguments, folder=folder)
    path = project.path / folder / "compare.json"
    return result, rows, json.loads(path.read_text()) if path.exists() else None


def test_a_run_like_its_base_keeps_the_exit_status(based):
    result, _, data = against(based)
    assert result.ret == 0 and data["lost"] == 0 and data["counts"] == {"stayed": 2}
    result.stdout.fnmatch_lines(["*= claims =*", "report: *", "*= against base =*", "comparison: *compare.html"])
    assert data["other"]["path"].endswith("claims.json") and data["set_up"] == []


@pytest.mark.parametrize("workers", [[], ["-n", "1"]])
def test_a_claim_that_falls_is_told_and_fails_the_run_even_where_that_was_expected(based, workers):
    write(based, FORETOLD)
    result, rows, data = against(based, *workers)
    assert verdicts(rows) == [KNOWN_FALSE, HOLDS]
    assert result.ret == pytest.ExitCode.TESTS_FAILED and data["lost"] == 1
    result.assert_outcomes(passed=1, xfailed=1)
    result.stdout.fnmatch_lines(["*= against base =*", "fell: 1", "*demo/x/steady*", "*1 fell or no longer run*"])


def test_an_ordinary_failure_keeps_its_exit_status(based):
    write(based, FALLEN)
    result, _, data = against(based)
    assert result.ret == pytest.ExitCode.TESTS_FAILED and data["counts"]["fell"] == 2


@pytest.mark.parametrize("selection", [["-k", "steady"], ["claims/demo/test_x.py::test_steady"], ["-n", "1", "-k", "steady"]])
def test_what_was_not_selected_is_not_run_and_not_gone(based, selection):
    result, _, data = against(based, *selection)
    assert result.ret == 0 and data["counts"] == {"stayed": 1, "not run now": 1}
    result.stdout.fnmatch_lines(["*1 stayed · 1 not run now"])
    page = (based.path / "now" / "compare.html").read_text()
    assert "1 not run now" in page and "demo/x/other" not in page


def test_a_chapter_that_was_not_asked_for_is_not_run_and_a_claim_that_is_gone_is_gone(based):
    write(based, PROJECT, "claims/demo/test_y.py")
    run(based, folder="base")
    write(based, PROJECT[: PROJECT.index("def test_other")])
    _, _, data = against(based, "claims/demo/test_x.py")
    assert data["counts"] == {"stayed": 1, "only in base": 1, "not run now": 2}


def test_a_run_that_stops_early_says_so(based):
    write(based, FALLEN)
    result, _, data = against(based, "-x")
    assert result.ret != 0 and data["counts"] == {"fell": 1, "not run now": 1}
    assert any("did not finish" in remark for remark in data["remarks"])


def test_a_wrong_base_is_a_usage_error_before_anything_runs(based):
    (based.path / "cut.json").write_text('{"meta": {}, "ro')
    for base in ("nowhere.json", "cut.json"):
        result, rows, data = against(based, base=base)
        assert result.ret == pytest.ExitCode.USAGE_ERROR and not rows and data is None
        result.stderr.fnmatch_lines([f"*--against: *{base}*"])
        result.stdout.no_fnmatch_line("*passed*")


def test_a_base_in_the_place_of_the_new_report_is_read_in_time(based):
    write(based, FALLEN)
    result, _, data = against(based, base="base/claims.json", folder="base")
    assert result.ret == 1 and data["counts"] == {"fell": 2}
    assert any("taken its place" in remark for remark in data["remarks"])


def test_no_stale_comparison_stays_beside_a_new_report(based):
    against(based)
    assert (based.path / "now" / "compare.html").exists()
    run(based, "-p", "circuit_claims.reports.against", folder="now")
    assert not list((based.path / "now").glob("compare.*"))


def test_without_claims_nothing_is_compared(based):
    write(based, "def test_plain(): pass\n", "tests/test_plain.py")
    result, rows, data = against(based, "tests")
    assert result.ret == 0 and not rows and data is None
    result.stdout.fnmatch_lines(["*no claim ran: nothing was held against *claims.json"])


def test_a_comparison_that_cannot_be_written_is_told_and_changes_no_exit_status(based, monkeypatch):
    def broken(*_):
        raise OSError("no ink")

    monkeypatch.setattr(compare_page, "write", broken)
    result, _, _ = against(based)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*2 stayed*", "*comparison is not complete: OSError: no ink*"])


def test_the_plugin_knows_what_a_comparison_is_written_as():
    assert set(circuit_claims.reports.against._WRITTEN) == set(compare_page.WRITTEN)
