"""The journal survives the death of its writer, and says what is wrong with one that is damaged."""

import math

import pytest

from circuit_claims.reports import journal
from circuit_claims.reports.__main__ import main
from circuit_claims.reports.journal import ReportError


@pytest.fixture
def path(tmp_path):
    """A journal of two rows that arrived in the wrong order."""
    path = tmp_path / "deep" / "claims.jsonl"
    journal.start(path, {"subject": "mini"})
    journal.append_row(path, {"claim_id": "b", "observed": math.nan, "counterexample": {"prompt": "\ud800\n"}}, 1)
    journal.append_row(path, {"claim_id": "a"}, 0)
    return path


def test_rows_come_back_in_the_order_of_collection(path):
    meta, rows = journal.read(path)
    assert meta == {"subject": "mini"}
    assert rows == [{"claim_id": "a"}, {"claim_id": "b", "observed": None, "counterexample": {"prompt": "\ud800\n"}}]


@pytest.mark.parametrize("cut", [1, 2, 10, 30])
def test_a_torn_last_line_is_left_out(path, cut):
    # Without its line's end the row is still whole; with less it is gone; the rows before it are safe either way.
    path.write_bytes(path.read_bytes()[:-cut])
    kept = [row["claim_id"] for row in journal.read(path)[1]]
    assert kept == (["a", "b"] if cut == 1 else ["b"])


def test_a_new_run_begins_a_new_journal(path):
    journal.start(path, {"subject": "other"})
    assert journal.read(path) == ({"subject": "other"}, [])


def test_a_later_meta_replaces_what_it_names(path):
    journal.append_meta(path, {"finished": "now"})
    assert journal.read(path)[0] == {"subject": "mini", "finished": "now"}


@pytest.mark.parametrize("damage", ["no json\n", '{"neither": {}}\n', "[1]\n", '{"row": 3}\n', '{"row": {}, "index": "x"}\n'])
def test_a_damaged_line_is_named(path, damage):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], damage, *lines[1:]]))
    with pytest.raises(ReportError, match=r"line 2 of .*claims\.jsonl"):
        journal.read(path)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\x00", b"PK\x03\x04"])
def test_what_is_no_journal_is_refused(tmp_path, content):
    path = tmp_path / "claims.jsonl"
    path.write_bytes(content)
    with pytest.raises(ReportError, match=r"claims\.jsonl"):
        journal.read(path)


def test_the_command_renders_an_unfinished_run_and_says_so(path, tmp_path, capsys):
    assert main(["render", str(path)]) == 0
    assert capsys.readouterr().out.strip() == str(path.parent / "report.html")
    assert "The run did not finish: this report covers the 2 rows" in (path.parent / "report.html").read_text()
    journal.append_meta(path, {"finished": "now"})
    assert main(["render", str(path), "--out", str(tmp_path / "other")]) == 0
    assert "did not finish" not in (tmp_path / "other" / "report.html").read_text()


@pytest.mark.parametrize("arguments", [["render", "nowhere.jsonl"], ["render", "."]])
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and arguments[1] in error


def test_a_folder_that_cannot_be_written_is_one_sentence_and_exit_code_2(path, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["render", str(path), "--out", str(tmp_path / "file" / "out")]) == 2
    assert "--out" in capsys.readouterr().err
