"""A chat that is open: what its loop and its slash commands work on. It asks, shows the answer and comments on it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field, replace

from rich.console import Console

from zaya_cli.answer.render import stats_line
from zaya_cli.chat.conversation import Conversation, Exchange
from zaya_cli.chat.line_input import LineInput
from zaya_cli.chat.session_keeper import SessionKeeper
from zaya_cli.chat.view import view_for
from zaya_cli.failures import INTERRUPTED, Interrupted
from zaya_cli.runtime import Runtime
from zaya_cli.sizes import dtype_name
from zaya_cli.terminal.interrupt import stopping
from zaya_cli.terminal.output import draws
from zaya_core.engine.events import Event, Finished, TextEvent

_NEARLY_FULL = 0.8  # of the context


class Leave(Exception):
    """The person wants to go."""


@dataclass
class Chat:
    """staged: files' texts that go with the next message, by name. candidates: of Markovian RSA for the next answer."""

    runtime: Runtime
    conversation: Conversation
    console: Console
    keeper: SessionKeeper
    input: LineInput
    shows_stats: bool = False
    staged: dict[str, str] = field(default_factory=dict)
    candidates: int | None = None

    def say(self, text: str) -> None:
        """A note to the person."""
        self.console.print(text, style="dim", soft_wrap=not draws(self.console))

    def answer(self, events: Generator[Event, None, None]) -> None:
        """Show an answer as it comes; Ctrl-C ends it and keeps what there is."""
        finished: Finished | None = None
        with self.input.unread(), stopping(on_first=self.conversation.stop) as stop:
            try:
                with view_for(self.console, self.conversation.settings.thinking) as view, closing(events):
                    for event in events:
                        view.show(event)
                        finished = event if isinstance(event, Finished) else finished
            except Exception:
                if stop.exit_code not in (None, INTERRUPTED):
                    raise Interrupted(stop.exit_code) from None
                raise
            finally:
                self.conversation.stop_requested = False  # one that came too late is not meant for the next answer
                self.keeper.keep()
        if stop.exit_code is not None:
            self.say("[stopped]")
            if stop.exit_code != INTERRUPTED:
                raise Interrupted(stop.exit_code)
        if finished is not None:
            self._comment(finished)

    def ask(self, text: str) -> None:
        """Ask, with the files that wait for a message in front of it; they go only when the question was taken."""
        question = "\n\n".join([*self.staged.values(), text])
        if self.candidates is None:
            self.answer(self.conversation.ask(question))
        else:
            self._ask_with_rsa(question, self.candidates)
        self.staged.clear()

    def _ask_with_rsa(self, question: str, candidates: int) -> None:
        from zaya_cli.rsa.answer import agreement_line, answer_with_rsa

        conversation = self.conversation
        seed, messages = conversation.sampling.seed, conversation.messages_with(question)
        engine = self.runtime.engine
        given = conversation.settings
        # /set may have changed what a flag gave; RSA has budgets of its own.
        temperature = None if given.temperature is None else conversation.sampling.temperature
        settings = replace(given, temperature=temperature, max_tokens=None, thinking_budget=None)
        folder = self.runtime.folder
        with self.input.unread():
            watched = answer_with_rsa(engine, messages, candidates, settings, seed, self.console, folder=folder)
        self.candidates = None
        conversation.keep_answer(question, watched.result.thinking, watched.result.text)
        with view_for(self.console, settings.thinking) as view:
            view.show(TextEvent(0, "answer", watched.result.text))
        self.say(agreement_line(watched.result))
        if watched.stopped_by not in (None, INTERRUPTED):
            raise Interrupted(watched.stopped_by)

    def header(self) -> list[str]:
        """What runs, where and why there."""
        model = self.runtime.engine.model
        return [
            f"{self.runtime.name} · {dtype_name(model.dtype)} · context {self.runtime.engine.context:,} tokens",
            f"{model.placement_reason}; {self.runtime.threads} threads",
        ]

    def show_exchange(self, exchange: Exchange) -> None:
        """A question and its answer as they were."""
        self.console.print(f">>> {exchange.question}")
        with view_for(self.console, "hide") as view:
            if exchange.answer:
                view.show(TextEvent(0, "answer", exchange.answer))
        if exchange.reason == "cancelled":
            self.say("[stopped]")

    def context_note(self) -> str:
        """How full the context is, once it is worth knowing."""
        share = self.conversation.tokens_in_use() / self.runtime.engine.context
        return f"context {min(share, 1):.0%} full" if share > _NEARLY_FULL else ""

    def _comment(self, finished: Finished) -> None:
        """What is worth saying about an answer that has ended."""
        stats = finished.stats
        if self.shows_stats:
            runtime, seed = self.runtime, self.conversation.sampling.seed
            self.say(stats_line(stats, seed, runtime.load_seconds, runtime.computed_by))
        context = self.runtime.engine.context
        if finished.reason == "length" and stats.prompt_tokens + stats.completion_tokens >= context:
            self.say(f"The answer was cut: the context of {context:,} tokens is full. /undo or /clear makes room.")
        elif finished.reason == "length":
            self.say(f"The answer was cut after {stats.completion_tokens:,} tokens (--max-tokens); /continue goes on.")
        elif finished.reason == "stop" and self.conversation.unanswered is not None:
            self.say("The model gave an empty answer; /regen asks again.")
        elif note := self.context_note():
            self.say(f"{note}: a question that does not fit will be refused. /undo or /clear makes room.")
