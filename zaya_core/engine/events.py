"""What a generation reports, as it happens: prefill progress, tokens, texts, the end with its figures, or an error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "cancelled", "timeout"]


@dataclass(frozen=True)
class PrefillProgress:
    """`done` of `total` prompt tokens are in the cache, `cached` of them from an earlier prompt."""

    request_id: int
    done: int
    total: int
    cached: int


@dataclass(frozen=True)
class TokenEvent:
    """One generated token. `top_logprobs`: (id, log-probability) of the likeliest, as many as were asked for."""

    request_id: int
    token_id: int
    logprob: float
    top_logprobs: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class PromptScored:
    """Prompt tokens, each with its log-probability after those before it, as if it had been generated.

    start: the position of the first of them. The prompt's very first token has no log-probability and is in none.
    """

    request_id: int
    start: int
    tokens: tuple[TokenEvent, ...]


@dataclass(frozen=True)
class TextEvent:
    """A piece of text that is settled: no later token changes it."""

    request_id: int
    kind: Literal["thinking", "answer"]
    text: str


@dataclass(frozen=True)
class ThinkingEnded:
    """The thinking is complete: how many tokens, `</think>` included, and how long after the first token.

    was_cut: the budget closed it, or `Engine.end_thinking`.
    """

    request_id: int
    tokens: int
    seconds: float
    was_cut: bool = False


@dataclass(frozen=True)
class Parked:
    """The key/value cache is full: the row waits in host memory."""

    request_id: int


@dataclass(frozen=True)
class Unparked:
    """A parked row goes on."""

    request_id: int


@dataclass(frozen=True)
class Stats:
    """Figures of one request. Seconds are wall time, without what was spent on others' prompts (except to first token).

    prompt_tokens = cached_tokens + prefilled_tokens. completion_tokens includes thinking_tokens and a stop token.
    queue_seconds: from its submission until its prompt was begun, or to its end where it never was;
    seconds_to_first_token: from its submission, the queue included, until its prompt was computed; 0 where it was not.
    mean_logprob: of the tokens that were chosen, not forced; 0 when there are none.
    """

    prompt_tokens: int
    cached_tokens: int
    prefilled_tokens: int
    completion_tokens: int
    thinking_tokens: int
    prompt_seconds: float
    decode_seconds: float
    seconds_to_first_token: float
    peak_memory_bytes: int
    mean_logprob: float = 0.0
    queue_seconds: float = 0.0

    @property
    def prompt_tokens_per_second(self) -> float:
        return self.prefilled_tokens / self.prompt_seconds if self.prompt_seconds else 0.0

    @property
    def decode_tokens_per_second(self) -> float:
        """Tokens after the first, which comes out of the prefill."""
        return (self.completion_tokens - 1) / self.decode_seconds if self.decode_seconds else 0.0


@dataclass(frozen=True)
class Finished:
    """The last event of a request. `stopped_by`: the stop string that ended it, if one did.

    reason: "timeout" where its `deadline_seconds` were over; what it had said by then stands, as when it is cancelled.
    """

    request_id: int
    reason: FinishReason
    stats: Stats
    stopped_by: str | None = None


@dataclass(frozen=True)
class Failed:
    """The last event of a request that an error ended, in place of `Finished`; others go on.

    error: a ZayaError, or what nobody foresaw. Requests that one pass took down together share it.
    """

    request_id: int
    error: Exception


Event = PrefillProgress | PromptScored | TokenEvent | TextEvent | ThinkingEnded | Parked | Unparked | Finished | Failed
