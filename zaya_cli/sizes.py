"""Bytes, durations and dtypes in words, and bytes from words."""

from __future__ import annotations

import re

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt]?)(i?)b?", re.IGNORECASE | re.ASCII)


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


def parsed_bytes(text: str) -> int:
    """The bytes of `16MiB`, `1.5 GB`, `500k` or `4096`; a letter with i is binary, one without decimal.

    Raises ValueError.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None or len(text) > 30 or (found[3] and not found[2]):
        raise ValueError(f"{text!r} is no size")
    unit = 1024 if found[3] else 1000
    return int(float(found[1]) * unit ** " kmgt".index(found[2].lower() or " "))


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
