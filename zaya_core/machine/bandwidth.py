"""How fast this machine reads its memory, and a card copies its own: the bound of every decode step."""

from __future__ import annotations

import time

import torch
from torch import Tensor

BYTES = 2 << 30
PASSES = 10


def read_bandwidth(block: Tensor | None = None, passes: int = PASSES) -> float:
    """Bytes per second of the best of some passes over 2 GB, torch's threads. block: int64, read instead."""
    block = torch.ones(BYTES // 8, dtype=torch.int64) if block is None else block
    best = float("inf")
    for _ in range(passes):
        started = time.perf_counter()
        block.sum()
        best = min(best, time.perf_counter() - started)
    return block.nbytes / best


def copy_bandwidth(block: Tensor, passes: int = PASSES) -> float:
    """Bytes per second, read and written, of the best of some copies of one half of a block on a card to the other."""
    half = len(block) // 2
    target, source = block[:half], block[half : 2 * half]
    best = float("inf")
    for _ in range(passes):
        torch.cuda.synchronize(block.device)
        started = time.perf_counter()
        target.copy_(source)
        torch.cuda.synchronize(block.device)
        best = min(best, time.perf_counter() - started)
    return 2 * target.nbytes / best
