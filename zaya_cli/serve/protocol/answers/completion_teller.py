"""The answer to a completion: one object, or chunks; log-probabilities in the older form."""

from __future__ import annotations

from typing import Any

from zaya_cli.serve.protocol.answers.choice_reader import ChoiceReader, Delta
from zaya_cli.serve.protocol.answers.logprobs import LegacyLogprobs
from zaya_cli.serve.protocol.answers.running import RunningFigures
from zaya_cli.serve.protocol.answers.teller import Chunk, zaya_json
from zaya_cli.serve.protocol.answers.usage import timings_json, usage_json
from zaya_cli.serve.protocol.asks.completion import Completion
from zaya_core.engine.events import Event, Finished, PromptScored, TextEvent, TokenEvent
from zaya_core.text.tokenizer import Tokenizer


class _Choice:
    """One choice. State: what of it came, and the prompt's tokens until they are told with its echo."""

    def __init__(self, echo: str, has_echo: bool, prompt: list[int], logprobs: LegacyLogprobs):
        self.reader = ChoiceReader({}, in_thinking=False)
        self.logprobs = logprobs
        self.told: list[dict[str, Any]] = []
        self._echo, self._waits_for_echo = echo, has_echo
        self._prompt: list[TokenEvent | int] = [*prompt[:1]]

    def take(self, event: Event, has_logprobs: bool) -> list[dict[str, Any]]:
        """The pieces that an event adds: text and log-probabilities."""
        if isinstance(event, PromptScored):
            self._prompt += event.tokens
            return []
        pieces = []
        if self._waits_for_echo and isinstance(event, (TokenEvent, TextEvent, Finished)):
            self._waits_for_echo = False
            pieces.append({"text": self._echo, "logprobs": self.logprobs.of(self._prompt) if has_logprobs else None})
        delta = self.reader.take(event)
        if delta is not None:
            pieces.append({"text": delta.text, "logprobs": self._of(delta) if has_logprobs else None})
        return pieces

    def _of(self, delta: Delta) -> dict[str, Any] | None:
        return self.logprobs.of(delta.tokens) if delta.tokens else None


class CompletionTeller:
    """State: each choice as far as it has come."""

    def __init__(self, completion: Completion, tokenizer: Tokenizer):
        self._completion, self._telling = completion, completion.telling
        prompts = completion.job.requests[:: completion.n]
        self._running = RunningFigures(completion.telling, sum(len(one.ids) for one in prompts))
        skip = completion.skip_special_tokens
        self._choices = [
            _Choice(echo, completion.has_echo, list(request.ids), LegacyLogprobs(tokenizer, skip))
            for echo, request in zip(completion.echoes, completion.job.requests, strict=True)
        ]

    def begin(self) -> list[Chunk]:
        """Nothing: a completion has no role."""
        return []

    def take(self, index: int, event: Event) -> list[Chunk]:
        """See `Teller`."""
        self._running.take(event)
        choice = self._choices[index]
        pieces = choice.take(event, self._telling.has_logprobs)
        if not self._telling.is_stream:
            choice.told += pieces
            return []
        if isinstance(event, Finished):
            pieces.append({"text": "", "logprobs": None, "finish_reason": event.reason})
        return [self._chunk({"index": index, "finish_reason": None, **piece}) for piece in pieces]

    def end(self) -> list[Chunk]:
        """See `Teller`."""
        return [{**self._frame(), "choices": [], **self._figures()}] if self._telling.has_usage else []

    def answer(self) -> Chunk:
        """See `Teller`."""
        choices = [_whole(index, choice) for index, choice in enumerate(self._choices)]
        return {**self._frame(), "choices": choices, **self._figures()}

    def _chunk(self, choice: dict[str, Any]) -> Chunk:
        return {**self._frame(), "choices": [choice], **self._running.fields()}

    def _frame(self) -> Chunk:
        return self._telling.frame(self._completion.job.id, "text_completion")

    def _figures(self) -> dict[str, Any]:
        all_stats = [one.reader.finished.stats for one in self._choices if one.reader.finished is not None]
        prompts = all_stats[:: self._completion.n]
        return {
            "usage": usage_json(prompts, all_stats),
            "timings": timings_json(prompts, all_stats),
            "zaya": zaya_json(self._telling.seed, all_stats, thinking_was_cut=False),
        }


def _whole(index: int, choice: _Choice) -> dict[str, Any]:
    assert choice.reader.finished is not None
    parts = [piece["logprobs"] for piece in choice.told if piece["logprobs"] is not None]
    logprobs = {name: [one for part in parts for one in part[name]] for name in parts[0]} if parts else None
    return {
        "index": index,
        "text": "".join(piece["text"] for piece in choice.told),
        "logprobs": logprobs,
        "finish_reason": choice.reader.finished.reason,
    }
