"""Products of one row: a program reads one tile of the weights, or a few rows of floats, and nothing twice."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from quant.kernels.triton import choice
from quant.kernels.triton.launch import Launch, power_of_two
from quant.kernels.triton.tiles import codes_at, gated, row_times_rows, scales_at
from quant.kernels.triton.weights import CardMatrix, CardStack


@triton.jit
def multiply_row(
    x, codes, scales, bias, out, N, K: tl.constexpr, BITS: tl.constexpr, HAS_BIAS: tl.constexpr, COLUMNS: tl.constexpr,
    CHUNK: tl.constexpr,
):  # fmt: skip
    """x (K) -> out (N). Grid: columns of `out` by COLUMNS."""
    first = tl.program_id(0) * COLUMNS
    y = row_times_rows(x, codes, scales, first, N, K, BITS, COLUMNS, CHUNK)
    n = first + tl.arange(0, COLUMNS)
    if HAS_BIAS:
        y += tl.load(bias + n, mask=n < N, other=0.0)
    tl.store(out + n, y, mask=n < N)


@triton.jit
def gate_up_row(
    x, choice, code_table, scale_table, out, WIDTH, K: tl.constexpr, E: tl.constexpr, BITS: tl.constexpr,
    COLUMNS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """x (K) -> out (WIDTH): silu(gate) * up of the row's expert; nothing where it skips. Grid: WIDTH by COLUMNS."""
    expert = tl.load(choice)
    if expert < E:
        codes, scales = codes_at(code_table, expert, BITS), scales_at(scale_table, expert, BITS)
        first = tl.program_id(0) * COLUMNS
        gate = row_times_rows(x, codes, scales, first, WIDTH, K, BITS, COLUMNS, CHUNK)
        up = row_times_rows(x, codes, scales, WIDTH + first, 2 * WIDTH, K, BITS, COLUMNS, CHUNK)
        n = first + tl.arange(0, COLUMNS)
        tl.store(out + n, gated(gate, up), mask=n < WIDTH)


@triton.jit
def down_row(
    x, choice, weight, code_table, scale_table, kept, out, N, K: tl.constexpr, E: tl.constexpr, BITS: tl.constexpr,
    HAS_KEPT: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """x (K) -> out (N): the expert's product, or `kept` or zeros where the row skips, times weight. Grid: N by COLUMNS."""
    expert = tl.load(choice)
    first = tl.program_id(0) * COLUMNS
    n = first + tl.arange(0, COLUMNS)
    if expert < E:
        codes, scales = codes_at(code_table, expert, BITS), scales_at(scale_table, expert, BITS)
        y = row_times_rows(x, codes, scales, first, N, K, BITS, COLUMNS, CHUNK)
        tl.store(out + n, y * tl.load(weight), mask=n < N)
    elif HAS_KEPT:
        tl.store(out + n, tl.load(kept + n, mask=n < N, other=0.0) * tl.load(weight), mask=n < N)
    else:
        tl.store(out + n, tl.zeros((COLUMNS,), tl.float32), mask=n < N)


def product_of_row(x: Tensor, matrix: CardMatrix, out: Tensor) -> Launch:
    """x: (1, K) float32 -> out: (1, N) float32, bias included."""
    n, k = matrix.shape
    scales, bias = (x if one is None else one for one in (matrix.scales, matrix.bias))
    constants = _constants(x, matrix.bits, k) | {"HAS_BIAS": matrix.bias is not None}
    return Launch(
        multiply_row, (triton.cdiv(n, constants["COLUMNS"]),), (x, matrix.words, scales, bias, out, n), constants
    )


def gate_up_of_row(x: Tensor, choice: Tensor, stack: CardStack, out: Tensor) -> Launch:
    """x: (1, K), choice: (1) int32 -> out: (1, N / 2), not written where the row skips."""
    n, k = stack.shape
    constants = _constants(x, stack.bits, k) | {"E": len(stack.matrices)}
    arguments = (x, choice, stack.codes, stack.scales, out, n // 2)
    return Launch(gate_up_row, (triton.cdiv(n // 2, constants["COLUMNS"]),), arguments, constants)


def down_of_row(
    x: Tensor, choice: Tensor, weight: Tensor, stack: CardStack, out: Tensor, kept: Tensor | None
) -> Launch:
    """x: (1, K), choice: (1) int32, weight: (1), kept: (1, N) -> out: (1, N)."""
    n, k = stack.shape
    constants = _constants(x, stack.bits, k) | {"E": len(stack.matrices), "HAS_KEPT": kept is not None}
    arguments = (x, choice, weight, stack.codes, stack.scales, x if kept is None else kept, out, n)
    return Launch(down_row, (triton.cdiv(n, constants["COLUMNS"]),), arguments, constants)


def _constants(x: Tensor, bits: int, k: int) -> dict[str, int]:
    shape = choice.one_row(choice.architecture(x.device), bits)
    return {
        "K": k,
        "BITS": bits,
        "COLUMNS": shape.columns,
        "CHUNK": min(power_of_two(k), shape.chunk),
        "num_warps": shape.warps,
    }
