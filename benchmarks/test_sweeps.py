"""Each sweep by the engine and by its peer, on GPT-2 small's shape."""

from typing import Any

import pytest

from benchmarks import edges, ours, peers
from benchmarks.gpt2_small_shaped import work
from benchmarks.table import Row
from benchmarks.timing import Sweep, Timing, name_of

N_PROMPTS, N_TOKENS = 16, 16
#: With --quick there are fewer, and a long sweep's matrix products have fewer rows.
N_PROMPTS_QUICK = 2

SWEEPS = [
    Sweep("144 heads, z at END", ours.heads_at_end, "a loop over run_with_hooks", peers.loop_over_heads_at_end, 30, 16),
    Sweep("144 heads, z at END", ours.heads_at_end, "attribution patching", peers.attribution_patching, 1 / 1.3, exact=False),
    Sweep(
        "144 heads × 16 positions, z",
        ours.heads_at_every_position,
        "get_act_patch_attn_head_out_by_pos",
        peers.heads_at_every_position,
        8,
        384,
    ),
    Sweep(
        "12 layers × 16 positions, residual stream",
        ours.residual_stream,
        "get_act_patch_resid_pre",
        peers.residual_stream,
        8,
        24,
    ),
    Sweep(
        "144 heads, z at all positions",
        ours.heads_at_all_positions,
        "get_act_patch_attn_head_out_all_pos",
        peers.heads_at_all_positions,
        4,
        24,
    ),
    Sweep(
        "144 heads, each of z, q, k, v, pattern at all positions",
        ours.every_part_at_all_positions,
        "get_act_patch_attn_head_all_pos_every",
        peers.every_part_at_all_positions,
        4,
        72,
    ),
    Sweep("path patching, 144 senders → logits", ours.paths_to_logits, "a four-pass loop", peers.paths_to_logits, 50, 24),
    Sweep(
        "path patching, 144 senders → queries of 3 heads",
        ours.paths_to_queries,
        "a four-pass loop",
        peers.paths_to_queries,
        20,
        24,
    ),
    Sweep(
        "mean ablation of each of 144 heads",
        ours.mean_ablations,
        "a loop over run_with_hooks",
        peers.loop_over_mean_ablations,
        4,
        24,
    ),
    Sweep(
        "5,341 edges → logits and the last layer's heads",
        edges.exact_edges,
        "a loop over run_with_hooks",
        edges.loop_over_edges,
        50,
        400,
        peer_thinned=40,
    ),
]


@pytest.fixture(scope="module")
def timing(gpt2_small_shaped: tuple[Any, Any], rate: float, pytestconfig: pytest.Config) -> Timing:
    """16 prompts of 16 tokens; with --quick fewer."""
    quick = bool(pytestconfig.getoption("--quick"))
    prompts = work(*gpt2_small_shaped, N_PROMPTS_QUICK if quick else N_PROMPTS, N_TOKENS)
    return Timing("GPT-2 small's shape, random", prompts, rate, quick)


@pytest.mark.parametrize("side", ["ours", "peer"])
@pytest.mark.parametrize("sweep", SWEEPS, ids=name_of)
def test_sweep(sweep: Sweep, side: str, benchmark, timing: Timing, rows: list[Row]) -> None:
    """The engine's grid is the peer's."""
    if side == "ours":
        timing.ours(sweep, benchmark)
    else:
        rows.append(timing.peer(sweep, benchmark))
