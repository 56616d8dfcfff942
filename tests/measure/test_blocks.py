"""The blocks in which prompts are measured."""

import pytest

from circuit_claims.measure.blocks import at_a_time, blocks
from circuit_claims.verdicts.budget import Budget


@pytest.mark.parametrize(
    ("n", "size", "expected"),
    [
        (8, 120, [(0, 8)]),
        (30, 120, [(0, 30)]),
        (120, 120, [(0, 30), (30, 120)]),
        (300, 120, [(0, 30), (30, 120), (120, 240), (240, 300)]),
        (50, 16, [(0, 16), (16, 32), (32, 48), (48, 50)]),
        (0, 120, []),
    ],
)
def test_blocks_have_fixed_bounds(n, size, expected):
    assert blocks(n, size) == expected


def test_more_prompts_keep_the_blocks_of_fewer_at_every_look():
    measured: set[tuple[int, int]] = set()
    for n in (30, 120, 240, 480, 960):
        new = set(blocks(n, 120)) - measured
        assert sum(last - first for first, last in new) == n - sum(last - first for first, last in measured)
        measured |= new


@pytest.mark.parametrize("first", [30, 60, 120, 200])
def test_every_look_ends_where_a_block_does(first):
    ends = {last for _, last in blocks(960, at_a_time(first))}
    assert set(Budget(first, 960).looks(None)) <= ends


def test_a_block_holds_a_prompt():
    with pytest.raises(ValueError, match="one prompt or more, and not 0"):
        blocks(5, 0)
