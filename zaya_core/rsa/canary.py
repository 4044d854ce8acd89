"""A canary for rollouts that run in a loop: ids that repeat compress to almost nothing.

The technical report's safeguard: token ids in chunks, each deflated by itself (window of 2^10 bytes, level 1, flushed);
a ratio below 0.05 is a loop. The size of a chunk is not published: of 2,048 tokens, a repeated passage of up to 20 is
found, and text is far from it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

CHUNK = 2048  # tokens
LEAST_RATIO = 0.05

# Of texts: characters at the end in which a passage is looked for; the least that is repetition; how often at least.
_LOOKED_AT = 16_000
_LEAST_TEXT = 256
_TIMES = 4
_PROBE = 32
_LEAST_TEXT_RATIO = 0.1  # prose deflates to about 0.4 of its size


def compression_ratio(ids: Sequence[int]) -> float:
    """Deflated size over size, ids as 32-bit numbers."""
    raw = struct.pack(f"<{len(ids)}I", *ids)
    packer = zlib.compressobj(level=1, wbits=-10)
    return (len(packer.compress(raw)) + len(packer.flush(zlib.Z_SYNC_FLUSH))) / len(raw)


def repeats_itself(text: str) -> bool:
    """Whether a text ends in one passage over and over, or says hardly anything new; for what no token ids are kept."""
    end = text.rstrip()[-_LOOKED_AT:]
    raw = end.encode("utf-8", "replace")
    if len(raw) >= CHUNK and len(zlib.compress(raw)) < _LEAST_TEXT_RATIO * len(raw):
        return True
    before = end.rfind(end[-_PROBE:], 0, len(end) - 1)
    if before < 0 or len(end) < _LEAST_TEXT:
        return False
    period = len(end) - _PROBE - before
    run = end[-max(_LEAST_TEXT, _TIMES * period) :]
    return len(run) >= _TIMES * period and run[period:] == run[:-period]


@dataclass
class LoopCanary:
    """Watches one rollout. State: the ids of the chunk that is being filled."""

    is_dead: bool = False
    _chunk: list[int] = field(default_factory=list)

    def add(self, token_id: int) -> bool:
        """Take a token; True as soon as a chunk has compressed too well."""
        self._chunk.append(token_id)
        if len(self._chunk) == CHUNK:
            self.is_dead = self.is_dead or compression_ratio(self._chunk) < LEAST_RATIO
            self._chunk = []
        return self.is_dead
