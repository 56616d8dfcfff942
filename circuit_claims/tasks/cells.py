"""Cells of a sweep, each measured on as many prompts as it is wanted on.

Prompts are measured in blocks of fixed bounds, each once a session: a verdict that asks for more prompts of some cells, and a
claim that asks for the same cells, pay only for what is new.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from circuit_claims.measure.blocks import FIRST_LOOK
from circuit_claims.measure.races.looks import SCREENING

#: Cells by their numbers, row by row.
Cells = Int[np.ndarray, " cell"]


def cells_in_blocks(
    kept: Callable[[tuple, Callable[[], np.ndarray]], np.ndarray],
    measure: Callable[[Sequence[Any], Cells], Float[np.ndarray, "prompt number"]],
    prompts: Sequence[Any],
    wanted: Int[np.ndarray, " cell"],
    size: int,
) -> Float[np.ndarray, "prompt number"]:
    """What `measure` gives for every cell on the first `wanted` of the prompts, and NaN for the others.

    kept: gives what was measured under a key, or measures it. measure: a number for each of some cells, and behind them what
    is common to all cells, if anything. size: of a block, in prompts; a race's first looks end one besides.

    Blocks are kept by the cells that they hold, so that numbers do not depend, not even by rounding, on what else was asked for
    before.
    """
    n = len(prompts)
    ends = sorted({*range(size, n, size), SCREENING, FIRST_LOOK, n, *map(int, wanted)} - {0})
    parts, first = [], 0
    for last in (end for end in ends if end <= n):
        cells = np.flatnonzero(wanted >= last)
        found = kept((first, last, cells.tobytes()), partial(measure, prompts[first:last], cells))
        values = np.full((last - first, len(wanted) + found.shape[1] - len(cells)), np.nan)
        values[:, cells] = found[:, : len(cells)]
        values[:, len(wanted) :] = found[:, len(cells) :]
        parts.append(values)
        first = last
    return np.concatenate(parts)
