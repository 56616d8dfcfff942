"""First runs on a hub model as users have them, in processes of their own: on a terminal, without one, stopped, offline."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from circuit_claims.models.folder import EMBEDDED
from circuit_claims.subjects.find import find_folder
from tests.support.claim_runs import ROOT
from tests.support.hub_server import Hub

CLAIM = "claims/ioi/test_behaviour.py::test_IO_is_the_top_token_on_most_prompts"
LOOK = "from circuit_claims.subjects.find import find_folder; print(find_folder('owner/mini').sha256())"


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub that has the embedded model, also on a branch."""
    files = {path.name: path.read_bytes() for path in EMBEDDED["mini"].iterdir()}
    with Hub() as started:
        started.add("owner/mini", files, refs={"v1": 0})
        started.add("owner/gated", files, gated=True)
        yield started


@pytest.fixture
def environment(hub, tmp_path) -> dict[str, str]:
    """That of a user who is not logged in, and has never downloaded anything."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_", "PYTEST_"))}
    more = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    return kept | more


def claims(subject: str, report: Path) -> list[str]:
    options = [
        "--card",
        "mini",
        "--prompts",
        "40",
        "--max-prompts",
        "40",
        "--report-dir",
        str(report),
        "-p",
        "no:cacheprovider",
    ]
    return [sys.executable, "-m", "pytest", CLAIM, "--subject", subject, *options]


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The command in the project's root, without a terminal."""
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


def run_on_a_terminal(command: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Its exit status and what a terminal of 100 columns shows of it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                shown += os.read(ours, 1 << 16)
            except OSError:  # nobody has the other end open any more
                break
    os.close(ours)
    return process.returncode, shown.decode()


def test_a_first_run_downloads_with_a_bar_and_the_next_asks_nobody(hub, environment, tmp_path):
    status, shown = run_on_a_terminal(claims("owner/mini@v1", tmp_path / "report"), environment)
    assert status == 0, shown
    assert "downloading owner/mini@v1 from the hub once: 3.9 MB" in shown
    assert re.search(r"model\.safetensors: 100%\|.*3\.87M/3\.87M", shown), "the bar of the weights"
    assert "Fetching" not in shown and "1 passed" in shown
    report = json.loads((tmp_path / "report" / "claims.json").read_text())
    (row,) = report["rows"]
    assert (row["subject"], row["verdict"], row["weights_sha256"]) == ("owner/mini@v1", "holds", find_folder("mini").sha256())
    assert report["meta"]["subject_source"] == f"hub owner/mini@v1, commit {hub.repositories['owner/mini'].refs['v1']}"
    hub.asked.clear()
    look = [sys.executable, "-c", LOOK.replace("owner/mini", "owner/mini@v1")]
    for more in ({"HF_HUB_OFFLINE": "1"}, {}):
        done = run(look, environment | more)
        assert (done.stdout.strip(), done.stderr) == (row["weights_sha256"], "") and not hub.asked


def test_a_refusal_is_one_line_on_the_command_line(environment, tmp_path):
    done = run(claims("owner/gated", tmp_path / "report"), environment)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    expected = "ERROR: the hub wants you to accept the terms of owner/gated: do so there and log in with `hf auth login`"
    assert [line for line in done.stderr.splitlines() if line] == [expected]
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_while_it_downloads_is_gone_at_once_and_the_next_goes_on(hub, environment, tmp_path, how):
    hub.pause = 1.0
    with subprocess.Popen(
        [sys.executable, "-c", LOOK], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        while not any(asked.path.endswith("/model.safetensors") and asked.method == "GET" for asked in hub.asked):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        time.sleep(0.2)
        process.send_signal(how)
        process.wait(timeout=10)  # the file would take a minute
    assert not list((tmp_path / "hf").rglob("snapshots/*/model.safetensors")), "nothing half-written"
    hub.pause = 0.0
    hub.asked.clear()
    done = run([sys.executable, "-c", LOOK], environment)
    assert done.stdout.strip() == find_folder("mini").sha256()
    assert done.stderr == "downloading owner/mini from the hub once: 3.9 MB\n", "no terminal, no bar"
    assert hub.files_asked() == ["model.safetensors"]


def test_a_first_run_offline_is_a_sentence_and_asks_nobody(hub, environment):
    done = run([sys.executable, "-c", LOOK], environment | {"HF_HUB_OFFLINE": "1"})
    assert "owner/mini is not in the local cache and the hub cannot be reached (HF_HUB_OFFLINE is set): " in done.stderr
    assert done.returncode != 0 and not hub.asked
