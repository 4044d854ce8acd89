"""The structs of `abi.h` for ctypes, and the check that the library was built from the same ones."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

_INT32, _INT64, _POINTER = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p
VERSION = 1


class StaleLibraryError(ImportError):
    """The native library cannot be loaded, or was built from other sources than these."""


class Matrix(ctypes.Structure):
    """`QuantMatrix`."""

    _fields_ = (("codes", _POINTER), ("scales", _POINTER))


class Panels(ctypes.Structure):
    """`QuantPanels`."""

    _fields_ = (("weights", _POINTER), ("bias", _POINTER), ("is_bf16", _INT32), ("n", _INT64), ("k", _INT64))


class Gemm(ctypes.Structure):
    """`QuantGemm`."""

    _fields_ = (
        *((name, _INT32) for name in ("format", "x_is_bf16", "threads")),
        ("x", _POINTER),
        *((name, _INT64) for name in ("k", "n", "matrices")),
        *((name, _POINTER) for name in ("counts", "weights", "scales", "y")),
    )


STRUCTS: tuple[type[ctypes.Structure], ...] = (Matrix, Panels, Gemm)  # all, as in QUANT_ABI_STRUCTS


def load_library(path: str) -> ctypes.CDLL:
    """The compiled library at a path. Raises StaleLibraryError where it cannot be loaded, or is of other structs."""
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise stale(f"cannot be loaded ({error})") from None
    expect_abi(library, "quant", "Quant", VERSION, STRUCTS)
    return library


def expect_abi(
    library: ctypes.CDLL, functions: str, structs: str, version: int, mirrors: Sequence[type[ctypes.Structure]]
) -> None:
    """Compare one room's version and struct sizes with its Python. `functions`, `structs`: how the room's names begin.

    Raises StaleLibraryError where they differ.
    """
    found = getattr(library, f"{functions}_abi_version", None)
    if found is None:
        raise stale(f"is older than these sources: it does not say which {structs} structs it has")
    if found() != version:
        raise stale(f"is stale: its {structs} structs have version {found()}, these sources {version}")
    sizes = _struct_sizes(library, f"{functions}_abi_struct")
    wanted = {structs + mirror.__name__: ctypes.sizeof(mirror) for mirror in mirrors}
    for name in [*wanted, *sizes]:
        if sizes.get(name) != wanted.get(name):
            raise stale(
                f"is stale: its {name} has {sizes.get(name, 0)} bytes, that of these sources {wanted.get(name, 0)}"
            )


def _struct_sizes(library: ctypes.CDLL, function: str) -> dict[str, int]:
    """Bytes of each struct, by name, as the library was compiled."""
    entry = getattr(library, function)
    entry.restype = ctypes.c_char_p
    sizes: dict[str, int] = {}
    size = ctypes.c_int64()
    while name := entry(len(sizes), ctypes.byref(size)):
        sizes[name.decode()] = size.value
    return sizes


def stale(what: str) -> StaleLibraryError:
    """The sentence for a library of which this is true."""
    return StaleLibraryError(f"The native library quant.kernels._native {what}; rebuild: pip install -e .")
