"""Which implementation computes the products of weights, and why. The one place that says so."""

from __future__ import annotations

from dataclasses import dataclass

from quant.kernels.abi import StaleLibraryError
from quant.kernels.resolve import cpu_products
from zaya_core.errors import DeviceError, UsageError
from zaya_core.kernels.abi import steps_of


@dataclass(frozen=True)
class ProductsInUse:
    """Products of one device. `is_fast` is False where a faster implementation exists and is missing or turned off."""

    name: str
    reason: str
    is_fast: bool


def products_in_use() -> list[ProductsInUse]:
    """One entry for each device that has its own.

    Raises UsageError where ZAYA_KERNELS asks for what is not there; DeviceError for a library of other sources.
    """
    try:
        chosen = cpu_products()
        if chosen.native is not None:
            steps_of(chosen.native)
    except ValueError as error:
        raise UsageError(str(error)) from None
    except StaleLibraryError as error:
        raise DeviceError(str(error)) from None
    return [ProductsInUse(f"CPU: {chosen.name}", chosen.reason, chosen.native is not None)]
