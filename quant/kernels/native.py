"""The C++ products of this folder, through their plain C interface (`abi.h`)."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from quant.kernels import abi
from quant.kernels.pointers import Format as Format
from quant.kernels.pointers import address, described, expect_within, fresh, matrix_addresses, rows_of, strided

FORMATS: tuple[Format, ...] = ("bf16", "int8", "int4")  # in the order of the library's numbers


class NativeProducts:
    """The products of one instruction set.

    A row of x gives the same bits however many rows are multiplied with it, and with int8 and int4 weights the same
    bits on every instruction set.
    """

    def __init__(self, library: ctypes.CDLL, index: int):
        self.library = library
        self.index = index
        self.name: str = library.quant_instruction_set(index).decode()
        self.has_bf16 = bool(library.quant_has_bf16(index))

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
        Raises ValueError for anything else.
        """
        rows, k = self._expect_product(format, x, weights, scales, counts)
        of_each = [
            matrix_addresses(format, codes, scales[number] if scales else None, n, k)
            for number, codes in enumerate(weights)
        ]
        x = rows_of(x, "x")
        y, to = fresh(rows, n)
        matrices = len(weights)
        pointers = ctypes.c_void_p * matrices
        gemm = abi.Gemm(
            format=FORMATS.index(format),
            x_is_bf16=x.dtype == torch.bfloat16,
            threads=torch.get_num_threads(),
            x=address(x, "x", (rows, k), torch.float32, torch.bfloat16),
            k=k,
            n=n,
            matrices=matrices,
            counts=ctypes.addressof(of_counts := (ctypes.c_int64 * matrices)(*counts)),
            weights=ctypes.addressof(of_weights := pointers(*(codes for codes, _ in of_each))),
            scales=ctypes.addressof(of_scales := pointers(*(scales for _, scales in of_each))),  # bf16 has none
            y=to,
        )
        self.library.quant_gemm(self.index, ctypes.byref(gemm))
        del of_counts, of_weights, of_scales  # read until here
        return y

    def _expect_product(
        self, format: Format, x: Tensor, weights: Sequence[Tensor], scales: Sequence[Tensor], counts: Sequence[int]
    ) -> tuple[int, int]:
        """M and K. Raises ValueError where the operands are not as many as they must be, or the format is not there."""
        if format not in FORMATS or (format == "bf16" and not self.has_bf16):
            raise ValueError(f"{self.name} has no products of the format {format}")
        if strided(x, "x").dim() != 2:
            raise ValueError(f"x must be (M, K); it is {described(x)}")
        matrices = len(weights)
        if len(counts) != matrices or len(scales) != (0 if format == "bf16" else matrices):
            raise ValueError(f"{matrices} matrices of {format} came with {len(counts)} counts and {len(scales)} scales")
        expect_within("counts", counts, 0, len(x))
        if sum(counts) != len(x):
            raise ValueError(f"counts must sum to the {len(x)} rows of x; they sum to {sum(counts)}")
        return x.shape[0], x.shape[1]


@cache
def library() -> ctypes.CDLL | None:
    """The compiled library, set up to share torch's threads; None where it was not built.

    Raises StaleLibraryError where it cannot be loaded, or was built from other sources.
    """
    spec = importlib.util.find_spec("quant.kernels._native")
    if spec is None or spec.origin is None:
        return None
    loaded = abi.load_library(spec.origin)
    loaded.quant_instruction_set.restype = ctypes.c_char_p
    loaded.quant_use_parallel_region.argtypes = [ctypes.c_void_p]
    loaded.quant_use_parallel_region(_parallel_region_of_torch())
    return loaded


@cache
def supported_instruction_sets() -> dict[str, NativeProducts]:
    """What this build has code for and this processor can run, best first. Raises StaleLibraryError as `library`."""
    loaded = library()
    found: dict[str, NativeProducts] = {}
    index = 0
    while loaded is not None and loaded.quant_instruction_set(index):
        if loaded.quant_is_supported(index):
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
