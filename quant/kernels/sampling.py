"""What becomes of the logits of a row, natively (`sampling.h`)."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from quant.kernels.native import NativeProducts


class _Draw(ctypes.Structure):
    """`ZayaDraw`."""

    _fields_ = (
        ("threads", ctypes.c_int32),
        *((name, ctypes.c_float) for name in ("temperature", "top_p", "min_p")),
        ("top_k", ctypes.c_int64),
        ("uniform", ctypes.c_double),
        ("n", ctypes.c_int64),
        ("logits", ctypes.c_void_p),
    )


def draw_natively(
    native: NativeProducts, logits: Tensor, temperature: float, top_p: float, min_p: float, top_k: int, uniform: float
) -> int | None:
    """One token by the definition in `zaya_core/sampling.py`; None where the logits are not numbers.

    logits: (V) float32; temperature above 0; uniform: a random number in [0, 1).
    """
    logits = logits.contiguous()
    threads = torch.get_num_threads()
    draw = _Draw(threads, temperature, top_p, min_p, top_k, uniform, len(logits), logits.data_ptr())
    found = native.library.zaya_draw(native.index, ctypes.byref(draw))
    return None if found < 0 else int(found)


def normalise_natively(native: NativeProducts, logits: Tensor) -> tuple[float, int]:
    """log(sum(e^logits)), not finite where the logits are no numbers, and the id of the largest, of equals the first.

    logits: (V) float32.
    """
    logits, likeliest, threads = logits.contiguous(), ctypes.c_int64(), torch.get_num_threads()
    row = ctypes.c_int64(len(logits)), ctypes.c_void_p(logits.data_ptr())
    return native.library.zaya_normalise(native.index, threads, *row, ctypes.byref(likeliest)), likeliest.value
