"""Rows times packed and bf16 matrices on this CPU, native beside torch's: the table of docs/lab/2026-11-cpu.md.

    python -m benchmarks.products [--threads 2] [--rows 1,8,32,128] [--formats int4,int8,bf16]

Some 600 MB of matrices of 4096 x 2048 for each format in turn, so that none is in the cache. GB/s of weights read and
G(FL)OP/s, best of five passes, with the machine's read bandwidth measured in between; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from quant.dense import products_of
from quant.kernels.native import Format, NativeProducts, supported_instruction_sets
from zaya_core.machine.bandwidth import read_bandwidth

N, K = 4096, 2048
BYTES = 600e6
PASSES = 5

Product = Callable[[Tensor], object]


def random_matrices(format: Format) -> list[tuple[Tensor, Tensor | None]]:
    """Weights in the format's layout with their scales, of `BYTES` in all; the values do not matter."""
    if format == "bf16":
        return [((torch.randn(N, K) / 45).bfloat16(), None) for _ in range(int(BYTES / (2 * N * K)))]
    if format == "int8":
        shape, scales = (N // 16, K // 4, 16, 4), torch.full((N,), 1e-3)
        return [(torch.randint(-127, 128, shape, dtype=torch.int8), scales) for _ in range(int(BYTES / (N * K)))]
    shape4, scales4 = (N // 16, K // 64, 8, 16, 4), torch.full((N // 16, K // 64, 16), 1e-3, dtype=torch.float16)
    count = int(BYTES / (N * K / 2))
    return [(torch.randint(0, 256, shape4, dtype=torch.uint8), scales4.clone()) for _ in range(count)]


def ways(format: Format, x: Tensor, native: dict[str, NativeProducts]) -> Iterator[tuple[str, Callable[..., object]]]:
    """Name and product (weights, scales) of each way to multiply."""
    for name, products in native.items():
        if name == "portable" or (format == "bf16" and not products.has_bf16):
            continue

        def multiply(weight: Tensor, scales: Tensor | None, products: NativeProducts = products) -> Tensor:
            return products.matmul(format, x, [weight], [] if scales is None else [scales], [len(x)], N)

        yield f"native {name}", multiply
    if format == "bf16":
        yield "torch, oneDNN", lambda weight, _: F.linear(x, weight)
        if len(x) <= 8:
            yield "torch, its own", lambda weight, _: _torch_own(x, weight)


def _torch_own(x: Tensor, weight: Tensor) -> Tensor:
    with products_of(rows=1):
        return F.linear(x, weight)


def seconds(multiply: Callable[..., object], matrices: list[tuple[Tensor, Tensor | None]]) -> float:
    """The best pass over all matrices."""
    best = float("inf")
    for _ in range(PASSES):
        started = time.perf_counter()
        for weight, scales in matrices:
            multiply(weight, scales)
        best = min(best, time.perf_counter() - started)
    return best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rows", default="1,8,32,128", help="counts of rows of x, with commas")
    parser.add_argument("--formats", default="int4,int8,bf16")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    native, results = supported_instruction_sets(), []
    print(f"{'format':8}{'rows':>6}  {'products':24}{'GB/s':>8}{'of bandwidth':>14}{'G(FL)OP/s':>12}")
    for format in arguments.formats.split(","):
        matrices = random_matrices(format)
        read = sum(weight.nbytes + (0 if scales is None else scales.nbytes) for weight, scales in matrices)
        for rows in map(int, arguments.rows.split(",")):
            x = torch.randn(rows, K).bfloat16()
            for name, multiply in ways(format, x, native):
                bandwidth = read_bandwidth(torch.ones(1 << 27, dtype=torch.int64), 2)
                best = seconds(multiply, matrices)
                operations = 2 * rows * N * K * len(matrices) / best
                figure = {"format": format, "rows": rows, "products": name, "bytes_per_second": read / best}
                results.append(figure | {"operations_per_second": operations, "read_bandwidth": bandwidth})
                share = f"{read / best / bandwidth:14.0%}"
                print(
                    f"{format:8}{rows:6}  {name:24}{read / best / 1e9:8.1f}{share}{operations / 1e9:12.0f}", flush=True
                )
    print(json.dumps({"results": results, "threads": arguments.threads, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
