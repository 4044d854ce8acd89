"""The loop of `zaya chat`: read, obey or answer, keep. Nothing that goes wrong in one round ends it."""

from __future__ import annotations

import time

from zaya_cli.chat.chat import Chat, Leave
from zaya_cli.chat.commands import obey
from zaya_cli.failures import INTERRUPTED, Interrupted, sentence_of, show_traceback
from zaya_cli.terminal.interrupt import leaving
from zaya_cli.terminal.output import draws

_SECONDS_BETWEEN_INTERRUPTS = 2.0


def run(chat: Chat) -> None:
    """Until the person leaves. Raises Interrupted after a second Ctrl-C at the prompt, and on SIGTERM."""
    try:
        _rounds(chat)
        chat.keeper.close()
    finally:
        chat.keeper.let_go()


def _rounds(chat: Chat) -> None:
    try:
        with leaving(lambda code: chat.input.leave(Interrupted(code))):
            while (line := _next_line(chat)) is not None:
                _round(chat, line)
                chat.keeper.keep()
    except Leave:
        pass
    finally:
        chat.keeper.keep()


def _next_line(chat: Chat) -> str | None:
    """None at the end of input. Ctrl-C twice within two seconds raises Interrupted."""
    last_interrupt = -_SECONDS_BETWEEN_INTERRUPTS
    while True:
        try:
            return chat.input.read()
        except EOFError:
            return None
        except KeyboardInterrupt:
            if time.monotonic() - last_interrupt < _SECONDS_BETWEEN_INTERRUPTS:
                raise Interrupted(INTERRUPTED) from None
            last_interrupt = time.monotonic()
            chat.say("Ctrl-C again, or Ctrl-D, leaves.")


def _round(chat: Chat, line: str) -> None:
    try:
        if line.startswith("/") and not line.startswith("//"):
            obey(chat, line)
        elif line.strip():
            chat.ask(line[1:] if line.startswith("//") else line)
    except (Interrupted, Leave, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        chat.say("[stopped]")
    except Exception as error:  # whatever it is, the conversation goes on
        show_traceback(error)
        chat.console.print(f"zaya: {sentence_of(error)}", soft_wrap=not draws(chat.console))
