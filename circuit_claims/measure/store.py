"""A bounded store of what was measured: what was used longest ago goes first.

A measurement is kept as its numbers, prompt by prompt. Whoever asks for the same prompts under the same intervention again
gets what is there, and what has gone is computed anew: the numbers are the same.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

#: What everything that was measured may occupy together, in bytes.
CAPACITY_MEASURED = 500_000_000

T = TypeVar("T")


class SessionStore:
    """Values by key, least recently used first out; what has no size to speak of stays."""

    def __init__(self, capacity: int = CAPACITY_MEASURED) -> None:
        """capacity: bytes that arrays and tensors together may occupy; the newest value is kept whatever its size."""
        self._capacity = capacity
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value at `key`, made by `make` where it is not there."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][0]
        value = make()
        size = n_bytes(value)
        self._kept[key] = value, size
        self._size += size
        if self._size > self._capacity:
            self._make_room(key)
        return value

    def _make_room(self, newest: Hashable) -> None:
        for key, (_, size) in list(self._kept.items()):
            if self._size <= self._capacity:
                return
            if size and key != newest:
                del self._kept[key]
                self._size -= size


def n_bytes(value: Any) -> int:
    """What the arrays and tensors in a value occupy; anything else counts for nothing."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(map(n_bytes, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(n_bytes, value))
    return getattr(value, "n_bytes", 0)  # a run of a model says what it holds
