"""The C++ products of this folder, through their plain C interface (`products.h`)."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

Format = Literal["bf16", "int8", "int4"]
FORMATS: tuple[Format, ...] = ("bf16", "int8", "int4")  # in the order of the library's numbers


class _Product(ctypes.Structure):
    """`ZayaProduct`."""

    _fields_ = (
        ("format", ctypes.c_int32),
        ("x_is_bf16", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("x", ctypes.c_void_p),
        ("k", ctypes.c_int64),
        ("n", ctypes.c_int64),
        ("matrices", ctypes.c_int64),
        ("counts", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("y", ctypes.c_void_p),
    )


class NativeProducts:
    """The products of one instruction set.

    A row of x gives the same bits however many rows are multiplied with it, and with int8 and int4 weights the same
    bits on every instruction set.
    """

    def __init__(self, library: ctypes.CDLL, index: int):
        self.library = library
        self.index = index
        self.name: str = library.zaya_instruction_set(index).decode()
        self.has_bf16 = bool(library.zaya_has_bf16(index))
        self.has_prompt_attention = bool(library.zaya_has_prompt_attention(index))

    def matmul(
        self,
        format: Format,
        x: Tensor,
        weights: Sequence[Tensor],
        scales: Sequence[Tensor],
        counts: Sequence[int],
        n: int,
    ) -> Tensor:
        """Multiply consecutive rows of x by consecutive matrices, counts[i] rows by weights[i].

        x: (M, K) bf16 or float32, which `bf16` weights round to bf16 -> (M, n) float32.
        K: a multiple of 64, with `bf16` weights of 32. Every one of weights is (n, K) in the format's layout.
        """
        x = x.contiguous()
        y = torch.empty(x.shape[0], n)
        matrices = len(weights)
        pointers = ctypes.c_void_p * matrices
        product = _Product(
            format=FORMATS.index(format),
            x_is_bf16=x.dtype == torch.bfloat16,
            threads=torch.get_num_threads(),
            x=x.data_ptr(),
            k=x.shape[1],
            n=n,
            matrices=matrices,
            counts=ctypes.addressof(of_counts := (ctypes.c_int64 * matrices)(*counts)),
            weights=ctypes.addressof(of_weights := pointers(*(w.data_ptr() for w in weights))),
            scales=ctypes.addressof(of_scales := pointers(*(s.data_ptr() for s in scales))),  # bf16 has none
            y=y.data_ptr(),
        )
        self.library.zaya_multiply(self.index, ctypes.byref(product))
        del of_counts, of_weights, of_scales  # read until here
        return y


@cache
def library() -> ctypes.CDLL | None:
    """The compiled library, set up to share torch's threads; None where it was not built."""
    spec = importlib.util.find_spec("quant.kernels._native")
    if spec is None or spec.origin is None:
        return None
    loaded = ctypes.CDLL(spec.origin)
    loaded.zaya_instruction_set.restype = ctypes.c_char_p
    loaded.zaya_draw.restype = ctypes.c_int64
    loaded.zaya_normalise.restype = ctypes.c_double
    loaded.zaya_use_parallel_region.argtypes = [ctypes.c_void_p]
    loaded.zaya_use_parallel_region(_parallel_region_of_torch())
    return loaded


@cache
def supported_instruction_sets() -> dict[str, NativeProducts]:
    """What this build has code for and this processor can run, best first."""
    loaded = library()
    found: dict[str, NativeProducts] = {}
    index = 0
    while loaded is not None and loaded.zaya_instruction_set(index):
        if loaded.zaya_is_supported(index):
            products = NativeProducts(loaded, index)
            found[products.name] = products
        index += 1
    return found


def _parallel_region_of_torch() -> int | None:
    """The address of GOMP_parallel in the OpenMP runtime that torch has loaded."""
    for path in sorted(Path(torch.__file__).with_name("lib").glob("libtorch_cpu.*")):
        try:
            return ctypes.cast(ctypes.CDLL(str(path)).GOMP_parallel, ctypes.c_void_p).value
        except (AttributeError, OSError):
            continue
    return None
