"""The progress bar on a pseudo-terminal: it moves, garbles nothing, leaves nothing behind; and elsewhere there is none."""

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from circuit_claims import forward_passes
from circuit_claims.reports.progress import Figures, _wanted, clock, humanised
from tests.support.claim_projects import ROOT

if sys.platform == "win32":
    pytest.skip("there are no pseudo-terminals on Windows: run these tests on Linux or macOS", allow_module_level=True)

import fcntl
import struct
import termios

COLUMNS, LINES = 110, 50

#: A process becomes the terminal's own before it becomes pytest, so that the terminal's Ctrl-C reaches it; and it heeds Ctrl-C
#: even where these tests run in the background of a shell, whose children are told to ignore it.
LOGIN = (
    "import os, signal, sys; os.login_tty(0); signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "os.execv(sys.executable, [sys.executable, '-m', 'pytest', *sys.argv[1:]])"
)

CONFTEST = """
import pytest

pytest_plugins = ["circuit_claims.fixtures.options", "circuit_claims.reports.plugin", "circuit_claims.reports.progress"]

@pytest.fixture
def expect(request):
    def record(verdict, **more):
        row = {"claim_id": f"demo/x/{request.node.name}", "chapter": "demo", "verdict": verdict}
        request.node.user_properties.append(("claim", row | more))
    return record
"""

CLAIMS = '''
import os
import time
from circuit_claims import forward_passes

PAUSE = float(os.environ["PAUSE"])

def test_first(expect):
    """The first statement."""
    expect("holds", observed=1.0)

def test_second_with_a_long_name(expect):
    """The second statement."""
    for _ in range(2):
        forward_passes.count(700)
        os.write(1, b"noise")
        time.sleep(PAUSE)
    expect("refuted", reason="too low")
    assert False, "too low"

def test_third(expect):
    """The third statement."""
    time.sleep(PAUSE)
    expect("holds")
'''

OWN = "def test_instrument(): pass\n"

#: What pytest-xdist tells its workers, should this be one.
XDIST = ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID")

