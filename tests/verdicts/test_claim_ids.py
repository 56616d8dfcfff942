"""Every claim has an id of its own; where two have one, nothing runs."""

import pytest

from circuit_claims.verdicts.claim_ids import claim_id_of, duplicate_error
from tests.support.claim_projects import run, write

ONE = "def test_one(expect):\n    expect(sizes(2, 2)).above(1)\n\n"
CLASS = "class TestGroup:\n    def test_one(self, expect):\n        expect(sizes(2, 2)).above(1)\n\n"


@pytest.mark.parametrize(
    ("nodeid", "expected"),
    [
        ("claims/ioi/test_name_movers.py::test_carry[L9H9]", "ioi/name_movers/carry[L9H9]"),
        ("claims/ioi/test_a.py::TestGroup::test_one", "ioi/a/TestGroup/one"),
        ("claims/test_a.py::test_one[a/b::c]", "a/one[a/b::c]"),
        ("mine/claims/x/test_a.py::test_one", "x/a/one"),
        ("tests/test_claims.py::test_one", ""),
    ],
)
def test_the_id_is_the_path_and_the_name(nodeid, expected):
    assert claim_id_of(nodeid) == expected


def test_ids_of_their_own_are_no_matter(tmp_path):
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims/test_a.py").write_text(ONE + CLASS + "def test_two(): ...\n")
    ids = {"claims/test_a.py::test_one": "a/one", "claims/test_a.py::TestGroup::test_one": "a/TestGroup/one"}
    assert duplicate_error(ids, tmp_path) == ""


def refused(project, *args: str) -> str:
    """What a run says that ends before any claim has run."""
    result, rows = run(project, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR and not rows
    return " ".join([*result.outlines, *result.errlines])


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "two processes"])
def test_two_claims_of_one_name_in_a_file_stop_the_collection(project, workers):
    write(project, ONE + "def test_two(expect):\n    pass\n\n" + ONE)
    text = refused(project, *workers)
    assert "two claims in claims/demo/test_x.py are called test_one (lines " in text and "only the last would run" in text


def test_in_a_class_too(project):
    write(project, CLASS + "    def test_one(self, expect):\n        pass\n")
    assert "are called test_one" in refused(project)


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "two processes"])
def test_two_files_whose_claims_have_one_id_stop_the_collection(project, workers):
    write(project, CLASS)
    write(project, ONE, "claims/demo/x/test_TestGroup.py")
    text = refused(project, *workers)
    assert "two claims have the id 'demo/x/TestGroup/one'" in text
    assert "claims/demo/test_x.py::TestGroup::test_one" in text and "claims/demo/x/test_TestGroup.py::test_one" in text
