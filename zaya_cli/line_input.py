"""Where messages come from: a terminal with line editing, or plain lines."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import Completer
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout.screen import Char
from prompt_toolkit.output import ColorDepth, create_output

from zaya_cli.multiline import continued, message_of
from zaya_cli.visible import UNSEEN, visible
from zaya_core.errors import UsageError

PROMPT, CONTINUATION = ">>> ", "... "
Char.display_mappings.update({character: visible(character) for character in UNSEEN})  # beside ^[ and its like


class LineInput(Protocol):
    """A source of messages."""

    def read(self) -> str:
        """The next message. Raises EOFError at the end, KeyboardInterrupt on Ctrl-C with nothing typed."""
        ...

    def edit(self, text: str) -> str:
        """The text as changed in the person's editor. Raises UsageError where that is impossible."""
        ...

    def leave(self, error: Exception) -> None:
        """Raise `error` out of `read`, which may be waiting; called by a signal handler."""
        ...


class PlainInput:
    """Lines of standard input, from a pipe or from a terminal that cannot be drawn on; the latter gets a prompt."""

    def read(self) -> str:
        text = self._line(PROMPT)
        while (longer := continued(text)) is not None:
            text = longer + self._line(CONTINUATION)
        return message_of(text)

    def _line(self, prompt: str) -> str:
        if sys.stdin.isatty():
            sys.stderr.write(prompt)
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")

    def edit(self, text: str) -> str:
        raise UsageError("An editor needs a terminal: type the question again instead.")

    def leave(self, error: Exception) -> None:
        raise error


class TerminalInput:
    """prompt_toolkit's line editor: history, completion, pasted text as one message, Ctrl-G for the person's editor."""

    def __init__(self, history: History | None, completer: Completer, note: Callable[[], str], has_color: bool):
        """note: shown at the right of an empty prompt, such as how full the context is."""
        self._session: PromptSession[str] = PromptSession(
            PROMPT,
            output=create_output(stdout=sys.stderr),
            color_depth=None if has_color else ColorDepth.DEPTH_1_BIT,
            history=history,
            completer=completer,
            complete_while_typing=Condition(lambda: self._session.default_buffer.text.startswith("/")),
            key_bindings=_bindings(),
            multiline=True,
            prompt_continuation=lambda width, line, is_soft: "" if is_soft else CONTINUATION,
            rprompt=lambda: FormattedText([("class:note", note())]),
            enable_suspend=True,
            tempfile_suffix=".md",
        )

    def read(self) -> str:
        return message_of(self._session.prompt())

    def edit(self, text: str) -> str:
        def open_editor() -> None:
            self._session.default_buffer.open_in_editor(validate_and_handle=True)

        return self._session.prompt(default=text, pre_run=open_editor)

    def leave(self, error: Exception) -> None:
        app = self._session.app
        if app.loop is None or not app.is_running:
            raise error
        app.loop.call_soon_threadsafe(lambda: app.exit(exception=error))


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("enter")
    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        longer = continued(buffer.text) if buffer.document.is_cursor_at_the_end else None
        if longer is None:
            buffer.validate_and_handle()
        else:
            buffer.text = longer
            buffer.cursor_position = len(longer)

    @bindings.add("escape", "enter")
    def add_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("c-c")
    def clear_or_interrupt(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt)

    @bindings.add("c-g")
    def open_editor(event: KeyPressEvent) -> None:
        event.current_buffer.open_in_editor()

    return bindings
