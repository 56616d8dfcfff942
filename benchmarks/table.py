"""The table of benchmarks: what each sweep took here and elsewhere, and what it was aimed at."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Row:
    """One sweep of one model against one peer, timed in one process.

    ours_s, peer_s: seconds, the median of the rounds. ratio: peer_s / ours_s, of which more is better. target: what the ratio
    is aimed at. max_abs_diff: between the two grids, in logits. peer_calls and peer_calls_timed: how many interventions the
    peer's sweep has, and how many of them were timed; where these differ, peer_s is scaled by their ratio. peak_bytes: what
    the engine's sweep took over the model and the prompts. tflop: of its matrix products; rate_share: the rate at which it did
    them, as a share of what this machine's matrix products reach.
    """

    model: str
    sweep: str
    ours_s: float
    peer: str
    peer_s: float
    ratio: float
    target: float
    max_abs_diff: float
    exact: bool
    n_prompts: int
    n_tokens: int
    peer_calls: int
    peer_calls_timed: int
    peak_bytes: int | None
    tflop: float
    rate_share: float
    device: str
    threads: int

    @property
    def verdict(self) -> str:
        """Whether the target is met."""
        return "met" if self.ratio >= self.target else f"{100 * (1 - self.ratio / self.target):.0f} % below"


def processor() -> str:
    """The processor's name, as the operating system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def markdown(rows: list[Row]) -> str:
    """The table for people."""
    frame = pd.DataFrame(
        {
            "sweep": row.sweep,
            "ours": f"{row.ours_s:.2f} s",
            "against": row.peer,
            "theirs": f"{row.peer_s:.1f} s" + ("" if row.peer_calls == row.peer_calls_timed else " (scaled)"),
            "times faster": f"{row.ratio:.1f}" if row.ratio >= 2 else f"{row.ratio:.2f}",
            "target": f"{row.target:.0f}" if row.target >= 2 else f"{row.target:.2f}",
            "": row.verdict,
            "largest difference": f"{row.max_abs_diff:.0e}" + ("" if row.exact else " (theirs is an estimate)"),
            "peak memory": "" if row.peak_bytes is None else f"{row.peak_bytes / 1e9:.2f} GB",
            "of the machine's rate": f"{100 * row.rate_share:.0f} %",
        }
        for row in rows
    )
    return frame.to_markdown(index=False, disable_numparse=True)


def write(rows: Sequence[Row | dict[str, Any]], path: Path) -> None:
    """Write the rows as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    plain = [row if isinstance(row, dict) else asdict(row) for row in rows]
    unfinished.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    os.replace(unfinished, path)
