"""The text and figures of one answer, put together from the chunks of a stream, whatever they leave out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from zaya_core.rsa.endpoint.faults import Malformed
from zaya_core.rsa.endpoint.reply import Reply
from zaya_core.whole_numbers import is_number

Part = Literal["text", "reasoning"]
SLACK = 64  # tokens or chunks beyond a budget, after which a server that goes on is left
_MOST_TOKENS = 1 << 32  # a larger count is no count


class ReplyBuilder:
    """State: the texts so far, and the last figures that came with them. budget: tokens that were asked for."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._parts: dict[Part, list[str]] = {"text": [], "reasoning": []}
        self._logprobs: list[float] = []
        self._usage: Mapping[str, Any] = {}
        self._finish_reason: str | None = None
        self._is_done = self._has_choice = False

    @property
    def is_beyond(self) -> bool:
        """Whether far more came than was asked for; a chunk is a token, or more."""
        return sum(map(len, self._parts.values())) > self._budget + SLACK

    def add(self, chunk: Mapping[str, Any] | None) -> Iterator[tuple[Part, str]]:
        """Take a chunk, None for the end of the stream; the texts it brings."""
        if chunk is None:
            self._is_done = True
            return
        if isinstance(usage := chunk.get("usage"), Mapping):
            self._usage = usage
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, Mapping):
            return
        self._has_choice = True
        if isinstance(reason := choice.get("finish_reason"), str) and reason:
            self._finish_reason = reason
        self._logprobs.extend(_logprobs(choice.get("logprobs")))
        for part, text in _texts(choice):
            self._parts[part].append(text)
            yield part, text

    def reply(self) -> Reply:
        """All of it. Raises Malformed when there was no answer in it."""
        if not self._has_choice:
            raise Malformed("an answer without choices")
        tokens = _count(self._usage.get("completion_tokens"))
        is_full = self.is_beyond or (self._finish_reason is None and tokens is not None and tokens >= self._budget)
        return Reply(
            text=_joined(self._parts["text"]),
            reasoning=_joined(self._parts["reasoning"]),
            is_cut=is_full or self._finish_reason in ("length", "max_tokens"),
            is_whole=is_full or self._is_done or self._finish_reason is not None,
            prompt_tokens=_count(self._usage.get("prompt_tokens")),
            tokens=tokens,
            logprobs=tuple(self._logprobs),
        )

    def partial(self) -> Reply:
        """What came before a fault; it may be nothing."""
        if not self._has_choice:
            return Reply(is_whole=False)
        text, reasoning = (_joined(self._parts[part]).rstrip("\ufffd") for part in ("text", "reasoning"))
        return Reply(text, reasoning, is_whole=False, logprobs=tuple(self._logprobs))


def _texts(choice: Mapping[str, Any]) -> Iterator[tuple[Part, str]]:
    """What a choice brings: of a completion, of a chat's chunk, or of a chat that does not stream."""
    message = choice.get("delta") or choice.get("message")
    if isinstance(message, Mapping):
        reasoning = message.get("reasoning_content") or message.get("reasoning")
        if isinstance(reasoning, str) and reasoning:
            yield "reasoning", reasoning
        text = _content(message.get("content"))
    else:
        text = _content(choice.get("text"))
    if text:
        yield "text", text


def _content(value: Any) -> str:
    if isinstance(value, list):  # parts with a type each
        return "".join(_content(part.get("text")) for part in value if isinstance(part, Mapping))
    return value if isinstance(value, str) else ""


def _logprobs(value: Any) -> Iterator[float]:
    """Of a completion in OpenAI's form, or in that of chats, which llama.cpp uses for both."""
    if not isinstance(value, Mapping):
        return
    listed = value.get("token_logprobs")
    if not isinstance(listed, list):
        content = value.get("content")
        content = content if isinstance(content, list) else []
        listed = [one.get("logprob") for one in content if isinstance(one, Mapping)]
    for number in listed:
        if is_number(number) and math.isfinite(number):
            yield float(number)


def _count(value: Any) -> int | None:
    """A count of tokens, None for what cannot be one."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 12:
        value = int(value)
    return int(value) if is_number(value) and 0 <= value < _MOST_TOKENS else None


def _joined(parts: list[str]) -> str:
    """One text; a character whose two halves came in two chunks is whole again."""
    text = "".join(parts)
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
