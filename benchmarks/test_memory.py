"""What sweeps hold in memory, and that a cap is met by splitting."""

import pytest
import torch

from benchmarks import edges, machine, ours
from benchmarks.gpt2_small_shaped import Shaped, work

#: What one block of rows takes inside a layer, whatever the cap: queries, keys, values, the MLP's hidden layer, copies.
BLOCK = 250_000_000


@pytest.mark.parametrize(
    "sweep", [ours.heads_at_all_positions, ours.residual_stream, ours.paths_to_logits], ids=lambda sweep: sweep.__name__
)
def test_a_cap_on_memory_is_met_and_changes_no_number(gpt2_small_shaped: Shaped, device, sweep, pytestconfig) -> None:
    """With a tenth of the memory the same grid comes out."""
    here = work(*gpt2_small_shaped, 2 if pytestconfig.getoption("--quick") else 16, 16)
    grids: list[torch.Tensor] = []

    def run(cap: int | None) -> None:
        with torch.inference_mode():
            grids.append(sweep(here, cap))

    cap = 50_000_000
    free, capped = (machine.peak_memory(lambda memory=memory: run(memory), device) for memory in (None, cap))
    assert free < 1_500_000_000
    # The two runs with their keys and values, which a sweep needs whole, come on top.
    runs = 2 * here.clean.numel() * (3 * 12 + 1) * 768 * 4
    assert capped < cap + runs + BLOCK
    assert (grids[0] - grids[1]).abs().max() < 1e-4


@pytest.mark.parametrize("score", [edges.attributed_edges, edges.exact_edges], ids=lambda score: score.__name__)
def test_scores_of_edges_stay_below_a_cap_and_are_the_same(gpt2_small_shaped: Shaped, device, score, pytestconfig) -> None:
    """All 32,491 edges by gradients, and those of the end one by one, with a fifth of the memory."""
    here = work(*gpt2_small_shaped, 2 if pytestconfig.getoption("--quick") else 8, 16)
    found: list[torch.Tensor] = []

    def run(cap: int) -> None:
        with torch.inference_mode():
            found.append(score(here, cap))

    cap = 200_000_000
    free, capped = (machine.peak_memory(lambda memory=memory: run(memory), device) for memory in (5 * cap, cap))
    # The two runs, and what one block holds inside a layer.
    runs = 2 * here.clean.numel() * 13 * 768 * 4
    assert free < 5 * cap + runs + BLOCK
    assert capped < cap + runs + BLOCK
    assert (found[0] - found[1]).abs().max() < 1e-4
