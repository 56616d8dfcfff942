"""A search that is stopped, by Ctrl-C, by its minutes or by a kill, and taken up again."""

import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Hashable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from circuit_claims import forward_passes
from circuit_claims.cards.card import read_card
from circuit_claims.discovery import __main__ as command
from circuit_claims.discovery import chapters, family_search, search, tables, time_limit, unfinished
from circuit_claims.discovery.__main__ import main
from circuit_claims.discovery.progress import Steps
from circuit_claims.discovery.survey import Survey
from circuit_claims.discovery.time_limit import OutOfTime, TimeLimit
from circuit_claims.measure.store import SessionStore
from circuit_claims.subjects import subject
from circuit_claims.subjects.run_cache import LEAST, RunCache
from circuit_claims.subjects.subject import Prepared, Settings, Subject, prepare

CHAPTERS = ("facts", "induction")
FEW = ["--subject", "mini", "--prompts", "30", "--chapters", ",".join(CHAPTERS)]
#: The parts of a card that take longest are left out: they are steps like all others.
DEAR = {*tables.PARTS, "extra sentences", "the residual stream", "knock-outs of families", "MLPs"} - {"signals"}
ALL = [step for step in search.steps(CHAPTERS) if step not in DEAR]


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    """Without the dear parts, and with each model loaded once."""
    load = cache(lambda name, mode: Subject(prepare(Settings(name, "none", mode=mode))))

    def loaded(prepared: Prepared) -> Subject:
        it = load(prepared.settings.name, prepared.settings.mode)
        it.runs = RunCache(LEAST)
        return it

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(search, "PARTS", {name: part for name, part in search.PARTS.items() if name not in DEAR})
        patched.setattr(subject, "Subject", loaded)
        yield


