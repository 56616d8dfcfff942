"""One sweep and its peer, timed one after the other in one process; both must give the same numbers.

Nothing fails because a machine is slow: only a difference between the two grids does.
"""

import time
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks import machine, ours, peers
from benchmarks.gpt2_small_shaped import Work
from benchmarks.table import Row

#: The largest difference allowed between the engine's grid and an exact peer's, in logits.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Sweep:
    """A sweep, its peer, how many times faster it is meant to be; quick: every how many of the peer's calls suffice.

    peer_thinned: the same where nothing is quick, for a peer of hours.
    """

    name: str
    ours: ours.Ours
    peer_name: str
    peer: peers.Peer
    target: float
    quick: int = 1
    exact: bool = True
    peer_thinned: int = 1


def name_of(sweep: Sweep) -> str:
    """How pytest calls it."""
    return f"{sweep.name} vs {sweep.peer_name}"


@dataclass
class Timing:
    """Sweeps of one model on one set of prompts, and what the engine's halves found, for their peers' halves.

    model: whose sweeps they are, for the table; rate: the machine's, in FLOP a second; quick: whether peers are thinned out.
    """

    model: str
    prompts: Work
    rate: float
    quick: bool
    found: dict[Any, tuple] = field(default_factory=dict)

    def ours(self, sweep: Sweep, benchmark: Any) -> None:
        """Time the engine's half."""
        benchmark.group = name_of(sweep)
        self._time_ours(sweep, benchmark, most_rounds=1 if self.quick else 3)

    def peer(self, sweep: Sweep, benchmark: Any) -> Row:
        """Time the peer's half, and compare the two.

        Raises AssertionError where an exact peer's numbers are others.
        """
        benchmark.group, prompts = name_of(sweep), self.prompts
        device, every = prompts.clean.device, sweep.quick if self.quick else sweep.peer_thinned

        def peer() -> peers.Answer:
            answer = sweep.peer(prompts, every)
            machine.synchronise(device)
            return answer

        short = sweep.quick == 1  # of a peer that is over in no time, more than one round
        answer = benchmark.pedantic(peer, rounds=3 if short else 1, iterations=1, warmup_rounds=1 if short else 0)
        grid, seconds, peak, flops = self._time_ours(sweep, None, most_rounds=1)
        theirs = answer.values.to(grid.device)
        difference = float((grid.flatten()[answer.places.to(grid.device)] - theirs).abs().max())
        peer_s = benchmark.stats.stats.median * answer.of / len(theirs)
        if sweep.exact:
            assert difference < TOLERANCE, f"the engine and {sweep.peer_name} disagree by {difference} logits"
        return Row(
            self.model,
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
            flops / seconds / self.rate,
            str(device),
            torch.get_num_threads(),
        )

    def _time_ours(self, sweep: Sweep, benchmark: Any, *, most_rounds: int) -> tuple:
        """Time the engine, having looked at its memory and counted its FLOPs in two untimed rounds."""
        prompts, found, device = self.prompts, self.found, self.prompts.clean.device

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
