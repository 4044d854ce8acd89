"""How fast this machine reads its memory, and a card copies its own: the bound of every decode step."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

BYTES = 2 << 30
PASSES = 10


def read_bandwidth(block: Tensor | None = None, passes: int = PASSES) -> float:
    """Bytes per second of the best of some passes over 2 GB, torch's threads. block: int64, read instead."""
    block = torch.ones(BYTES // 8, dtype=torch.int64) if block is None else block
    return block.nbytes / _least_seconds(block.sum, passes)


def copy_bandwidth(block: Tensor, passes: int = PASSES) -> float:
    """Bytes per second, read and written, of the best of some copies of one half of a block on a card to the other."""
    half = len(block) // 2
    target, source = block[:half], block[half : 2 * half]

    def copy() -> None:
        target.copy_(source)
        torch.cuda.synchronize(block.device)

    torch.cuda.synchronize(block.device)  # nothing else is under way when the first begins
    return 2 * target.nbytes / _least_seconds(copy, passes)


def _least_seconds(work: Callable[[], object], passes: int) -> float:
    best = float("inf")
    for _ in range(passes):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best
