"""How long a fuzzer runs: a moment in the suite, and as long as `ZAYA_FUZZ_SECONDS` says by hand."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator


def rounds(cases: int) -> Iterator[int]:
    """0, 1, 2 ...: `cases` of them, or as many as `ZAYA_FUZZ_SECONDS` leaves time for.

    A fixed number in the suite, so that it finds the same each time on machines of any speed.
    """
    seconds = os.environ.get("ZAYA_FUZZ_SECONDS")
    if seconds is None:
        yield from range(cases)
        return
    end, number = time.monotonic() + float(seconds), 0
    while time.monotonic() < end:
        yield number
        number += 1
