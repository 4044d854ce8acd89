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
    return tl.multiple_of(address.to(tl.pointer_type(tl.float16 if BITS == 4 else tl.float32)), 16)


@triton.jit
def rounded(x, DOT: tl.constexpr, BY_BITS: tl.constexpr):
    """x as DOT. BY_BITS: on cards without an instruction for it, where the compiler's own way takes twice as long."""
    if BY_BITS and x.dtype == tl.float32 and DOT == tl.bfloat16:  # noqa: SIM300
        y = to_bf16_bits(x).to(tl.bfloat16, bitcast=True)
    else:
        y = x.to(DOT)
    return y


@triton.jit
def int4_codes(word, DOT: tl.constexpr):
    """Words (...) -> their codes (..., 2, 2, 2) as DOT, in order: a thread joins the codes of its own words."""
    even = tl.join(_low_and_high(word, 0, DOT), _low_and_high(word, 16, DOT))
    odd = tl.join(_low_and_high(word, 8, DOT), _low_and_high(word, 24, DOT))
    return tl.join(even, odd)


@triton.jit
def _low_and_high(word, BIT: tl.constexpr, DOT: tl.constexpr):
    return tl.join(_nibble(word, BIT, DOT), _nibble(word, BIT + 4, DOT))


@triton.jit
def _nibble(word, BIT: tl.constexpr, DOT: tl.constexpr):
    # 2^23 plus a number has the number's bits in its own: whole numbers need not be converted.
    return _exactly((((word >> BIT) & 15) | 0x4B000000).to(tl.float32, bitcast=True) - 8388616.0, DOT)


@triton.jit
def int8_codes(word, DOT: tl.constexpr):
    """Words (...) -> their codes (..., 2, 2) as DOT, in order."""
    even = tl.join(_byte(word, 0, DOT), _byte(word, 16, DOT))
    odd = tl.join(_byte(word, 8, DOT), _byte(word, 24, DOT))
    return tl.join(even, odd)


@triton.jit
def _byte(word, BIT: tl.constexpr, DOT: tl.constexpr):
    return _exactly(((word << (24 - BIT)) >> 24).to(tl.float32), DOT)


@triton.jit
def _exactly(code, DOT: tl.constexpr):
    """float32 of which only the upper half is used -> DOT. Cards without an instruction for it round in eight."""
    if DOT == tl.bfloat16:  # noqa: SIM300
        y = (code.to(tl.int32, bitcast=True) >> 16).to(tl.int16).to(tl.bfloat16, bitcast=True)
    else:
        y = code.to(DOT)
    return y


@triton.jit
def gated(gate, up):
    """silu(gate) * up."""
    return gate / (1.0 + tl.exp(-gate)) * up


@triton.jit
def scaled(total, scales, n, N, BITS: tl.constexpr):
    """Sums (ROWS, COLUMNS) by codes of the weights' rows n: those of int8, whose scales belong to rows, times them."""
    if BITS == 8:
        total = total * tl.load(scales + n, mask=n // 16 <= (N - 1) // 16, other=0.0)[None, :]
    return total
