"""One answer of a chat on the screen, as it comes: thinking that folds into one line, then the answer as markdown."""

from __future__ import annotations

import re
import sys
import time
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group
from rich.text import Text

from zaya_cli.answer.render import AnswerView, thought_line
from zaya_cli.flags.generation import ThinkingMode
from zaya_cli.terminal import markdown
from zaya_cli.terminal.output import draws, markdown_console
from zaya_cli.terminal.region import Region, Tail
from zaya_cli.terminal.visible import visible
from zaya_core.engine.events import Event, PrefillProgress, TextEvent, ThinkingEnded, TokenEvent

_PROGRESS_AFTER = 1.0  # seconds
_THINKING_LINES = 12


class View(Protocol):
    """Shows the events of one answer. A context manager: the screen is in order afterwards, whatever happens."""

    def __enter__(self) -> View: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, event: Event) -> None: ...


def view_for(console: Console, thinking: ThinkingMode) -> View:
    """A view that draws where lines may be rewritten, else one that only writes on."""
    return DrawnView(console, thinking) if draws(console) else PlainView(console, thinking)


class PlainView:
    """Text as it comes, without any escape code; words say where the thinking begins and ends."""

    def __init__(self, console: Console, thinking: ThinkingMode):
        self.console = console
        self._answer = AnswerView(console, thinking, quiet=True)
        self._has_opened = False

    def __enter__(self) -> PlainView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._answer.close()

    def show(self, event: Event) -> None:
        opens = isinstance(event, TextEvent) and event.kind == "thinking" and not self._has_opened
        if opens and self._answer.shows_thinking:
            self._has_opened = True
            self.console.print("thinking:")
        self._answer.show(event)
        if isinstance(event, ThinkingEnded):
            self.console.print(thought_line(event))


class DrawnView:
    """On a terminal. Thinking goes through stderr, the answer through stdout: raw if that is a file or a pipe."""

    def __init__(self, console: Console, thinking: ThinkingMode):
        self.console = console
        self._shows_thinking = thinking in ("show", "stderr")
        self._region = Region(console)
        self._answer: MarkdownAnswer | AnswerView
        self._answer = MarkdownAnswer() if sys.stdout.isatty() else AnswerView(console, "hide", quiet=True)
        self._asked = self._first_token = time.monotonic()
        self._tokens = 0
        self._thinking = ""  # its end, as much as can be seen
        self._is_thinking = False

    def __enter__(self) -> DrawnView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._region.close()
        if self._is_thinking:  # it was stopped, or cut
            self._fold(ThinkingEnded(0, self._tokens, time.monotonic() - self._first_token))
        self._answer.close()

    def show(self, event: Event) -> None:
        """Draw what the event adds."""
        if isinstance(event, PrefillProgress):
            self._first_token = time.monotonic()
            if self._first_token - self._asked > _PROGRESS_AFTER:
                self._region.draw(_dim(f"reading the prompt: {event.done:,} of {event.total:,} tokens"))
        elif isinstance(event, TokenEvent):
            self._tokens += 1
        elif isinstance(event, ThinkingEnded):
            self._fold(event)
        elif isinstance(event, TextEvent) and event.kind == "thinking":
            self._show_thinking(event.text)
        elif isinstance(event, TextEvent):
            self._region.close()
            self._answer.show(event)

    def _show_thinking(self, text: str) -> None:
        self._is_thinking = True
        if self._shows_thinking:
            self._thinking = (self._thinking + visible(text))[-(_THINKING_LINES * self.console.width) :]
            compact = re.sub(r"\n{2,}", "\n", self._thinking)
            self._region.draw(Group(_dim("thinking"), Tail(_dim(compact), _THINKING_LINES)))
        else:
            self._region.draw(_dim(f"thinking: {self._tokens:,} tokens"))

    def _fold(self, event: ThinkingEnded) -> None:
        self._region.print(_dim(thought_line(event)))
        self._is_thinking = False


class MarkdownAnswer:
    """Blocks of an answer, each printed for good once it is complete; the one that grows is drawn below them."""

    def __init__(self) -> None:
        self._region = Region(markdown_console())
        self._pending = ""

    def show(self, event: Event) -> None:
        """Add the event's text."""
        assert isinstance(event, TextEvent)
        self._pending += visible(event.text)
        if "\n" in event.text and (length := markdown.complete_length(self._pending)):
            self._region.print(markdown.rendered(self._pending[:length]))
            self._pending = self._pending[length:]
        self._region.draw(markdown.rendered(self._pending))

    def close(self) -> None:
        """Print the last block."""
        self._region.close()
        if self._pending.strip():
            self._region.print(markdown.rendered(self._pending))
        self._pending = ""


def _dim(text: str) -> Text:
    return Text(text, style="dim")
