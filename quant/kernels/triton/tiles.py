"""How kernels read matrices: one row of x times a tile, and columns of weights for `tl.dot`.

BITS tells formats apart: 4 and 8 are tiles as in `quant/tiles.py`, read as words of eight or four neighbouring codes of
a row; 16 and 32 are rows (N, K) of bfloat16 and float32. K is the number of columns; of packed ones it is a multiple of
64. Tiles are whole in memory, so that rows from N to the end of the last tile are read, and not stored.
"""

from __future__ import annotations

import triton
import triton.language as tl

from quant.kernels.triton.numbers import to_bf16_bits


@triton.jit
def codes_at(table, index, BITS: tl.constexpr):
    """Where the codes of a stack's matrix begin. Aligned as `weights.py` checks it, or loads would not be vectors."""
    address = tl.load(table + index)
    if BITS == 32:
        codes = address.to(tl.pointer_type(tl.float32))
    elif BITS == 16:
        codes = address.to(tl.pointer_type(tl.bfloat16))
    else:
        codes = address.to(tl.pointer_type(tl.int32))
    return tl.multiple_of(codes, 16)


@triton.jit
def scales_at(table, index, BITS: tl.constexpr):
    """Where the scales of a stack's matrix begin."""
    address = tl.load(table + index)
    if BITS == 4:
        scales = address.to(tl.pointer_type(tl.float16))
    else:
        scales = address.to(tl.pointer_type(tl.float32))
    return tl.multiple_of(scales, 16)


@triton.jit
def row_times_rows(
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
    """The code at a bit of a word, times a value. 2^23 + n * 2^BIT as float32 has n in its bits from BIT on: there is
    no shift, and no conversion of whole numbers, of which cards do few at a time."""
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
def rows_of_x(x, at, inside, start, K: tl.constexpr, DOT: tl.constexpr, BY_BITS: tl.constexpr = True):
    """64 columns of x from `start` on as DOT: rows that begin at the offsets `at`, those not inside as zeros."""
    k = start + tl.arange(0, 64)
    mask = inside[:, None] if K % 64 == 0 else inside[:, None] & (k < K)[None, :]
    value = tl.load(x + at[:, None] + k[None, :], mask=mask, other=0.0)
    if BY_BITS and value.dtype == tl.float32:
        return to_bf16_bits(value).to(tl.bfloat16, bitcast=True)
    else:
        return value.to(DOT)


@triton.jit
def add_product(total, x, codes, scales, n, N, start, K: tl.constexpr, BITS: tl.constexpr, DOT: tl.constexpr):
    """total (M, COLUMNS) plus 64 columns of x, as `rows_of_x` loads them, times those of the weights' rows n (COLUMNS).

    For int8 the scales of the rows are still to be multiplied by: `scaled`.
    """
    if BITS == 4:
        part = tl.dot(x, _int4_columns(codes, n, N, start // 64, K, DOT), input_precision="ieee")
        tile, last = n // 16, (N - 1) // 16
        at = scales + (tile.to(tl.int64) * (K // 64) + start // 64) * 16 + n % 16
        total += part * tl.load(at, mask=tile <= last, other=0.0).to(tl.float32)[None, :]
    elif BITS == 8:
        w = _int8_columns(codes, n, N, start // 64, K, DOT)
        total = tl.dot(x, w, total, input_precision="ieee")
    else:
        k = start + tl.arange(0, 64)
        at = codes + n.to(tl.int64)[None, :] * K + k[:, None]
        w = tl.load(at, mask=(n < N)[None, :] & (k < K)[:, None], other=0.0).to(DOT)
        total = tl.dot(x, w, total, input_precision="ieee")
    return total


@triton.jit
def scaled(total, scales, n, N, BITS: tl.constexpr):
    """What `add_product` left to do."""
    if BITS == 8:
        total = total * tl.load(scales + n, mask=n // 16 <= (N - 1) // 16, other=0.0)[None, :]
    return total


@triton.jit
def _exactly(code, DOT: tl.constexpr):
    """float32 of which only the upper half is used -> DOT. Cards without an instruction for it round in eight."""
    if DOT == tl.bfloat16:
        y = (code.to(tl.int32, bitcast=True) >> 16).to(tl.int16).to(tl.bfloat16, bitcast=True)
    else:
        y = code.to(DOT)
    return y


@triton.jit
def _int4_columns(codes, n, N, group, K: tl.constexpr, DOT: tl.constexpr):
    """A group of the rows n -> (64, COLUMNS) codes as DOT, in their order. A thread joins the codes of its words."""
    tile = n // 16
    at = codes + ((tile.to(tl.int64) * (K // 64) + group) * 128 + n % 16)[:, None] + tl.arange(0, 8)[None, :] * 16
    word = tl.load(at, mask=(tile <= (N - 1) // 16)[:, None], other=0)
    even = tl.join(_low_and_high(word, 0, DOT), _low_and_high(word, 16, DOT))
    odd = tl.join(_low_and_high(word, 8, DOT), _low_and_high(word, 24, DOT))
    return tl.trans(tl.reshape(tl.join(even, odd), (n.shape[0], 64)))


@triton.jit
def _low_and_high(word, BIT: tl.constexpr, DOT: tl.constexpr):
    return tl.join(_nibble(word, BIT, DOT), _nibble(word, BIT + 4, DOT))


@triton.jit
def _nibble(word, BIT: tl.constexpr, DOT: tl.constexpr):
    return _exactly((((word >> BIT) & 15) | 0x4B000000).to(tl.float32, bitcast=True) - 8388616.0, DOT)


@triton.jit
def _int8_columns(codes, n, N, group, K: tl.constexpr, DOT: tl.constexpr):
    """64 columns of the rows n -> (64, COLUMNS) codes as DOT, in their order."""
    tile = n // 16
    at = codes + ((tile.to(tl.int64) * (K // 64) + group) * 256 + n % 16)[:, None] + tl.arange(0, 16)[None, :] * 16
    word = tl.load(at, mask=(tile <= (N - 1) // 16)[:, None], other=0)
    even = tl.join(_byte(word, 0, DOT), _byte(word, 16, DOT))
    odd = tl.join(_byte(word, 8, DOT), _byte(word, 24, DOT))
    return tl.trans(tl.reshape(tl.join(even, odd), (n.shape[0], 64)))


@triton.jit
def _byte(word, BIT: tl.constexpr, DOT: tl.constexpr):
    return _exactly(((word << (24 - BIT)) >> 24).to(tl.float32), DOT)


@triton.jit
def gated(gate, up):
    """silu(gate) * up."""
    return gate / (1.0 + tl.exp(-gate)) * up
