"""Each sweep by the engine and by its peer, one after the other in one process; both must give the same numbers.

Nothing here fails because a machine is slow: only a difference between the two grids does.
"""

import time
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from benchmarks import machine, ours, peers
from benchmarks.gpt2_small_shaped import Work, work
from benchmarks.table import Row

N_PROMPTS, N_TOKENS = 16, 16
#: With --quick there are fewer, and a long sweep's matrix products have fewer rows.
N_PROMPTS_QUICK = 2
#: The largest difference allowed between the engine's grid and an exact peer's, in logits.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Sweep:
    """A sweep, its peer, how many times faster it is meant to be; quick: every how many of the peer's calls suffice."""

    name: str
    ours: ours.Ours
    peer_name: str
    peer: peers.Peer
    target: float
    quick: int = 1
    exact: bool = True


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
]


@pytest.fixture(scope="module")
def prompts(gpt2_small_shaped: tuple[Any, Any], pytestconfig: pytest.Config) -> Work:
    """16 prompts of 16 tokens; with --quick fewer."""
    return work(*gpt2_small_shaped, N_PROMPTS_QUICK if pytestconfig.getoption("--quick") else N_PROMPTS, N_TOKENS)


@pytest.fixture(scope="module")
def found() -> dict[Any, Any]:
    """What the engine's half found, for its peer's half: grid, seconds, peak memory, FLOPs."""
    return {}


def name_of(sweep: Sweep) -> str:
    """How pytest calls it."""
    return f"{sweep.name} vs {sweep.peer_name}"


@pytest.mark.parametrize("side", ["ours", "peer"])
@pytest.mark.parametrize("sweep", SWEEPS, ids=name_of)
def test_sweep(sweep: Sweep, side: str, benchmark, prompts: Work, found, rows: list[Row], rate: float, request) -> None:
    """The engine's grid is the peer's."""
    benchmark.group = name_of(sweep)
    quick, device = request.config.getoption("--quick"), prompts.clean.device
    if side == "ours":
        _time_ours(sweep, benchmark, prompts, found, most_rounds=1 if quick else 3)
        return
    every = sweep.quick if quick else 1

    def peer() -> peers.Answer:
        answer = sweep.peer(prompts, every)
        machine.synchronise(device)
        return answer

    short = sweep.quick == 1  # of a peer that is over in no time, more than one round
    answer = benchmark.pedantic(peer, rounds=3 if short else 1, iterations=1, warmup_rounds=1 if short else 0)
    grid, seconds, peak, flops = _time_ours(sweep, None, prompts, found, most_rounds=1)
    theirs = answer.values.to(grid.device)
    difference = float((grid.flatten()[answer.places.to(grid.device)] - theirs).abs().max())
    peer_s = benchmark.stats.stats.median * answer.of / len(theirs)
    rows.append(
        Row(
            sweep.name,
            seconds,
            sweep.peer_name,
            peer_s,
            peer_s / seconds,
            sweep.target,
            difference,
            sweep.exact,
            prompts.n_prompts,
            prompts.n_tokens,
            answer.of,
            len(theirs),
            peak,
            flops / 1e12,
            flops / seconds / rate,
            str(device),
            torch.get_num_threads(),
        )
    )
    if sweep.exact:
        assert difference < TOLERANCE, f"the engine and {sweep.peer_name} disagree by {difference} logits"


def _time_ours(sweep: Sweep, benchmark, prompts: Work, found: dict, *, most_rounds: int) -> tuple:
    """Time the engine, having looked at its memory and counted its FLOPs in two untimed rounds."""
    device = prompts.clean.device

    def run() -> torch.Tensor:
        with torch.inference_mode():
            grid = sweep.ours(prompts, None)
        machine.synchronise(device)
        return grid

    if sweep.ours not in found:
        start = time.perf_counter()
        flops: list[int] = []
        peak = machine.peak_memory(lambda: flops.append(machine.count_flops(run)), device)
        found[sweep.ours] = (None, time.perf_counter() - start, peak, flops[0])
    grid, seconds, peak, flops = found[sweep.ours]
    if benchmark is None:
        if grid is None:
            start = time.perf_counter()
            grid = run()
            seconds = time.perf_counter() - start
    else:
        # A machine has moods, which a median of several rounds evens out; what takes minutes evens out its own.
        grid = benchmark.pedantic(run, rounds=most_rounds if seconds < 40 else 1, iterations=1)
        seconds = benchmark.stats.stats.median
    found[sweep.ours] = (grid, seconds, peak, flops)
    return found[sweep.ours]