ANY_BAR = re.compile(r"\d/\d claims")
#: Escape codes other than those for colours.
MOVES = re.compile(r"\x1b(?!\[[\d;]*m)")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of three claims and one test of its own, in an environment where nothing speaks against a bar."""
    for name, text in {"claims/demo/test_x.py": CLAIMS, "tests/test_own.py": OWN, "conftest.py": CONFTEST}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider\n")
    for name in ("CI", "BUILD_NUMBER", "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "COLUMNS", "LINES", *XDIST, "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("PAUSE", "0.6")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # plugins of other projects would only take their time
    return tmp_path


def on_terminal(folder: Path, *arguments: str, meanwhile: Callable[[str, int], None] = lambda seen, terminal: None) -> str:
    """Run pytest on a pseudo-terminal, and give back all that it was sent.

    meanwhile: called with what was sent so far, and the end of the terminal where somebody types.
    """
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    command = [sys.executable, "-c", LOGIN, "--report-dir", "report", *arguments]
    with subprocess.Popen(command, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        sent, deadline = b"", time.monotonic() + 60
        while time.monotonic() < deadline and select.select([ours], [], [], deadline - time.monotonic())[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # how Linux says that nobody writes any more
                piece = b""
            if not piece:
                break
            sent += piece
            meanwhile(sent.decode(errors="replace"), ours)
        else:
            process.kill()
    os.close(ours)
    return sent.decode()


def screen(sent: str) -> list[str]:
    """What a terminal shows in the end, of as many lines as it takes. Refuses escape codes that it does not know."""
    lines, row, column = [""], 0, 0
    for code, count, letter, character in re.findall(r"(\x1b\[([\d;?]*)([A-Za-z]))|([\s\S])", sent):
        if character == "\n":
            row += 1
        elif character == "\r":
            column = 0
        elif character:
            if column == COLUMNS:
                row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
            lines[row] = lines[row][:column].ljust(column) + character + lines[row][column + 1 :]
            column += 1
        elif letter == "A":
            row -= int(count)
        elif code == "\x1b[2K":
            lines[row] = ""
        elif letter != "m":
            raise AssertionError(f"an escape code that this screen does not know: {code!r}")
        lines += [""] * (row + 1 - len(lines))
    assert column == 0, "the cursor is left within a line"
    return [re.sub(r"at 0x\w+", "somewhere", re.sub(r"in \d+\.\d+s =+", "in no time", line.rstrip())) for line in lines]


def test_what_remains_on_the_screen_is_what_would_be_there_without_the_bar(folder: Path, monkeypatch: pytest.MonkeyPatch):
    with_bar = on_terminal(folder, "claims", "tests")
    monkeypatch.setenv("PAUSE", "0")
    without = on_terminal(folder, "claims", "tests", "--no-progress")
    assert screen(with_bar) == screen(without)
    assert not ANY_BAR.search(without) and not MOVES.search(without)
    assert "claims/demo/test_x.py .F." in "\n".join(screen(with_bar)), "the letters are pytest's"
    assert "1 failed, 3 passed in no time" in screen(with_bar)[-2]
    # The bar moves between claims, and within one; the project's own test does not count.
    said = list(dict.fromkeys(re.findall(r"(\d/\d claims  \S+ forward passes)  0:0\d", with_bar)))
    assert said[0] == "0/3 claims  0 forward passes"
    assert "1/3 claims  700 forward passes" in said and "1/3 claims  1.4k forward passes" in said
    assert said[-1] == "3/3 claims  1.4k forward passes"
    assert re.search(r"2/3 claims  1\.4k forward passes  0:0\d, about 0:0\d left  demo/test_x\.py::test_third", with_bar)


def test_no_bar_where_the_output_is_no_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PAUSE", "0")
    monkeypatch.setenv("FORCE_COLOR", "1")
    command = [sys.executable, "-m", "pytest", "claims", "--report-dir", "report"]
    piped = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert "1 failed" in piped.stdout and piped.stderr == ""
    assert not ANY_BAR.search(piped.stdout) and not MOVES.search(piped.stdout)


@pytest.mark.parametrize("arguments", [["--collect-only"], ["tests"]], ids=["only collected", "no claim"])
def test_no_bar_where_no_claim_runs(folder: Path, arguments: list[str]):
    sent = on_terminal(folder, *arguments)
    assert not ANY_BAR.search(sent) and not MOVES.search(sent)


def test_interrupted_within_a_claim(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PAUSE", "30")
    pressed = []

    def press_once(seen: str, terminal: int) -> None:
        if not pressed and re.search(r"1/3 claims  \S+ forward passes", seen):  # a busy machine may redraw the bar late
            pressed.append(os.write(terminal, b"\x03"))

    shown = screen(on_terminal(folder, "claims", "--tb=no", meanwhile=press_once))
    assert pressed
    text = "\n".join(shown)
    assert not ANY_BAR.search(text)
    assert text.count("claims/demo/test_x.py .\n") == 1
    assert " KeyboardInterrupt !" in text and "1 passed in no time" in text
    assert re.search(r"first +— +1.* holds\n", text), "the row of the claim that was done"
    assert "Collected, but without a row: claims/demo/test_x.py::test_second_with_a_long_name and 1 more." in text
    assert (folder / "report" / "report.html").exists()
    # No test of the cursor's visibility is needed but this one: `screen` refuses the codes that hide it.


def test_a_usage_error_after_the_start_leaves_no_bar(folder: Path):
    hook = "\ndef pytest_runtest_logstart(nodeid):\n    raise pytest.UsageError('this does not work')\n"
    (folder / "conftest.py").write_text(CONFTEST + hook, encoding="utf-8")
    sent = on_terminal(folder, "claims")
    assert ANY_BAR.search(sent)
    shown = "\n".join(screen(sent))
    assert not ANY_BAR.search(shown) and "ERROR: this does not work" in shown


def test_with_xdist_the_controller_draws_without_forward_passes(folder: Path):
    sent = on_terminal(folder, "claims", "-p", "xdist", "-n", "1", "--tb=no")
    assert re.search(r"1/3 claims  0:0\d, about 0:0\d left  demo/test_x\.py::test_second", sent)
    assert "forward passes" not in sent
    assert "1 failed, 2 passed in no time" in screen(sent)[-2]


class Reporter:
    """A terminal reporter of which only this is known."""

    def __init__(self, isatty: bool = True) -> None:
        self.isatty = lambda: isatty


@pytest.mark.parametrize(
    ("arguments", "environment", "wanted"),
    [
        ([], {}, True),
        (["-v"], {}, True),
        (["-q"], {}, True),
        ([], {"NO_COLOR": "1"}, True),
        ([], {"CI": ""}, True),
        (["-qq"], {}, False),
        (["-s"], {}, False),
        (["--capture=tee-sys"], {}, False),
        (["--pdb"], {}, False),
        (["--trace"], {}, False),
        ([], {"TERM": "dumb"}, False),
        ([], {"TERM": ""}, False),
        ([], {"CI": "true"}, False),
        ([], {"BUILD_NUMBER": "7"}, False),
    ],
)
def test_when_a_bar_is_wanted(
    folder: Path,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    environment: dict[str, str],
    wanted: bool,
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    config = pytester.parseconfig(*arguments)
    assert _wanted(config, Reporter()) is wanted
    assert not _wanted(config, Reporter(isatty=False))


def test_figures_in_words():
    assert [humanised(n) for n in (0, 999, 1000, 12_449, 999_949, 999_950, 3_100_000, 2 * 10**9)] == (
        "0 999 1.0k 12.4k 999.9k 1.0M 3.1M 2.0G".split()
    )
    assert [clock(s) for s in (0.9, 61, 3723)] == ["0:00", "1:01", "1:02:03"]


def test_the_line_keeps_the_end_of_the_id_where_room_is_short():
    figures = Figures(12, 41, 12_400, elapsed=83, since_last=0, running=["ioi/test_x.py::test_heads[L9H9]"])
    said = "12/41 claims  12.4k forward passes  1:23, about 3:21 left"
    assert figures.line(120) == f"{said}  ioi/test_x.py::test_heads[L9H9]"
    assert figures.line(len(said) + 10) == f"{said}  …s[L9H9]"
    assert figures.line(10) == said, "the drawing crops it"


def test_the_time_left():
    def left(done: int, elapsed: float, since_last: float) -> float | None:
        return Figures(done, 10, None, elapsed, since_last, []).seconds_left()

    assert left(0, 5, 5) is None and left(10, 50, 0) is None
    assert left(5, 50, 0) == 50  # ten seconds a claim, five to go
    assert left(5, 54, 4) == 46
    assert left(5, 90, 40) == 80, "a claim that has lasted for long may last as long again"


def test_forward_passes_are_counted():
    before = forward_passes.total()
    forward_passes.count(3)
    forward_passes.count(1)
    assert forward_passes.total() - before == 4
