"""Ways to multiply rows by a bf16 matrix on this CPU: the table in `quant/dense.py` and docs/cpu_performance.md.

    python -m benchmarks.products [--threads 2]

40 matrices of 4096 x 2048 in turn, so that none is in the cache. GFLOP/s and GB/s of the best of three passes; the last
line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from quant.dense import _multiply_by_slices, has_bf16_products, products_of

_ROWS = (1, 8, 16, 32, 64, 128, 512)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(parser.parse_args().threads)
    weights = [(torch.randn(4096, 2048) / 45).bfloat16() for _ in range(40)]
    figures = [_measure_rows(rows, weights) for rows in _ROWS]
    print(f"oneDNN has bf16 instructions: {has_bf16_products()}")
    names = [name for name in figures[0] if name != "rows"]
    print(f"{'rows':>6}" + "".join(f"{name:>34}" for name in names))
    for figure in figures:
        print(f"{figure['rows']:6.0f}" + "".join(f"{_shown(figure['rows'], figure[name]):>34}" for name in names))
    print(json.dumps({"results": figures, "bf16_instructions": has_bf16_products(), "torch": torch.__version__}))


def _measure_rows(rows: int, weights: list[Tensor]) -> dict[str, float]:
    """GFLOP/s of each way."""
    x = torch.randn(rows, 2048).bfloat16()
    x32, turned = x.float(), x.t().contiguous()
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "oneDNN": lambda weight: F.linear(x, weight),
        "oneDNN turned round": lambda weight: torch.mm(weight, turned),
        "slices in float32": lambda weight: _multiply_by_slices(x32, weight),
    }
    figures = {name: _gigaflops(way, rows, weights) for name, way in ways.items()}
    with products_of(rows=1):
        figures["torch's own"] = _gigaflops(ways["oneDNN"], rows, weights[:4] if rows > 8 else weights)
    return {"rows": rows, **figures}


def _gigaflops(way: Callable[[Tensor], Tensor], rows: int, weights: list[Tensor]) -> float:
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        for weight in weights:
            way(weight)
        best = min(best, time.perf_counter() - started)
    return round(2 * rows * sum(weight.numel() for weight in weights) / best / 1e9, 1)


def _shown(rows: float, gigaflops: float) -> str:
    return f"{gigaflops:.0f} GFLOP/s, {gigaflops / rows:.1f} GB/s"


if __name__ == "__main__":
    main()
