"""Benchmarks: the model, the prompts, what was timed, and the table at the end. Run by `make bench`."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpt2_small_shaped import Shaped, random_gpt2_small
from benchmarks.table import Row, markdown, processor, write
from circuit_claims.fixtures.session import option_of

ROWS = pytest.StashKey[list[Row]]()
SCALING = pytest.StashKey[list[dict[str, Any]]]()
EFFECTS = pytest.StashKey[list[dict[str, Any]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of benchmarks alone."""
    group = parser.getgroup("benchmarks")
    group.addoption(
        "--quick", action="store_true", help="time every so many of a peer's interventions, and scale: under three minutes"
    )
    group.addoption("--bench-out", default="reports/out", metavar="DIR", help="where benchmarks.json is written (reports/out)")


def pytest_configure(config: pytest.Config) -> None:
    """Room for what is timed."""
    config.stash[ROWS], config.stash[SCALING], config.stash[EFFECTS] = [], [], []


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config) -> torch.device:
    """Where to run: --device, or a GPU where there is one."""
    name: str = option_of(pytestconfig, "--device")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


@pytest.fixture(scope="session")
def gpt2_small_shaped(device: torch.device) -> Iterator[Shaped]:
    """The random model: its bridge, and the engine's view of it."""
    yield random_gpt2_small(str(device))


@pytest.fixture(scope="session")
def rate(device: torch.device) -> float:
    """This machine's matrix-product rate, in FLOP a second, measured in this run."""
    from benchmarks.machine import matrix_product_rate

    return matrix_product_rate(device)


@pytest.fixture(scope="session")
def rows(pytestconfig: pytest.Config) -> list[Row]:
    """What was timed."""
    return pytestconfig.stash[ROWS]


@pytest.fixture(scope="session")
def scaling(pytestconfig: pytest.Config) -> list[dict[str, Any]]:
    """How a sweep's time grows."""
    return pytestconfig.stash[SCALING]


@pytest.fixture(scope="session")
def effects(pytestconfig: pytest.Config) -> list[dict[str, Any]]:
    """How many effects verdicts took."""
    return pytestconfig.stash[EFFECTS]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The tables, and where the rows are."""
    timed, grown, counted = config.stash[ROWS], config.stash[SCALING], config.stash[EFFECTS]
    if not timed and not grown and not counted:
        return
    device = "CPU" if not timed or timed[0].device == "cpu" else torch.cuda.get_device_name()
    where = processor() if device == "CPU" else device
    terminalreporter.section("sweeps, against how they are done elsewhere")
    terminalreporter.write_line(f"{where}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    folder = Path(option_of(config, "--bench-out"))
    if timed:
        for model, some in groupby(timed, key=lambda row: row.model):
            of_model = list(some)
            prompts = f"{of_model[0].n_prompts} prompts of {of_model[0].n_tokens} tokens"
            terminalreporter.write_line(f"{model}, float32, {prompts}")
            terminalreporter.write_line("")
            terminalreporter.write_line(markdown(of_model))
            terminalreporter.write_line("")
        write(timed, folder / "benchmarks.json")
    if grown:
        import pandas as pd

        terminalreporter.section("how a sweep's time grows")
        terminalreporter.write_line(pd.DataFrame(grown).to_markdown(index=False, floatfmt=".3g"))
        write(grown, folder / "scaling.json")
    if counted:
        import pandas as pd

        terminalreporter.section("effects that verdicts on sweeps took, on planted")
        terminalreporter.write_line(pd.DataFrame(counted).to_markdown(index=False, floatfmt=".1f", intfmt=","))
        together = sum(row["effects in full"] for row in counted) / sum(row["effects"] for row in counted)
        terminalreporter.write_line(f"together: {together:.1f} times fewer")
        write(counted, folder / "effects.json")
    terminalreporter.write_line("")
    written = [
        name for name, found in (("benchmarks.json", timed), ("scaling.json", grown), ("effects.json", counted)) if found
    ]
    terminalreporter.write_line(f"written: {', '.join(str(folder / name) for name in written)}")
