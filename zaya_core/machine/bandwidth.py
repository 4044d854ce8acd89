"""How fast this machine reads memory: the bound of every decode step."""

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
