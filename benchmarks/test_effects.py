"""How many effects a verdict on a sweep takes, raced and in full, and whether both come to the same verdict.

An effect is one cell on one prompt: most of what a sweep costs. The statements are those of `claims/ioi` that read a sweep, on
`planted`, which has GPT-2 small's shape.
"""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import circuit_claims as cc
from circuit_claims.cards.find import find_card
from circuit_claims.measure.grid_statistics import (
    cell,
    earliest_layer_of_the_brightest,
    handover_layer,
    near_zero_share,
    size_at_head,
)
from circuit_claims.measure.measurement import Measurement
from circuit_claims.verdicts.budget import Budget
from circuit_claims.verdicts.expect import Expect, Expectation, Refuted
from circuit_claims.verdicts.rows import Row

#: Effects in full over effects raced, of all statements together.
TARGET = 5.0
BUDGET = Budget(first=120, most=960)
CARD = find_card("gpt2-small")
MOVERS, NEGATIVES = CARD.heads("name mover"), CARD.heads("negative name mover")
INHIBITORS, BACKUPS = CARD.heads("S-inhibition"), CARD.heads("backup name mover")
S2 = "S2 to IO"


class Rows:
    """A ledger that keeps the rows alone."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def row(self, **fields: Any) -> Row:
        """A new row."""
        self.rows.append(Row("", "", "", **fields))
        return self.rows[-1]

    def card(self) -> None:
        """No card: the basis of what is expected is not at issue."""

    def universal(self, key: tuple[str, str]) -> None:
        """No statement here is a universal one."""

    def counterexample(self, samples: Any, index: int, prepend_bos: bool | None) -> dict[str, Any]:
        """None is asked for."""
        return {}


Measure = Callable[[Any], Measurement]
Say = Callable[[Expectation], None]

STATEMENTS: dict[str, tuple[Measure, Say]] = {
    "name movers among the brightest": (
        lambda ioi: ioi.head_sweep(at="END"),
        lambda it: it.top(int(CARD["bright_heads"].value)).contains(MOVERS),
    ),
    "most heads near zero": (
        lambda ioi: ioi.head_sweep(at="END").of(near_zero_share(0.05), "share near zero", "share"),
        lambda it: it.above(0.5),
    ),
    "the brightest sit late": (
        lambda ioi: ioi.head_sweep(at="END").of(earliest_layer_of_the_brightest(3), "earliest layer", "layer"),
        lambda it: it.above(5),
    ),
    "paths to the logits start at the name movers": (
        lambda ioi: ioi.path_sweep(),
        lambda it: it.top(len(MOVERS)).contains(MOVERS),
    ),
    "paths that cost start at the negative name movers": (
        lambda ioi: ioi.path_sweep(),
        lambda it: it.bottom(len(NEGATIVES)).contains(NEGATIVES),
    ),
    "paths into their queries start at S-inhibition": (
        lambda ioi: ioi.path_sweep(to=MOVERS, into="q"),
        lambda it: it.top(len(INHIBITORS)).contains(INHIBITORS),
    ),
    "a backup's path without the name movers": (
        lambda ioi: ioi.path_sweep_without(MOVERS).of(size_at_head(BACKUPS[0]), "size", "share"),
        lambda it: it.above(0.02),
    ),
    "the answer's hand-over": (
        lambda ioi: ioi.residual_sweep(corruption=S2).of(handover_layer("S2", "END"), "layer", "layer"),
        lambda it: it.near(8, within=1),
    ),
    "END before the last layer": (
        lambda ioi: ioi.residual_sweep(corruption=S2).of(cell(-1, "END"), "recovery", "share"),
        lambda it: it.above(0.8),
    ),
}


@pytest.fixture(scope="module")
def ioi() -> Any:
    """The task on `planted`."""
    return cc.IOI(cc.load("planted", card="gpt2-small"))


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_raced_verdict_takes_fewer_effects(ioi: Any, effects: list[dict[str, Any]], statement: str) -> None:
    """The same verdict as of the full sweep, for fewer effects."""
    measure, say = STATEMENTS[statement]
    measured = measure(ioi)
    assert measured.cells is not None
    raced = _judged(measured, say)
    # Of a finite population nothing is raced.
    full = _judged(replace(measured, limit=BUDGET.most, cells=None), say)
    in_full = int(np.prod(measured.cells)) * full.n
    effects.append(
        {
            "statement": statement,
            "verdict": raced.verdict,
            "in full": full.verdict,
            "effects": raced.effects["measured"],
            "effects in full": in_full,
            "ratio": in_full / raced.effects["measured"],
        }
    )
    assert {raced.verdict, full.verdict} != {"holds", "refuted"}


def test_all_verdicts_together_take_a_fifth_of_the_effects(effects: list[dict[str, Any]]) -> None:
    """Over all statements above."""
    if len(effects) < len(STATEMENTS):
        pytest.skip("only some of the statements were measured: run this file without -k")
    assert sum(row["effects in full"] for row in effects) >= TARGET * sum(row["effects"] for row in effects)


def _judged(measured: Measurement, say: Say) -> Row:
    ledger = Rows()
    with contextlib.suppress(Refuted):
        say(Expect(ledger, BUDGET, seed=0)(measured))
    return ledger.rows[-1]
