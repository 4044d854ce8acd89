"""How keys and values are kept: as the model computes them, or in int8 with one scale for each token and head."""

from __future__ import annotations

from typing import Literal, get_args

from zaya_core.errors import UsageError

KVFormat = Literal["auto", "int8"]

_SCALE_BYTES = 4


def bytes_of_head(kv: KVFormat, head_dim: int, bytes_per_value: int) -> int:
    """Bytes of one key, or value, of one head. bytes_per_value: of the model's dtype."""
    return head_dim + _SCALE_BYTES if kv == "int8" else head_dim * bytes_per_value


def expect_kv_format(kv: str) -> None:
    """Raises UsageError for a form that is not offered."""
    if kv not in (known := get_args(KVFormat)):
        raise UsageError(f"kv {kv!r} is not offered: use {' or '.join(known)}.")
