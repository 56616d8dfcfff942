"""Forward passes that several claims share, bounded: what was used longest ago goes first.

A pass is kept as its residual stream alone: a few hundred kilobytes a prompt for GPT-2 small. All prompts of `-k ioi` take some
eight gigabytes of them; with one gigabyte, half of all passes are made a second time.
"""

import hashlib
import os
from collections.abc import Callable

import psutil
import torch
from jaxtyping import Int
from torch import Tensor

from circuit_claims.engine.run import Run
from circuit_claims.measure.store import SessionStore

#: What all cached runs together may always occupy, in bytes, and may at most.
LEAST, MOST = 1_000_000_000, 8_000_000_000


def capacity(device: torch.device | str = "cpu") -> int:
    """What all cached runs together may occupy, in bytes: a quarter of the memory that is free on the device where they lie.

    Several processes of one session share it.
    """
    device = torch.device(device)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return min(MOST, max(LEAST, free // (4 * processes)))


class RunCache:
    """Runs by their tokens."""

    def __init__(self, capacity: int) -> None:
        """capacity: bytes."""
        self._store = SessionStore(capacity)

    def get(self, tokens: Int[Tensor, "prompt pos"], make: Callable[[Int[Tensor, "prompt pos"]], Run]) -> Run:
        """The run over `tokens`, made by `make` where it is not there."""
        key = hashlib.sha256(str(tuple(tokens.shape)).encode() + tokens.cpu().numpy().tobytes()).digest()
        return self._store.get(key, lambda: make(tokens))
