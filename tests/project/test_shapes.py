"""Annotations of arrays are true: calls with other shapes or dtypes are refused, and those of the tests are not."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from jaxtyping import Float, Int, TypeCheckError, jaxtyped
from torch import Tensor

from tests.shape_checks import shapes_checked
from tests.support.claim_projects import ROOT

PACKAGES = ("engine", "measure", "tasks", "sae", "controls", "prompts")
CHECKED = ("tests/engine/test_protocol.py", "tests/measure/test_orders_of_calls.py")


@jaxtyped(typechecker=shapes_checked)
def rows_of(table: Float[Tensor, "row width"], rows: Int[Tensor, " n"] | None = None) -> Float[Tensor, "n width"]:
    return table if rows is None else table[rows]


def test_what_fits_its_annotation_passes():
    assert rows_of(torch.zeros(3, 2), torch.tensor([0, 1])).shape == (2, 2)


@pytest.mark.parametrize(
    "arguments",
    [
        (torch.zeros(3), torch.tensor([0])),
        (torch.zeros(3, 2, dtype=torch.long), torch.tensor([0])),
        (torch.zeros(3, 2), torch.tensor([[0]])),
        (np.zeros((3, 2)), torch.tensor([0])),
    ],
    ids=["one axis too few", "whole numbers", "one axis too many", "another library's"],
)
def test_another_shape_or_dtype_is_refused(arguments):
    with pytest.raises(TypeCheckError, match="rows_of"):
        rows_of(*arguments)


def test_a_result_of_another_shape_is_refused():
    @jaxtyped(typechecker=shapes_checked)
    def transposed(table: Float[Tensor, "row width"]) -> Float[Tensor, "row width"]:
        return table.T

    with pytest.raises(TypeCheckError, match="transposed"):
        transposed(torch.zeros(3, 2))


def test_the_library_keeps_to_its_annotations():
    packages = ",".join([*(f"circuit_claims.{package}" for package in PACKAGES), "tests.shape_checks.shapes_checked"])
    command = [sys.executable, "-m", "pytest", *CHECKED, "-q", "-p", "no:cacheprovider", f"--jaxtyping-packages={packages}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
