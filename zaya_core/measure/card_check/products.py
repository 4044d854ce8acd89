"""Products of packed and plain weights: of one row, of a few, and of a prompt's, with and without experts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from quant.dense import DenseMatrix
from quant.int4 import Int4Matrix, quantize_int4
from quant.int8 import Int8Matrix, quantize_int8
from quant.kernels.triton.launch import Launch, run_all
from quant.kernels.triton.product import down, gate_up, product
from quant.kernels.triton.weights import CardMatrix, card_matrix, card_stack
from zaya_core.measure.card_check.check import Check, largest_difference, random

_FORMATS = ("int4", "int8", "bf16")
_ROWS = (1, 5, 33)
_MOST_BY_FLOATS = 16  # more torch multiplies
_ODD, _REAL = (40, 192), (64, 2048)  # N, K: rows that fill no tile, and as wide as ZAYA1-8B
_WIDTH, _EXPERTS = 64, 3
_TOLERANCE = 1e-3  # sums of exact products; only their order differs


def product_checks() -> list[Check]:
    """Each format by each number of rows that has kernels of its own."""
    kinds: dict[str, Callable[[str, int, torch.device], float]] = {"product": _product, "experts": _experts}
    return [
        Check(f"{format} {name} of {rows} row{'s' * (rows > 1)}", partial(difference, format, rows), _TOLERANCE)
        for name, difference in kinds.items()
        for format in _FORMATS
        for rows in _ROWS
        if name == "experts" or format != "bf16" or rows <= _MOST_BY_FLOATS
    ]


def _product(format: str, rows: int, device: torch.device) -> float:
    worst = 0.0
    for n, k in (_ODD, _REAL) if rows <= _MOST_BY_FLOATS else (_ODD,):
        matrix, weight = _matrix(format, n, k, 1, device)
        x, out = exact(random(rows, k, device=device)), torch.zeros(rows, n, device=device)
        run_all([product(x, matrix, out)], device)
        worst = max(worst, largest_difference(out, x @ weight.T))
    return worst


def _experts(format: str, rows: int, device: torch.device) -> float:
    """Each half is given its own input; the last expert's number is that of no expert, of which nothing is kept."""
    ups, downs = ([_matrix(format, n, _WIDTH, seed, device) for seed in range(_EXPERTS)] for n in (2 * _WIDTH, _WIDTH))
    choice = (torch.arange(rows, device=device) % (_EXPERTS + 1)).int()
    x, middle = (exact(random(rows, _WIDTH, seed=seed, device=device)) for seed in (2, 3))
    weight = random(rows, seed=4, device=device).abs()
    gated, out = torch.zeros(rows, _WIDTH, device=device), torch.zeros(rows, _WIDTH, device=device)
    launches: list[Launch] = [
        gate_up(x, choice, card_stack([one for one, _ in ups]), gated),
        down(middle, choice, weight, card_stack([one for one, _ in downs]), out),
    ]
    run_all(launches, device)
    wanted = torch.zeros_like(gated), torch.zeros_like(out)
    for row, expert in enumerate(choice.tolist()):
        if expert < _EXPERTS:
            gate, up = (x[row] @ ups[expert][1].T).chunk(2)
            wanted[0][row] = F.silu(gate) * up
            wanted[1][row] = middle[row] @ downs[expert][1].T * weight[row]
    return max(largest_difference(gated, wanted[0]), largest_difference(out, wanted[1]))


def exact(x: Tensor) -> Tensor:
    """Numbers that bfloat16 holds: kernels that round their input multiply the same ones as torch."""
    return x.bfloat16().float()


def _matrix(format: str, n: int, k: int, seed: int, device: torch.device) -> tuple[CardMatrix, Tensor]:
    """(N, K) for kernels, and the same numbers in float32."""
    weight = random(n, k, seed=seed, device=torch.device("cpu")) * k**-0.5
    if format == "bf16":
        dense = DenseMatrix(weight.bfloat16().to(device))
        return card_matrix("float", dense.weight, None, (n, k)), dense.weight.float()
    kind, quantize = (Int4Matrix, quantize_int4) if format == "int4" else (Int8Matrix, quantize_int8)
    packed = kind(quantize(weight), (n, k))
    matrix = card_matrix(
        "int4" if format == "int4" else "int8", packed.codes.to(device), packed.scales.to(device), (n, k)
    )
    return matrix, packed.dequantize().to(device)
