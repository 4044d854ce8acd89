"""Where messages come from: a terminal with line editing, or plain lines."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import Completer
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition, is_searching
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import History
from prompt_toolkit.input import Input
from prompt_toolkit.input.typeahead import store_typeahead
from prompt_toolkit.key_binding import KeyBindings, KeyPress, KeyPressEvent
from prompt_toolkit.key_binding.bindings import search
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout.screen import Char
from prompt_toolkit.output import ColorDepth, create_output

from zaya_cli.chat.editor import check_editor
from zaya_cli.chat.multiline import continued, message_of
from zaya_cli.failures import sentence_of
from zaya_cli.terminal.echo import without_echo
from zaya_cli.terminal.output import write_note
from zaya_cli.terminal.visible import UNSEEN, visible
from zaya_core.errors import UsageError

PROMPT, CONTINUATION = ">>> ", "... "
_SECONDS_OF_A_PASTE = 0.1  # nobody presses Enter so soon behind the last line of what was pasted
_MENU_LINES = 8
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

    def unread(self) -> AbstractContextManager[None]:
        """A block in which nothing is read: what is typed meanwhile is kept for the next `read`, and not sent by it."""
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

    def unread(self) -> AbstractContextManager[None]:
        return nullcontext()  # whole lines wait in the terminal's driver, or in the pipe


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
        self._session.app.before_render += lambda app: self._fit_menu(app.output.get_size().rows)

    def read(self) -> str:
        _keep_typed_ahead(self._session.input)
        return message_of(self._prompt())

    def edit(self, text: str) -> str:
        check_editor()
        return self._prompt(text, opens_editor=True)

    def _prompt(self, text: str = "", opens_editor: bool = False) -> str:
        def begin() -> None:
            asyncio.get_running_loop().set_exception_handler(_tell_failure)
            if opens_editor:
                _open_editor(self._session.default_buffer, sends=True)

        return self._session.prompt(default=text, pre_run=begin, set_exception_handler=False)

    def unread(self) -> AbstractContextManager[None]:
        return without_echo()

    def _fit_menu(self, rows: int) -> None:
        """In a low window the menu of completions leaves two lines for what is typed."""
        self._session.reserve_space_for_menu = max(0, min(_MENU_LINES, rows - 2))

    def leave(self, error: Exception) -> None:
        app = self._session.app
        if app.loop is None or not app.is_running:
            raise error
        app.loop.call_soon_threadsafe(lambda: app.exit(exception=error))


def _keep_typed_ahead(keys: Input) -> None:
    """Give the next prompt what was typed since the last one, as text: the person did not see what Enter would send."""
    pressed: list[KeyPress] = []
    with keys.raw_mode():
        while more := [*keys.read_keys(), *keys.flush_keys()]:
            pressed += more
    kept = [_LINE_END if key.key in _ENTER else key for key in pressed if key.key not in _LEAVING]
    while kept and kept[-1] is _LINE_END:
        kept.pop()
    store_typeahead(keys, kept)


_ENTER = (Keys.ControlM, Keys.ControlJ)
_LEAVING = (Keys.ControlC, Keys.ControlD, Keys.ControlZ)
_LINE_END = KeyPress(Keys.BracketedPaste, "\n")


class _Enter:
    """Sends the message, but for the line ends of a text that a terminal pastes as if it were typed."""

    def __init__(self) -> None:
        self._last_line_end = -_SECONDS_OF_A_PASTE

    def __call__(self, event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if self._is_pasted(event):
            buffer.insert_text("\n")
            return
        longer = continued(buffer.text) if buffer.document.is_cursor_at_the_end else None
        if longer is None:
            buffer.validate_and_handle()
        else:
            buffer.text = longer
            buffer.cursor_position = len(longer)

    def _is_pasted(self, event: KeyPressEvent) -> bool:
        now = time.monotonic()
        text_follows = any(len(key.key) == 1 for key in event.key_processor.input_queue)
        is_pasted = text_follows or now - self._last_line_end < _SECONDS_OF_A_PASTE
        if is_pasted:
            self._last_line_end = now
        return is_pasted


def _open_editor(buffer: Buffer, sends: bool = False) -> None:
    """Let the person's editor change what is typed. Raises UsageError where that is impossible."""
    check_editor()
    text = buffer.text.encode(errors="replace").decode()  # half a character, as a byte that is no text is read
    if text != buffer.text:
        buffer.document = Document(text, buffer.cursor_position)
    try:
        buffer.open_in_editor(validate_and_handle=sends)
    except OSError as error:
        raise UsageError(f"No file can be made for the editor ({error.strerror or error}): see to TMPDIR.") from None


def _tell_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What went wrong beside the typing: prompt_toolkit would print a traceback and wait for Enter."""
    error = context.get("exception")
    if isinstance(error, UnicodeDecodeError):
        _tell("The editor's file is not UTF-8 text: what was typed before stays.")
    else:
        _tell(sentence_of(error) if error is not None else str(context.get("message")))


def _tell(sentence: str) -> None:
    run_in_terminal(lambda: write_note(f"zaya: {sentence}"))


def _bindings() -> KeyBindings:
    bindings = KeyBindings()
    bindings.add("enter", filter=~is_searching)(_Enter())

    @bindings.add("escape", "enter", filter=~is_searching)
    def add_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("c-c", filter=~is_searching)
    def clear_or_interrupt(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt)

    @bindings.add("c-g", filter=~is_searching)
    def open_editor(event: KeyPressEvent) -> None:
        try:
            _open_editor(event.current_buffer)
        except UsageError as error:
            _tell(str(error))

    for key in ("left", "right", "home", "end", "c-a", "c-e", "c-b", "c-f", "tab", "c-o"):
        bindings.add(key, filter=is_searching)(search.accept_search)
    bindings.add("c-d", filter=is_searching)(search.abort_search)
    return bindings
