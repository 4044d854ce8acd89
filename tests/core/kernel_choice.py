"""A choice of kernels for some lines of a test, as ZAYA_KERNELS makes it for a program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from quant.kernels.resolve import VARIABLE, cpu_products


@contextmanager
def chosen_kernels(wanted: str) -> Iterator[None]:
    """Models that are loaded and called within it use these. wanted: a value of ZAYA_KERNELS."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, wanted)
        cpu_products.cache_clear()
        try:
            yield
        finally:
            cpu_products.cache_clear()
