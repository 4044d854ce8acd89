"""Show a generation as it happens: the answer on stdout, thinking and progress on stderr."""

from __future__ import annotations

import sys
import time

from rich.console import Console

from zaya_cli.flags.generation import ThinkingMode
from zaya_cli.sizes import gibibytes
from zaya_cli.terminal.output import draws, write_answer, write_thinking
from zaya_core.engine.events import (
    Event,
    Failed,
    Finished,
    PrefillProgress,
    Stats,
    TextEvent,
    ThinkingEnded,
    TokenEvent,
)

_PROGRESS_AFTER = 1.0  # seconds


def shows_thinking(mode: ThinkingMode) -> bool:
    """Thinking is shown when asked for on stderr, or by `show` when a person reads stdout."""
    return mode == "stderr" or (mode == "show" and sys.stdout.isatty())


class AnswerView:
    """One answer in text format. Where thinking is not shown, a terminal gets a counter of it."""

    def __init__(self, console: Console, thinking: ThinkingMode, quiet: bool):
        self.console = console
        self.shows_thinking = shows_thinking(thinking)
        self._counts = not quiet and draws(console)
        self._started = time.monotonic()
        self._is_thinking = False
        self._thinking_tokens = 0  # shown while it lasts; the Engine's own count ends it
        self._line_is_open = False  # on stderr
        self._has_counter = False
        self._last = ""

    def show(self, event: Event) -> None:
        if isinstance(event, PrefillProgress):
            self._show_prefill(event)
        elif isinstance(event, TokenEvent):
            self._count_token()
        elif isinstance(event, TextEvent):
            self._show_thinking(event.text) if event.kind == "thinking" else self._show_answer(event.text)
        elif isinstance(event, ThinkingEnded):
            self._end_thinking(event)
        elif isinstance(event, (Finished, Failed)):
            self.close()

    def _show_prefill(self, event: PrefillProgress) -> None:
        if self._counts and time.monotonic() - self._started > _PROGRESS_AFTER:
            self._rewrite(f"reading the prompt: {event.done:,} of {event.total:,} tokens")

    def _count_token(self) -> None:
        if not self._is_thinking:
            return
        self._thinking_tokens += 1
        if self._counts and not self.shows_thinking and self._thinking_tokens % 8 == 0:
            self._rewrite(f"thinking: {self._thinking_tokens:,} tokens")

    def _show_thinking(self, text: str) -> None:
        self._is_thinking = True
        if self.shows_thinking:
            self._clear_counter()
            write_thinking(self.console, text)
            self._line_is_open = not text.endswith("\n")

    def _show_answer(self, text: str) -> None:
        self._end_line()
        write_answer(text)
        self._last = text

    def _end_thinking(self, event: ThinkingEnded) -> None:
        self._end_line()
        self._is_thinking = False
        if self._counts:
            self.console.print(thought_line(event), style="dim")

    def _end_line(self) -> None:
        self._clear_counter()
        if self._line_is_open:
            self.console.print()
        self._line_is_open = False

    def close(self) -> None:
        """End the lines that are open."""
        self._end_line()
        if self._last and not self._last.endswith("\n"):
            write_answer("\n")
        self._last = ""

    def _rewrite(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[2K{text}")
        sys.stderr.flush()
        self._has_counter = True

    def _clear_counter(self) -> None:
        if self._has_counter:
            sys.stderr.write("\r\x1b[2K")
            self._has_counter = False


def thought_line(event: ThinkingEnded) -> str:
    """What is left of a thinking that has ended."""
    return f"thought for {event.seconds:.1f} s, {event.tokens:,} tokens"


def stats_line(stats: Stats, seed: int, load_seconds: float, computed_by: str) -> str:
    """One line of figures for stderr."""
    return (
        f"prompt {stats.prompt_tokens:,} tokens ({stats.cached_tokens:,} reused, "
        f"{stats.prompt_tokens_per_second:.1f} tok/s) · answer {stats.completion_tokens:,} tokens "
        f"({stats.thinking_tokens:,} thinking, {stats.decode_tokens_per_second:.1f} tok/s) · first token "
        f"{stats.seconds_to_first_token:.2f} s · load {load_seconds:.1f} s · peak memory "
        f"{gibibytes(stats.peak_memory_bytes)} · seed {seed} · {computed_by}"
    )
