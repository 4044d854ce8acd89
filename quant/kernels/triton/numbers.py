"""bfloat16 as bits: the interpreter computes on bfloat16 as if it were whole numbers, and cuts off where it rounds.

So kernels load, turn to float32, and compute in that; what they store as bfloat16 they round themselves, on a card too.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def to_bf16_bits(x):
    """float32 -> int16 bits of the nearest bfloat16, ties to even."""
    bits = x.to(tl.int32, bitcast=True)
    nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    # NVIDIA's cards compute NaN with all bits set, which would be carried over into the sign: zero.
    return tl.where(x == x, nearest, 0x7FC0).to(tl.int16)


@triton.jit
def from_bf16_bits(bits):
    """int16 bits of bfloat16 -> float32."""
    return (bits.to(tl.int32) << 16).to(tl.float32, bitcast=True)
