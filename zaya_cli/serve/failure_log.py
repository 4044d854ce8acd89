"""What the log says of requests that failed: the kind of error, since its words may be the client's."""

from __future__ import annotations

from zaya_cli.failures import show_traceback
from zaya_cli.serve.notes import tell
from zaya_cli.serve.protocol.errors import ApiError


def report_failure(error: Exception) -> None:
    """One line; the traceback with ZAYA_DEBUG=1. What the client did wrong is no news."""
    if isinstance(error, ApiError):
        return
    show_traceback(error)
    tell(f"zaya: a request failed ({type(error).__name__}); ZAYA_DEBUG=1 shows the traceback.")
