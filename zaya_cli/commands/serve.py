"""`zaya serve`: an HTTP server around one model, until a signal ends it."""

from __future__ import annotations

import importlib.util

from zaya_cli.serve.flags import ServeFlags
from zaya_core.errors import UsageError

_NEEDED = ("starlette", "uvicorn")


def serve(flags: ServeFlags) -> None:
    """Serve until a signal comes. Raises the errors of settings, of the address and of loading a model, and Interrupted
    where answers were cut."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"`zaya serve` needs {' and '.join(missing)}: pip install '.[serve]'")
    from zaya_cli.serve.run import serve as run

    run(flags.settings())
