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


def compression_ratio(ids: Sequence[int]) -> float:
    """Deflated size over size, ids as 32-bit numbers."""
    raw = struct.pack(f"<{len(ids)}I", *ids)
    packer = zlib.compressobj(level=1, wbits=-10)
    return (len(packer.compress(raw)) + len(packer.flush(zlib.Z_SYNC_FLUSH))) / len(raw)


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
