"""The notebooks of docs/notebooks, run from the first cell to the last on the embedded model."""

import re
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path

import nbclient
import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NAMES = ("a_feature", "ioi_in_ten_cells", "your_own_behaviour")
#: As a result says it in its output, and the markdown after it in its first word.
SAID = re.compile(r"prediction: (holds|refuted|inconclusive)")
COMPARED = re.compile(r"\*\*(Holds|Refuted|Inconclusive)\b")


@cache
def committed(name: str):
    """A notebook as it is committed."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def executed(name: str, folder: Path):
    """A copy of a notebook with the outputs of a kernel of this interpreter, whatever kernels are installed."""
    notebook = deepcopy(committed(name))
    manager = AsyncKernelManager()
    # The manager asks its own specification before it looks for an installed one.
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    manager._kernel_spec = KernelSpec(argv=command, display_name="this interpreter", language="python")
    nbclient.NotebookClient(notebook, km=manager, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def printed(cell) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout")


def is_prediction(cell) -> bool:
    return cell.cell_type == "markdown" and "**Prediction.**" in cell.source


def test_every_notebook_is_tested():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_and_compares_its_predictions_as_they_come_out(name, tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    work = tmp_path / "work"
    work.mkdir()
    cells = executed(name, work).cells
    results = [i for i, cell in enumerate(cells) if is_prediction(cell)]
    for i in results:
        (found,) = SAID.findall(printed(cells[i + 1]))
        (compared,) = COMPARED.findall(cells[i + 2].source)
        assert compared.lower() == found, f"{cells[i].source}\n{printed(cells[i + 1])}\n{cells[i + 2].source}"


@pytest.mark.parametrize("name", NAMES)
def test_each_prediction_stands_before_its_result_and_each_comparison_after(name):
    first, *rest = [cell for cell in committed(name).cells if cell.cell_type == "code"]
    cells = committed(name).cells
    for result in rest:
        i = cells.index(result)
        assert is_prediction(cells[i - 1]), f"no prediction before: {result.source}"
        assert COMPARED.match(cells[i + 1].source), f"no comparison after: {result.source}"
    assert "import circuit_claims as cc" in first.source
    assert len(rest) == sum(map(is_prediction, cells)) >= 5


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_cleared(name):
    for cell in committed(name).cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None, cell.source


def test_ioi_has_ten_cells():
    assert sum(cell.cell_type == "code" for cell in committed("ioi_in_ten_cells").cells) <= 10
