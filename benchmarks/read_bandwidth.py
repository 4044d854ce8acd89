"""How fast this machine reads memory: the bound of every decode step.

python -m benchmarks.read_bandwidth [--threads 2]
"""

from __future__ import annotations

import argparse
import json
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


def main() -> None:
    """Print GB/s, and the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(threads := parser.parse_args().threads)
    bandwidth = read_bandwidth()
    print(f"{bandwidth / 1e9:.1f} GB/s with {threads} threads")
    print(json.dumps({"bytes_per_second": bandwidth, "threads": threads}))


if __name__ == "__main__":
    main()
