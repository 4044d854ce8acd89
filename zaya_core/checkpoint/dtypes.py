"""The dtypes of safetensors files: what a header calls them, and what they are in torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

# Those that are read or written here. (F16 is read to be refused by name: it overflows in this model.)
DTYPES: Mapping[str, torch.dtype] = {
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F16": torch.float16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "F8_E4M3": torch.float8_e4m3fn,
}
NAMES: Mapping[torch.dtype, str] = {dtype: name for name, dtype in DTYPES.items()}


def nbytes_of(name: str, shape: Sequence[int]) -> int:
    """Bytes of a tensor whose dtype a header calls `name`."""
    return DTYPES[name].itemsize * torch.Size(shape).numel()
