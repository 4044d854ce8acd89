"""The answer to a chat: one object, or chunks in the order that clients expect."""

from __future__ import annotations

from typing import Any

from zaya_cli.serve.protocol.answers.choice_reader import ChoiceReader, Delta
from zaya_cli.serve.protocol.answers.logprobs import chat_logprobs
from zaya_cli.serve.protocol.answers.running import RunningFigures
from zaya_cli.serve.protocol.answers.teller import Chunk, zaya_json
from zaya_cli.serve.protocol.answers.usage import timings_json, usage_json
from zaya_cli.serve.protocol.asks.chat import Chat
from zaya_core.engine.events import Event, Finished, PrefillProgress
from zaya_core.text.tokenizer import Tokenizer


class ChatTeller:
    """State: each choice as far as it has come."""

    def __init__(self, chat: Chat, tokenizer: Tokenizer):
        self._chat, self._telling, self._tokenizer = chat, chat.telling, tokenizer
        self._running = RunningFigures(chat.telling, len(chat.job.requests[0].ids))
        choices = range(len(chat.job.requests))
        markers = {tokenizer.think_start_id: True, tokenizer.think_end_id: False}
        self._readers = [ChoiceReader(markers, chat.starts_in_thinking) for _ in choices]
        self._deltas: list[list[Delta]] = [[] for _ in choices]

    def begin(self) -> list[Chunk]:
        """The role of each choice, once, in the order of their indices; the text is empty, since null is skipped."""
        delta = {"role": "assistant", "content": ""}
        return [self._chunk([self._choice(index, delta)]) for index in range(len(self._readers))]

    def take(self, index: int, event: Event) -> list[Chunk]:
        """See `Teller`."""
        self._running.take(event)
        delta = self._readers[index].take(event)
        chunks = []
        if isinstance(event, PrefillProgress) and self._telling.has_progress:
            chunks.append(self._progress(event))
        if delta is not None:
            if self._telling.is_stream:
                chunks.append(self._piece(index, delta))
            else:
                self._deltas[index].append(delta)
        if isinstance(event, Finished):
            chunks.append(self._chunk([self._choice(index, {}, finish_reason=event.reason)]))
        return chunks

    def end(self) -> list[Chunk]:
        """Figures, where they were asked for: a client that does not expect them may read a first choice."""
        if not self._telling.has_usage:
            return []
        return [{**self._frame("chat.completion.chunk"), "choices": [], **self._figures()}]

    def answer(self) -> Chunk:
        """See `Teller`."""
        choices = [self._whole(index) for index in range(len(self._readers))]
        return {**self._frame("chat.completion"), "choices": choices, **self._figures()}

    def _whole(self, index: int) -> dict[str, Any]:
        deltas, finished = self._deltas[index], self._readers[index].finished
        assert finished is not None
        texts = {kind: "".join(one.text for one in deltas if one.kind == kind) for kind in ("thinking", "answer")}
        message: dict[str, Any] = {"role": "assistant", "content": texts["answer"], "refusal": None}
        if texts["thinking"]:
            message |= _reasoning(texts["thinking"])
        tokens = [token for delta in deltas for token in delta.tokens]
        logprobs = chat_logprobs(self._tokenizer, tokens) if self._telling.has_logprobs else None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finished.reason}

    def _piece(self, index: int, delta: Delta) -> Chunk:
        told = _reasoning(delta.text) if delta.kind == "thinking" else {"content": delta.text}
        has_logprobs = self._telling.has_logprobs and bool(delta.tokens)
        logprobs = chat_logprobs(self._tokenizer, delta.tokens) if has_logprobs else None
        return self._chunk([self._choice(index, told, logprobs)])

    def _progress(self, event: PrefillProgress) -> Chunk:
        progress = {"total": event.total, "cache": event.cached, "processed": event.done}
        return {**self._chunk([]), "prompt_progress": progress}

    def _choice(
        self, index: int, delta: dict[str, Any], logprobs: Any = None, finish_reason: str | None = None
    ) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}

    def _chunk(self, choices: list[dict[str, Any]]) -> Chunk:
        return {**self._frame("chat.completion.chunk"), "choices": choices, **self._running.fields()}

    def _frame(self, kind: str) -> Chunk:
        return self._telling.frame(self._chat.job.id, kind)

    def _figures(self) -> dict[str, Any]:
        all_stats = [reader.finished.stats for reader in self._readers if reader.finished is not None]
        was_cut = any(reader.thinking_was_cut for reader in self._readers)
        return {
            "usage": usage_json(all_stats[:1], all_stats),
            "timings": timings_json(all_stats[:1], all_stats),
            "zaya": zaya_json(self._telling.seed, all_stats, was_cut),
        }


def _reasoning(text: str) -> dict[str, str]:
    """By both names: each client takes one of them, and none adds them up."""
    return {"reasoning_content": text, "reasoning": text}
