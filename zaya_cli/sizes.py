"""Bytes, durations and dtypes in words."""

from __future__ import annotations


def gigabytes(nbytes: float) -> str:
    """Decimal units, as disks and the Hugging Face Hub use them."""
    if nbytes >= 1e8:
        return f"{nbytes / 1e9:.2f} GB"
    if nbytes >= 1e6:
        return f"{nbytes / 1e6:.2f} MB"
    return f"{nbytes / 1e3:.1f} kB" if nbytes >= 1e3 else f"{nbytes:.0f} bytes"


def gibibytes(nbytes: float) -> str:
    """Binary units, as systems count the memory of a process."""
    return f"{nbytes / 2**30:.2f} GiB"


def duration(seconds: float) -> str:
    """In the two largest units: `42 s`, `3 min 20 s` or `2 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def dtype_name(dtype: object) -> str:
    """`bfloat16` for `torch.bfloat16`, without importing torch."""
    return str(dtype).removeprefix("torch.")
