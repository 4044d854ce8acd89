"""How often, and after which pause, a request is sent again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from zaya_core.rsa.endpoint.faults import Malformed, ServerFault, StatusError

LONG_SILENCE = 20.0  # seconds without a byte, after which a gateway's patience or the server is at its end
_AFTER_SILENCE = 1  # a request that was answered with a long silence is sent again so often
_MALFORMED = 2  # likewise what is not the protocol
_FIRST_PAUSE = 0.5  # seconds; doubled after each attempt
_LONGEST_PAUSE = 8.0
_LONGEST_ASKED = 300.0  # what Retry-After may ask for


@dataclass
class Repetition:
    """The attempts at one request. State: failures since the last one that brought text.

    retries: attempts after the first. pause: waits for seconds.
    """

    retries: int
    pause: Callable[[float], object]
    failures: int = 0
    silences: int = 0
    malformed: int = 0

    def after(self, fault: ServerFault, silence: float, has_progressed: bool) -> None:
        """Wait before the next attempt. Raises the fault where there is to be none.

        silence: seconds without a byte before the fault.
        """
        if has_progressed:
            self.failures = self.silences = self.malformed = 0
        self.failures += 1
        self.silences += silence >= LONG_SILENCE
        self.malformed += isinstance(fault, Malformed)
        if not fault.may_pass or self._is_enough(fault):
            raise fault
        self.pause(self._seconds(fault))

    def _is_enough(self, fault: ServerFault) -> bool:
        if isinstance(fault, Malformed):
            return self.malformed > _MALFORMED
        if isinstance(fault, StatusError) and (fault.pause or 0.0) > _LONGEST_ASKED:
            return True
        return self.failures > self.retries or self.silences > _AFTER_SILENCE

    def _seconds(self, fault: ServerFault) -> float:
        if fault.pause is not None:
            return fault.pause
        if isinstance(fault, Malformed):
            return 0.0
        doubled = min(_FIRST_PAUSE * 2 ** min(self.failures - 1, 10), _LONGEST_PAUSE)
        return doubled * random.uniform(0.75, 1.0)  # or all candidates would come back at once
