"""Which products run on a CPU: the native library's where it was built, torch's otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from quant.kernels.native import Format, NativeProducts, library, supported_instruction_sets

VARIABLE = "ZAYA_KERNELS"


@dataclass(frozen=True)
class CpuProducts:
    """The products chosen for the CPU and why; `native` is None where torch's are used.

    `is_reference`: in float32, whatever the weights are stored in.
    """

    name: str
    reason: str
    native: NativeProducts | None
    is_reference: bool = False

    def native_for(self, format: Format) -> NativeProducts | None:
        """The native products, if they have this format."""
        return self.native if self.native and (format != "bf16" or self.native.has_bf16) else None


def wanted_kernels() -> str:
    """What ZAYA_KERNELS asks for."""
    return os.environ.get(VARIABLE, "auto")


@cache
def cpu_products() -> CpuProducts:
    """What ZAYA_KERNELS asks for, or the best there is.

    ZAYA_KERNELS: auto, torch, reference, native, native:NAME for one instruction set, or triton, which is for cards and
    the same as auto here.
    Raises: ValueError for a name that is not offered, or is not there.
    """
    return _choose(wanted_kernels(), supported_instruction_sets())


def _choose(wanted: str, sets: Mapping[str, NativeProducts]) -> CpuProducts:
    kind, _, instruction_set = wanted.partition(":")
    if wanted in ("torch", "reference"):
        return CpuProducts(kind, f"{VARIABLE}={wanted}", None, is_reference=kind == "reference")
    kind = "auto" if wanted == "triton" else kind
    if kind not in ("auto", "native"):
        raise ValueError(f"{VARIABLE}={wanted}: use auto, torch, reference, native, native:INSTRUCTION_SET or triton.")
    if instruction_set and instruction_set not in sets:
        raise ValueError(f"{VARIABLE}={wanted}: this machine and build have {', '.join(sets) or 'no native products'}.")
    if not sets and kind == "native":
        raise ValueError(f"{VARIABLE}=native: the native products were not built; reinstall with a C++ compiler.")
    if not sets or (kind == "auto" and next(iter(sets)) == "portable"):
        why = "no C++ compiler when zaya was installed" if library() is None else "no vector instructions it knows"
        return CpuProducts("torch", f"native products are missing: {why}", None)
    chosen = sets[instruction_set] if instruction_set else next(iter(sets.values()))
    return CpuProducts(f"native {chosen.name}", "the best this processor has" if kind == "auto" else wanted, chosen)
