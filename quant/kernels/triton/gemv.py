"""Products of one row: a program reads one tile of the weights, or a few rows of floats, and nothing twice."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from quant.kernels.triton import choice
from quant.kernels.triton.launch import Launch, power_of_two
from quant.kernels.triton.tiles import codes_at, gated, scales_at
from quant.kernels.triton.weights import CardMatrix, CardStack


@triton.jit
def _times_row(
    x, codes, scales, first, N, K: tl.constexpr, BITS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr
):
    """x: (K) times the weights' rows first..first + COLUMNS - 1, of packed ones a tile -> (COLUMNS) float32.

    CHUNK: columns of K that are loaded before the first is used.
    """
    if BITS == 4:
        y = _row_times_int4(x, codes, scales, first // 16, K, CHUNK // 8)
    elif BITS == 8:
        y = _row_times_int8(x, codes, scales, first // 16, K, CHUNK // 4)
    else:
        y = _row_times_floats(x, codes, first, N, K, COLUMNS, CHUNK)
    return y


@triton.jit
def _row_times_int4(x, codes, scales, tile, K: tl.constexpr, LINES: tl.constexpr):
    lane = tl.arange(0, 16)
    codes += tile.to(tl.int64) * (K * 2)
    scales += tile.to(tl.int64) * (K // 4)
    total = tl.zeros((LINES, 16), tl.float32)
    for start in range(0, K // 8, LINES):
        line = start + tl.arange(0, LINES)
        inside = (line < K // 8)[:, None]
        word = tl.load(codes + line[:, None] * 16 + lane[None, :], mask=inside, other=0)
        scale = tl.load(scales + (line // 8)[:, None] * 16 + lane[None, :], mask=inside, other=0.0).to(tl.float32)
        upper = word >> 12
        at = x + line[:, None] * 8 + lane[None, :] * 0  # in the shape of the words: threads exchange nothing
        part = tl.zeros((LINES, 16), tl.float32)
        for j in tl.static_range(8):
            value = tl.load(at + j, mask=inside, other=0.0)
            if j % 4 < 2 or j == 2:
                part += _nibble_times(word, value, 8 * (j % 4) + 4 * (j // 4))
            else:
                part += _nibble_times(upper, value, 8 * (j % 4) + 4 * (j // 4) - 12)
        total += part * scale
    return tl.sum(total, axis=0)


@triton.jit
def _nibble_times(word, value, BIT: tl.constexpr):
    """The code at a bit of a word, times a value. 2^23 plus a number has the number's bits in its own: it is neither
    converted nor shifted, but the value made smaller."""
    code = ((word & (15 << BIT)) | 0x4B000000).to(tl.float32, bitcast=True) - (8388608.0 + 8.0 * (1 << BIT))
    return code * (value * (1.0 / (1 << BIT)))


@triton.jit
def _row_times_int8(x, codes, scales, tile, K: tl.constexpr, LINES: tl.constexpr):
    lane = tl.arange(0, 16)
    codes += tile.to(tl.int64) * (K * 4)
    total = tl.zeros((LINES, 16), tl.float32)
    for start in range(0, K // 4, LINES):
        line = start + tl.arange(0, LINES)
        inside = (line < K // 4)[:, None]
        word = tl.load(codes + line[:, None] * 16 + lane[None, :], mask=inside, other=0)
        at = x + line[:, None] * 4 + lane[None, :] * 0
        for j in tl.static_range(4):
            value = tl.load(at + j, mask=inside, other=0.0)
            total += ((word << (24 - 8 * j)) >> 24).to(tl.float32) * value
    return tl.sum(total, axis=0) * tl.load(scales + tile * 16 + lane)


@triton.jit
def _row_times_floats(x, rows, first, N, K: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr):
    n = first + tl.arange(0, COLUMNS)
    rows += n.to(tl.int64)[:, None] * K
    total = tl.zeros((COLUMNS, CHUNK), tl.float32)
    for start in range(0, K, CHUNK):
        k = start + tl.arange(0, CHUNK)
        weights = tl.load(rows + k[None, :], mask=(n < N)[:, None] & (k < K)[None, :], other=0.0).to(tl.float32)
        total += weights * tl.load(x + k, mask=k < K, other=0.0).to(tl.float32)[None, :]
    return tl.sum(total, axis=1)


@triton.jit
def multiply_row(
    x, codes, scales, bias, out, N, K: tl.constexpr, BITS: tl.constexpr, HAS_BIAS: tl.constexpr, COLUMNS: tl.constexpr,
    CHUNK: tl.constexpr,
):  # fmt: skip
    """x (K) -> out (N). Grid: columns of `out` by COLUMNS."""
    first = tl.program_id(0) * COLUMNS
    y = _times_row(x, codes, scales, first, N, K, BITS, COLUMNS, CHUNK)
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
        gate = _times_row(x, codes, scales, first, WIDTH, K, BITS, COLUMNS, CHUNK)
        up = _times_row(x, codes, scales, WIDTH + first, 2 * WIDTH, K, BITS, COLUMNS, CHUNK)
        n = first + tl.arange(0, COLUMNS)
        tl.store(out + n, gated(gate, up), mask=n < WIDTH)


@triton.jit
def down_row(
    x, choice, weight, code_table, scale_table, kept, out, N, K: tl.constexpr, E: tl.constexpr, BITS: tl.constexpr,
    HAS_KEPT: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """x (K) -> out (N), times weight; `kept` or zeros where the row skips. Grid: N by COLUMNS."""
    expert = tl.load(choice)
    first = tl.program_id(0) * COLUMNS
    n = first + tl.arange(0, COLUMNS)
    if expert < E:
        codes, scales = codes_at(code_table, expert, BITS), scales_at(scale_table, expert, BITS)
        y = _times_row(x, codes, scales, first, N, K, BITS, COLUMNS, CHUNK)
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
