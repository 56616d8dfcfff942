"""What this machine can do, and what a computation asks of it: matrix products a second, FLOPs, peak memory."""

import ctypes
import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode


def synchronise(device: torch.device) -> None:
    """Wait for what a GPU has been asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.inference_mode()
def matrix_product_rate(device: torch.device, inputs: int = 768, outputs: int = 3072) -> float:
    """FLOP a second of an MLP's matrix product, at the best of several sizes and of many tries: a machine's clock varies."""
    best, b = 0.0, torch.randn(inputs, outputs, device=device)
    for rows in (256, 512, 1024, 2048):
        a, until = torch.randn(rows, inputs, device=device), time.perf_counter() + 1
        while time.perf_counter() < until:
            synchronise(device)
            start = time.perf_counter()
            _ = a @ b
            synchronise(device)
            best = max(best, 2 * rows * inputs * outputs / (time.perf_counter() - start))
    return best


def count_flops(function: Callable[[], Any]) -> int:
    """The FLOPs of a computation's matrix products."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def peak_memory(function: Callable[[], Any], device: torch.device) -> int:
    """The most bytes that a computation holds over what was held before it.

    On a GPU as PyTorch's allocator counts; else the process's resident memory, looked at every two milliseconds.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        synchronise(device)
        return torch.cuda.max_memory_allocated(device) - before
    _give_back_free_memory()
    process, done = psutil.Process(), threading.Event()
    before = most = process.memory_info().rss

    def look() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, process.memory_info().rss)
            time.sleep(0.002)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        function()
    finally:
        done.set()
        watcher.join()
    return most - before


def _give_back_free_memory() -> None:
    """Memory that was freed earlier stays with the process, and would hide what is taken next: glibc can give it back."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library: the peak is then too low by what lies free
        return
