"""What becomes of the logits of a row, by the native library (`abi.h`)."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from quant.kernels.native import NativeProducts
from quant.kernels.pointers import address, expect_within, rows_of
from zaya_core.kernels import abi
from zaya_core.sampling.logits import expect_logits
from zaya_core.sampling.params import LEAST_TEMPERATURE, RandomKey, SamplingParams


def draw_natively(
    native: NativeProducts, logits: Tensor, temperature: float, top_p: float, min_p: float, top_k: int, uniform: float
) -> int | None:
    """One token by the definition in `zaya_core/sampling/draw.py`; None where the logits are not numbers.

    logits: (V) float32; temperature above 0; top_k: 0 (off) to V; uniform: a random number in [0, 1). Raises
    ValueError for other logits or top_k.
    """
    logits = rows_of(logits, "logits")
    count, begin = _row(logits)
    expect_within("top_k", (top_k,), 0, count)
    sample = abi.Sample(torch.get_num_threads(), temperature, top_p, min_p, top_k, uniform, count, begin)
    found = abi.steps_of(native).zaya_sample(native.index, ctypes.byref(sample))
    return None if found < 0 else int(found)


def normalise_natively(native: NativeProducts, logits: Tensor) -> tuple[float, int]:
    """log(sum(e^logits)), not finite where the logits are no numbers, and the id of the largest, of equals the first.

    logits: (V) float32. Raises ValueError for anything else.
    """
    logits, likeliest, threads = rows_of(logits, "logits"), ctypes.c_int64(), torch.get_num_threads()
    count, begin = _row(logits)
    row = ctypes.c_int64(count), ctypes.c_void_p(begin)
    return abi.steps_of(native).zaya_logsumexp(native.index, threads, *row, ctypes.byref(likeliest)), likeliest.value


def _row(logits: Tensor) -> tuple[int, int]:
    """V, and where the logits begin."""
    count = max(1, logits.numel())
    return count, address(logits, "logits", (count,), torch.float32)


class NativeSampling:
    """See `zaya_core.sampling.draw.Sampling`."""

    def __init__(self, native: NativeProducts):
        self._native = native

    def normalise(self, logits: Tensor) -> tuple[float, int]:
        """See `Sampling`."""
        expect_logits(logits)
        return normalise_natively(self._native, logits)

    def draw(self, logits: Tensor, params: SamplingParams, key: RandomKey, step: int) -> int | None:
        """See `Sampling`."""
        expect_logits(logits)
        temperature, top_k = max(params.temperature, LEAST_TEMPERATURE), min(params.top_k, len(logits))
        return draw_natively(self._native, logits, temperature, params.top_p, params.min_p, top_k, key.uniform(step))