def discover(path: Path, *more: str) -> int:
    """The command's exit status."""
    try:
        main([*FEW, "--out", str(path), *more])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The card of a search that nobody stopped."""
    path = tmp_path_factory.mktemp("whole") / "mine.toml"
    assert discover(path) == 0
    return path


def interrupted_at(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """As if Ctrl-C were pressed in the midst of a step: when it asks for the first thing that is measured."""
    begin, end, get = Steps.at, Steps.__exit__, SessionStore.get
    running: list[str] = []

    def at(self: Steps, name: str) -> None:
        begin(self, name)
        running.append(name)

    def ended(self: Steps, *failed: Any) -> None:
        running.clear()
        end(self, *failed)

    def got(self: SessionStore, key: Hashable, make: Callable[[], Any]) -> Any:
        if running and running[-1] == step:
            raise KeyboardInterrupt
        return get(self, key, make)

    monkeypatch.setattr(Steps, "at", at)
    monkeypatch.setattr(Steps, "__exit__", ended)
    monkeypatch.setattr(SessionStore, "get", got)


def same(one: Path, other: Path) -> bool:
    """Whether two cards have the same text, and their chapters too."""
    files = [sorted(path.relative_to(card.parent) for path in card.with_suffix("").glob("*.toml")) for card in (one, other)]
    texts = [[(card.parent / file).read_text() for file in (card.name, *files[0])] for card in (one, other)]
    return files[0] == files[1] and texts[0] == texts[1]


@pytest.mark.parametrize(
    "step", ["attention of every head", "random tokens", "knocking out what was found", "backups", "induction"]
)
def test_what_was_found_before_ctrl_c_is_kept_and_not_measured_again(whole, tmp_path, monkeypatch, capsys, step):
    path = tmp_path / "mine.toml"
    with monkeypatch.context() as patched:
        interrupted_at(patched, step)
        assert discover(path) == 130
    said, missing = capsys.readouterr(), ALL[ALL.index(step) :]
    assert f"interrupted: {len(missing)} of {len(ALL)} steps are missing" in said.out
    assert f"missing: {', '.join(missing)}" in said.out and f"unfinished card: {path}" in said.out
    card = read_card(path)
    assert list(card.unfinished) == missing and "logit_difference" in card.values, "behaviour comes first"
    assert ("name mover" in card.families) is (ALL.index(step) > ALL.index("direct paths to the logits"))
    assert "# This card is not finished" in path.read_text()
    assert discover(path) == 0
    again = capsys.readouterr()
    begun = re.findall(r"^ *\d+ s +\d+ of \d+ +(.+)$", again.err, re.MULTILINE)
    assert begun == missing, "and nothing else was measured"
    assert "taken over from" in again.err and "behaviour" in again.err
    assert read_card(path).unfinished == () and same(path, whole), "byte for byte what an undisturbed search finds"


def test_on_an_unfinished_card_are_the_families_of_which_all_is_known(tmp_path, monkeypatch):
    path = tmp_path / "mine.toml"
    with monkeypatch.context() as patched:
        interrupted_at(patched, "paths into the name movers' queries")
        discover(path)
    families = read_card(path).families
    assert {"name mover", "negative name mover", "induction", "previous token"} <= families.keys()
    assert not {"S-inhibition", "relay", "backup name mover"} & families.keys(), "their rules ask for more"
    assert all(families[name].role_only for name in ("induction", "previous token")), "nobody knows yet what they are for"


@pytest.mark.parametrize(
    ("others", "says"),
    [
        (["--seed", "1"], "on 30 prompts with seed 0, and this run on 30 with 1"),
        (["--prompts", "31"], "on 30 prompts with seed 0, and this run on 31 with 0"),
        (["--weights", "raw"], "with processed weights, and this run is with raw weights"),
        (["--subject", "shuffled:mini"], "was found on other weights"),
    ],
)
def test_what_was_found_otherwise_is_measured_anew(tmp_path, monkeypatch, capsys, others, says):
    path = tmp_path / "mine.toml"
    with monkeypatch.context() as patched:
        interrupted_at(patched, "direct paths to the logits")
        discover(path)
        capsys.readouterr()
        given = dict(zip([*FEW[::2], *others[::2]], [*FEW[1::2], *others[1::2]], strict=True))
        with pytest.raises(SystemExit):
            main([part for pair in given.items() for part in pair] + ["--out", str(path)])
    said = capsys.readouterr().err
    assert f"{says}: everything is measured anew" in said and f"1 of {len(ALL)}  behaviour" in said and "taken over" not in said


def test_another_version_or_a_damaged_table_is_measured_anew(tmp_path, monkeypatch):
    path = tmp_path / "mine.toml"
    with monkeypatch.context() as patched:
        interrupted_at(patched, "direct paths to the logits")
        discover(path)
    settings, table = read_card(path).settings, tomllib.loads(path.read_text())["unfinished"]
    assert unfinished.take_over(path, settings, table["versions"])[1] == ""
    done, why = unfinished.take_over(path, settings, "circuit-claims 0, torch 0")
    assert len(done) == 0 and f"was found by {table['versions']}, and this is circuit-claims 0, torch 0: everything" in why
    path.write_text(path.read_text().replace("done = ", "did = "))
    done, why = unfinished.take_over(path, settings, table["versions"])
    assert len(done) == 0 and "cannot be taken up again ('done'): everything is measured anew" in why


def test_a_finished_card_stands_until_there_is_another(whole, tmp_path, monkeypatch, capsys):
    path = tmp_path / "mine.toml"
    path.write_text(before := whole.read_text() + "\n# What is known: nothing\n")
    with monkeypatch.context() as patched:
        interrupted_at(patched, "backups")
        assert discover(path) == 130
    assert path.read_text() == before and f"unfinished card: {tmp_path}/mine.unfinished.toml" in capsys.readouterr().out
    assert "backups" in read_card(tmp_path / "mine.unfinished.toml").unfinished
    assert discover(path) == 0 and "taken over from" in capsys.readouterr().err
    assert path.read_text() == before, "the same numbers, and what a person wrote at its end"
    assert {entry.name for entry in tmp_path.iterdir()} == {"mine.toml", "mine"}


def test_what_a_person_wrote_on_an_unfinished_card_is_kept(whole, tmp_path, monkeypatch):
    path = tmp_path / "mine.toml"
    with monkeypatch.context() as patched:
        interrupted_at(patched, "backups")
        discover(path)
    path.write_text(path.read_text() + (tail := "\n# What is known: a person was here\n"))
    assert discover(path) == 0
    assert path.read_text() == whole.read_text() + tail


def test_ctrl_c_while_the_model_is_loaded_writes_nothing(tmp_path, monkeypatch, capsys):
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_prepared", interrupted)
    assert discover(tmp_path / "mine.toml") == 130
    assert "nothing is written" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_kill_at_any_moment_leaves_a_whole_card_or_none(whole, tmp_path):
    """Killed at several moments, the search goes on each time with what is there, and ends where the others do."""
    path = tmp_path / "mine.toml"
    here = [sys.executable, "-m", "circuit_claims.discovery", *FEW, "--out", str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    left, steps = [], [*ALL, *DEAR]
    for lines in (3, 9):
        running = subprocess.Popen(here, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)
        assert running.stderr is not None
        seen = 0
        for line in running.stderr:
            seen += bool(re.match(r" *\d+ s +\d+ of ", line))
            if seen == lines:
                break
        running.send_signal(signal.SIGKILL)
        running.wait()
        running.stderr.close()
        left.append(len(read_card(path).unfinished))
    assert left == [len(steps) - 2, len(steps) - 10], "a step begins when what was found before it is on disk"
    assert discover(path) == 0 and same(path, whole)


# The minutes.


class Clock:
    """Seconds that pass as they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def with_clock(monkeypatch: pytest.MonkeyPatch, passes: Callable[[Clock], None]) -> Clock:
    """The command by a clock that goes on with every pass of the model."""
    clock, count = Clock(), forward_passes.count

    def counted(n: int = 1) -> None:
        passes(clock)
        count(n)

    monkeypatch.setattr(forward_passes, "count", counted)
    monkeypatch.setattr(command, "TimeLimit", lambda minutes: TimeLimit(minutes, clock))
    return clock


