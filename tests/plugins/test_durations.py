"""Where the time goes: kinds of work count for themselves, and `--durations` shows them."""

import time

import pytest

from circuit_claims import time_spent
from circuit_claims.time_spent import Spent, spent_on
from tests.support.claim_projects import HEAD, PLUGINS


@pytest.fixture
def clock(monkeypatch):
    """A clock that only moves when told to, and no work done before."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time_spent, "_kinds", {})
    monkeypatch.setattr(time_spent, "_open", [])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def test_work_inside_other_work_counts_for_itself_alone(clock):
    with spent_on("outer"):
        clock(1)
        for _ in range(2):
            with spent_on("inner"):
                clock(2)
        clock(4)
    clock(8)
    assert time_spent.so_far() == {"outer": Spent(5, 1), "inner": Spent(4, 2)}


def test_a_function_that_fails_has_taken_its_time_all_the_same(clock):
    @spent_on("failing")
    def fail() -> None:
        clock(3)
        raise ValueError

    with spent_on("outer"):
        with pytest.raises(ValueError):
            fail()
        clock(1)
    assert time_spent.so_far() == {"failing": Spent(3, 1), "outer": Spent(1, 1)}


WITH_WORK = """
def test_one(expect):
    \"\"\"Some work, and a claim.\"\"\"
    import time
    from circuit_claims.time_spent import spent_on
    with spent_on("sleeping"):
        time.sleep(0.2)
    expect(sizes(2, 2, 2), "made up").above(1)
"""


def test_durations_are_shown_where_they_are_asked_for(pytester, same_profile):
    pytester.makeconftest(PLUGINS)
    folder = pytester.mkpydir("claims")
    (folder / "test_x.py").write_text(HEAD + WITH_WORK, encoding="utf-8")
    shown = pytester.runpytest_inprocess("claims", "--durations=3").stdout
    shown.fnmatch_lines(["*where the time went*", "* 0.2? s *sleeping, once", "* everything else"])
    shown = pytester.runpytest_inprocess("claims").stdout
    shown.no_fnmatch_line("*where the time went*")
