"""What the Engine has computed of a conversation: kept for the next question, saved beside the session, read again.

The one place of the chat that knows the Engine's prefixes and its pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zaya_core.files.private_file import write_atomically

if TYPE_CHECKING:
    from zaya_core.engine.engine import Engine


def forget(engine: Engine) -> None:
    """Keep nothing of any conversation."""
    engine.prefixes.clear()


def keep_beginnings(engine: Engine, ids: Sequence[int]) -> None:
    """Keep what these ids begin with, and nothing else."""
    engine.prefixes.keep_only(engine.prefixes.beginnings_of(ids))


def bytes_in_use(engine: Engine) -> int:
    """Bytes of keys and values of what is kept, all of the model's layers."""
    pool = engine.states.pool
    return pool.layout.bytes_per_block * pool.blocks_in_use


def save(engine: Engine, ids: Sequence[int], path: Path, weights: str) -> int:
    """Write what is kept of these ids -> bytes of the file, which is removed where there is nothing. Raises OSError."""
    from zaya_core.cache.prefix_file import save_prefixes

    prefixes = engine.prefixes.beginnings_of(ids)
    if not prefixes:
        path.unlink(missing_ok=True)
        return 0
    write_atomically(path, lambda temporary: save_prefixes(temporary, prefixes, weights))
    return path.stat().st_size


def load(engine: Engine, path: Path, weights: str) -> int:
    """Keep what a file holds, if it is of these weights -> tokens. Raises ZayaError, OSError."""
    from zaya_core.cache.prefix_file import load_prefixes

    prefixes = load_prefixes(path, engine.states, weights)
    for prefix in prefixes:
        engine.prefixes.add(prefix)
    return len(prefixes[-1].ids)