def test_a_search_ends_with_its_minutes_in_the_midst_of_a_step(tmp_path, monkeypatch, capsys):
    """A pass takes a second by this clock: the search ends with the first one after the last minute."""

    def second(clock: Clock) -> None:
        clock.now += 1

    clock = with_clock(monkeypatch, second)
    path = tmp_path / "mine.toml"
    assert discover(path, "--minutes", "2") == 0 and 120 <= clock.now <= 121
    said, missing = capsys.readouterr().out, read_card(path).unfinished
    assert said.startswith(f"stopped after 2 minutes: {len(missing)} of {len(ALL)} steps are missing\n")
    assert 0 < len(missing) < len(ALL) and list(missing) == ALL[-len(missing) :]
    assert f"to go on: circuit-claims discover --subject mini --out {path} --prompts 30 --chapters facts,induction" in said
    assert discover(path) == 0 and read_card(path).unfinished == ()


def test_a_budget_too_short_for_any_family_says_what_is_missing(tmp_path, monkeypatch, capsys):
    def hours(clock: Clock) -> None:
        clock.now += 3600

    with_clock(monkeypatch, hours)
    path = tmp_path / "mine.toml"
    assert discover(path, "--minutes", "0.5") == 0
    said = capsys.readouterr().out
    assert "stopped after 0.5 minutes" in said and "no family found so far" in said and f"missing: {', '.join(ALL)}" in said
    assert read_card(path).values == {} and list(read_card(path).unfinished) == ALL


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf"])
def test_no_time_at_all_is_refused(tmp_path, capsys, minutes):
    assert discover(tmp_path / "mine.toml", f"--minutes={minutes}") == 2
    said = capsys.readouterr()
    assert "--minutes must be a number above 0" in said.err and said.err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_time_is_up_when_the_minutes_are_over_and_not_before():
    clock = Clock()
    clock.now = 1000.0
    limit, without = TimeLimit(2, clock), TimeLimit(None, clock)
    clock.now += 119.9
    limit.check()
    clock.now += 0.1
    with pytest.raises(OutOfTime):
        limit.check()
    without.check()
    assert limit.seconds == pytest.approx(120) and time_limit.in_words(1) == "1 minute"


# The order, and what is said on the way.


def test_what_matters_most_comes_first():
    order = search.steps(chapters.names())
    assert (
        order[0] == "behaviour"
        and tuple(order[1:8]) == family_search.STEPS
        and order[-len(chapters.names()) :] == chapters.names()
    )
    assert len(order) == len(set(order)), "the name of a step says which it is"


def test_where_there_is_no_terminal_each_step_is_a_line(capsys):
    seconds = iter([0.4, 75.0])
    with Steps(["one", "two", *"abcdefgh"], lambda: next(seconds)) as steps:
        steps.at("one")
        steps.at("two")
    said = capsys.readouterr()
    assert said.err == "    0 s   1 of 10  one\n   75 s   2 of 10  two\n" and said.out == ""


def test_on_a_terminal_there_is_a_bar_and_no_line_a_step(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with Steps(["one", "two"], time.monotonic) as steps:
        steps.at("one")
    said = capsys.readouterr().err
    assert "━" in said and " of 2  " not in said


def test_a_survey_measures_what_it_knows_not_again(mini):
    survey = Survey.of(mini, n=30, seed=0, prepend_bos=False)
    assert survey.task_so_far is None
    assert survey.kept("x", lambda: 1 + survey.cells(survey.ioi.attention_sweep(of="END", to="IO"))).shape == (4, 8)

    def never() -> Any:
        raise AssertionError

    assert survey.kept("x", never).min() >= 1
    assert survey.shows_the_task and survey.task_so_far == (survey.logit_difference, True)
