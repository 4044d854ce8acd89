"""A conversation: questions and answers so far, and the next answer to them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from zaya_cli.chat import computed
from zaya_cli.flags.generation import GenerationSettings
from zaya_core.engine.events import Event, Failed, Finished, FinishReason, TokenEvent
from zaya_core.errors import UsageError
from zaya_core.text.known_ids import common_length, keep_known_ids
from zaya_core.text.splitter import split_text

if TYPE_CHECKING:
    from zaya_core.engine.engine import Engine, Request
    from zaya_core.sampling.params import SamplingParams

STOPPED = "[stopped]"


@dataclass(frozen=True)
class Exchange:
    """A question and its answer, perhaps a partial one. `tokens`: what the model chose, thinking included."""

    question: str
    thinking: str
    answer: str
    reason: FinishReason
    tokens: tuple[int, ...]
    candidate: int

    def without_tokens(self) -> Exchange:
        """The texts only, for a model with other tokens."""
        return replace(self, tokens=())

    def messages(self) -> list[dict[str, str]]:
        """As the template takes them; an answer that was stopped says so to the model, too."""
        answer = self.answer
        if self.reason == "cancelled":
            answer = f"{answer.rstrip()}\n{STOPPED}".lstrip()
        return [
            {"role": "user", "content": self.question},
            {"role": "assistant", "content": answer, "reasoning_content": self.thinking},
        ]


@dataclass
class Conversation:
    """State: what was said, and what the Engine has computed of it.

    `unanswered`: the last question if nothing came of it. `asked`: answers begun so far; it keys the random numbers, so
    that another answer to the same question is another one. `known_ids`: the last prompt and its answer as tokens.
    """

    engine: Engine
    settings: GenerationSettings
    sampling: SamplingParams
    system: str | None = None
    exchanges: list[Exchange] = field(default_factory=list)
    unanswered: str | None = None
    asked: int = 0
    known_ids: list[int] = field(default_factory=list)
    open_request: int | None = None
    stop_requested: bool = False

    def clear(self) -> None:
        """Forget everything but the system message."""
        self.exchanges = []
        self.unanswered = None
        self.known_ids = []
        computed.forget(self.engine)

    def ask(self, question: str) -> Generator[Event, None, None]:
        """Ask and yield the answer's events; it is kept as soon as something has come, also when it stays partial.

        Raises PromptTooLongError, with the conversation as it was.
        """
        return self._answer(self.exchanges, question)

    def ask_again(self, question: str | None = None) -> Generator[Event, None, None]:
        """Another answer to the last question, or to a changed one; the old one goes when the new one has begun."""
        if self.unanswered is not None:
            return self._answer(self.exchanges, self.unanswered if question is None else question)
        last = self._last("There is no question yet that could be asked again.")
        return self._answer(self.exchanges[:-1], last.question if question is None else question)

    def go_on(self) -> Generator[Event, None, None]:
        """Continue an answer that was stopped or cut, exactly as if it had not been. Raises UsageError if complete."""
        last = self._last("There is no answer yet that could be continued.")
        if last.reason == "stop":
            raise UsageError("The last answer is complete: there is nothing to continue.")
        if not last.tokens:
            raise UsageError("The last answer is another model's and cannot be continued: /regen asks again.")
        return self._answer(self.exchanges[:-1], last.question, begun=last)

    def messages_with(self, question: str) -> list[dict[str, str]]:
        """The conversation with one more question, as the template takes it."""
        return [*self._messages(self.exchanges), {"role": "user", "content": question}]

    def keep_answer(self, question: str, thinking: str, answer: str) -> None:
        """Note an answer that was not made by this conversation's own requests."""
        self.exchanges = [*self.exchanges, Exchange(question, thinking, answer, "stop", (), self.asked)]
        self.unanswered = None
        self.asked += 1

    def undo(self) -> str:
        """Take back the last question with its answer, and return it. Raises UsageError without one."""
        if self.unanswered is not None:
            question, self.unanswered = self.unanswered, None
            return question
        question = self._last("There is nothing to take back.").question
        self.exchanges = self.exchanges[:-1]
        return question

    def stop(self) -> None:
        """Cancel the answer that is being made, or about to be; safe in a signal handler."""
        self.stop_requested = True
        if self.open_request is not None:
            self.engine.cancel(self.open_request)

    def tokens_in_use(self) -> int:
        """How many tokens the next prompt has before its question."""
        return len(self._opening(self.exchanges))

    def _last(self, otherwise: str) -> Exchange:
        if not self.exchanges:
            raise UsageError(otherwise)
        return self.exchanges[-1]

    def _answer(
        self, earlier: Sequence[Exchange], question: str, begun: Exchange | None = None
    ) -> Generator[Event, None, None]:
        request = self._request(earlier, question) if begun is None else self._continuation(earlier, begun)
        self.open_request = self.engine.submit(request)
        if self.stop_requested:
            self.stop()
        tokens = list(request.begun)
        reason: FinishReason = "cancelled"  # unless it is said otherwise: an error, too, ends an answer early
        try:
            for event in self.engine.events([self.open_request]):
                if isinstance(event, TokenEvent):
                    tokens.append(event.token_id)
                elif isinstance(event, Finished):
                    reason = event.reason
                elif isinstance(event, Failed):
                    raise event.error
                yield event
        finally:
            self.open_request, self.stop_requested = None, False
            self._keep(earlier, question, request, tokens, reason)

    def _request(self, earlier: Sequence[Exchange], question: str) -> Request:
        """Snapshots are taken before the question, for another one, and behind it, which serves the next turn also when
        the template drops this one's thinking. The state at the end is kept, too, until it proves useless."""
        messages = [*self._messages(earlier), {"role": "user", "content": question}]
        request = self.settings.request(self.engine.tokenizer, messages, self.sampling, self.asked)
        ids = keep_known_ids(self.engine.tokenizer, request.ids, self.known_ids)
        heads = (self._opening(earlier), self._render(messages))
        cuts = {common_length(ids, head) for head in heads} - {0, len(ids)}
        return replace(request, ids=ids, snapshot_at=tuple(sorted(cuts)), keep_state=True)

    def _continuation(self, earlier: Sequence[Exchange], begun: Exchange) -> Request:
        """The prompt as it was, which the ids tell best: settings may have changed since."""
        request = replace(self._request(earlier, begun.question), begun=begun.tokens, candidate=begun.candidate)
        start = len(self.known_ids) - len(begun.tokens)
        was_last = start > 0 and tuple(self.known_ids[start:]) == begun.tokens
        if not was_last:
            return request
        cuts = tuple(cut for cut in request.snapshot_at if cut <= start)
        return replace(request, ids=self.known_ids[:start], snapshot_at=cuts)

    def _messages(self, exchanges: Sequence[Exchange]) -> list[dict[str, str]]:
        first = [{"role": "system", "content": self.system}] if self.system else []
        return first + [message for exchange in exchanges for message in exchange.messages()]

    def _opening(self, exchanges: Sequence[Exchange]) -> list[int]:
        """What any next question comes after. Rendered with one, because templates look at where the last one is."""
        return self._render([*self._messages(exchanges), {"role": "user", "content": ""}])

    def _render(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Without a generation prompt."""
        enable_thinking = self.settings.thinking != "off"
        ids = self.engine.tokenizer.render_chat(messages, enable_thinking, add_generation_prompt=False)
        return keep_known_ids(self.engine.tokenizer, ids, self.known_ids)

    def _keep(
        self, earlier: Sequence[Exchange], question: str, request: Request, tokens: list[int], reason: FinishReason
    ) -> None:
        """Note what has come, or, if nothing has, what was asked."""
        texts = split_text(self.engine.tokenizer, request.ids, tokens, request.stop)
        if not any(texts.values()):
            self.unanswered = question if len(earlier) == len(self.exchanges) else None
            return
        exchange = Exchange(question, texts["thinking"], texts["answer"], reason, tuple(tokens), request.candidate)
        self.exchanges = [*earlier, exchange]
        self.unanswered = None
        self.asked = max(self.asked, request.candidate + 1)
        self.known_ids = [*request.ids, *tokens]
        # An unfinished answer can go on from its end; a finished one only if the template keeps all of it.
        next_ids = self._opening(self.exchanges) if reason == "stop" else self.known_ids
        computed.keep_beginnings(self.engine, next_ids)
