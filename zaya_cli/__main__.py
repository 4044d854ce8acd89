"""The console script: Ctrl-C ends it in silence at any moment, from the first import to the last exit handler."""

from __future__ import annotations

# All four are built in: nothing takes time before the first handler.
import _signal as signal  # type: ignore[import-not-found]
import atexit
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

_IMPORTING_IN_C = ("torch", "numpy")
_INTERRUPTED = 130  # as in `failures`, which is imported only behind the first handler


def main() -> None:
    """Run a command. KeyboardInterrupt is raised only where a command can take it."""
    _leave_on_interrupt(_INTERRUPTED)
    # Registered first, run last: then Python takes its handlers away, and an interrupt would be a death by signal.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    sys.unraisablehook = _on_unraisable
    from zaya_cli.app import main as run

    try:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, _interrupt)
        run()
    except SystemExit as end:
        _leave_on_interrupt(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise
    except KeyboardInterrupt:  # a second one, while the first was being told
        os._exit(_INTERRUPTED)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """KeyboardInterrupt; but a library in C that imports Python swallows that, or aborts, so that we leave at once."""
    libraries = filter(None, map(sys.modules.get, _IMPORTING_IN_C))
    if any(getattr(library.__spec__, "_initializing", False) for library in libraries):
        if (echo := sys.modules.get("zaya_cli.terminal.echo")) is not None:
            echo.restore_terminal()
        os._exit(_INTERRUPTED)
    raise KeyboardInterrupt


def _leave_on_interrupt(exit_code: int) -> None:
    """End at once where nothing is lost by it, unless our caller ignores Ctrl-C."""

    def leave(number: int, frame: FrameType | None) -> None:
        os._exit(exit_code)

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, leave)


def _on_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """An interrupt that came inside of a callback, where Python would print it and go on."""
    if unraisable.exc_type is not None and issubclass(unraisable.exc_type, KeyboardInterrupt):
        os._exit(_INTERRUPTED)
    sys.__unraisablehook__(unraisable)


if __name__ == "__main__":
    main()
