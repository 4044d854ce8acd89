"""Whether this machine has the library that a format of weights needs."""

from __future__ import annotations

from quant.assemble import expect_usable
from quant.formats import Format, MissingLibraryError
from zaya_core.errors import DeviceError


def expect_library(kind: Format) -> None:
    """Raises DeviceError, with how to get it, where it is not installed."""
    try:
        expect_usable(kind)
    except MissingLibraryError as error:
        raise DeviceError(str(error)) from None
