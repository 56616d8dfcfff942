"""Session caches give back what they have, make what they have not, and stay within their bounds."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from circuit_claims.engine.run import Run
from circuit_claims.measure.store import SessionStore, n_bytes
from circuit_claims.subjects import run_cache
from circuit_claims.subjects.run_cache import LEAST, MOST, RunCache, capacity


class Maker:
    """Makes a value of so many bytes, and counts how often."""

    def __init__(self, size: int = 100) -> None:
        self.size, self.made = size, 0

    def __call__(self) -> np.ndarray:
        self.made += 1
        return np.zeros(self.size, dtype=np.uint8)


def test_what_is_there_is_not_made_again():
    store, make = SessionStore(), Maker()
    assert store.get("a", make) is store.get("a", make)
    assert make.made == 1 and len(store) == 1


def test_what_was_used_longest_ago_goes_first_and_is_made_anew():
    store, make = SessionStore(capacity=250), Maker()
    for key in ("a", "b", "a", "c"):
        store.get(key, make)
    assert make.made == 3 and len(store) == 2
    store.get("a", make)
    assert make.made == 3, "it was used after b"
    store.get("b", make)
    assert make.made == 4, "it had to go for c"


def test_a_value_larger_than_the_bound_is_kept_alone_until_the_next():
    store, large, small = SessionStore(capacity=250), Maker(1000), Maker()
    store.get("small", small)
    store.get("large", large)
    assert len(store) == 1
    store.get("large", large)
    assert large.made == 1
    store.get("small", small)
    assert small.made == 2 and len(store) == 1


def test_what_has_no_size_stays():
    """Prompts as they are drawn: to drop them would be to draw them again from the beginning."""
    store, make = SessionStore(capacity=250), Maker()
    drawn = store.get("prompts", lambda: (["a prompt"], iter(())))
    for key in range(9):
        store.get(key, make)
    assert store.get("prompts", lambda: ([], iter(()))) is drawn


def test_a_value_that_asks_for_another_while_it_is_made():
    store, inner = SessionStore(capacity=150), Maker()
    store.get("outer", lambda: np.concatenate([store.get("inner", inner), store.get("inner", inner)]))
    assert inner.made == 1 and len(store) == 1


def test_sizes_are_those_of_arrays_wherever_they_lie():
    run = Run(torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 2, 3, 4))
    assert n_bytes(run) == 6 * 8 + 48 * 4
    assert n_bytes({"a": np.zeros(3), "b": [torch.zeros(2), ("text", 1)]}) == 24 + 8
    assert n_bytes("text") == 0


def test_runs_are_told_apart_by_their_tokens_and_by_their_shape():
    cache, made = RunCache(LEAST), []

    def make(tokens):
        made.append(tokens)
        return Run(tokens, torch.zeros(1, *tokens.shape, 1))

    tokens = torch.arange(6)
    first = cache.get(tokens.view(2, 3), make)
    assert cache.get(tokens.view(2, 3).clone(), make) is first
    assert cache.get(tokens.view(3, 2), make) is not first
    assert len(made) == 2


@pytest.mark.parametrize(
    ("available", "processes", "expected"),
    [(1e9, 1, LEAST), (20e9, 1, 5_000_000_000), (20e9, 4, 1_250_000_000), (500e9, 1, MOST)],
)
def test_runs_may_occupy_a_quarter_of_the_free_memory(monkeypatch, available: float, processes: int, expected: int):
    monkeypatch.setattr(run_cache.psutil, "virtual_memory", lambda: SimpleNamespace(available=int(available)))
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", str(processes))
    assert capacity() == expected
