"""Forward passes that several claims share, bounded: what was used longest ago goes first.

A pass is kept as its residual stream alone: a few hundred kilobytes a prompt for GPT-2 small.
"""

import hashlib
from collections.abc import Callable

from jaxtyping import Int
from torch import Tensor

from circuit_claims.engine.run import Run
from circuit_claims.measure.store import SessionStore

#: What all cached runs together may occupy, in bytes.
CAPACITY = 1_000_000_000


class RunCache:
    """Runs by their tokens."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._store = SessionStore(capacity)

    def get(self, tokens: Int[Tensor, "prompt pos"], make: Callable[[Int[Tensor, "prompt pos"]], Run]) -> Run:
        """The run over `tokens`, made by `make` where it is not there."""
        key = hashlib.sha256(str(tuple(tokens.shape)).encode() + tokens.cpu().numpy().tobytes()).digest()
        return self._store.get(key, lambda: make(tokens))
