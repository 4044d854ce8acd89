"""What the server says when it is ready: address, model, who computes, and for how many rows there is memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zaya_cli.sizes import gigabytes

if TYPE_CHECKING:
    from zaya_cli.runtime import Runtime
    from zaya_cli.serve.settings import ServeSettings
    from zaya_core.engine.engine import Engine


def start_line(runtime: Runtime, settings: ServeSettings, url: str) -> str:
    """One line for people."""
    keys = "" if settings.api_keys else "without a key; "
    return (
        f"{runtime.name} is served at {url} ({keys}loaded in {runtime.load_seconds:.1f} s, computed by "
        f"{runtime.computed_by}); {_room(runtime.engine)}. Ctrl-C ends it."
    )


def _room(engine: Engine) -> str:
    """How many rows of which length keys and values have room for: all at once, and of the longest."""
    from zaya_core.cache.arrangement import BLOCK

    rows, longest, pool = engine.max_rows, engine.context, engine.states.pool
    if BLOCK * pool.capacity >= rows * longest:
        return f"{rows} rows of {longest:,} tokens"
    tokens = int(BLOCK * pool.capacity)
    memory = gigabytes(pool.capacity * pool.layout.bytes_per_block)
    whole = tokens // longest
    return f"{rows} rows of {tokens // rows:,} tokens in {memory} of keys and values" + (
        f", or {whole} of {longest:,}" if whole else ""
    )
