"""The fields that a server understands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from zaya_core.rsa.endpoint.faults import StatusError
from zaya_core.rsa.rollouts import Messages
from zaya_core.sampling.params import RandomKey, SamplingParams
from zaya_core.text.tokenizer import Tokenizer

_SEEDS = (1 << 63) + 1  # a step that no sampled token and no subset ever has


@dataclass(frozen=True)
class Dialect:
    """How a server is asked.

    kind: prompt as ids, as text, or as chat messages. extended: with vLLM's fields beyond the protocol. drops_bos: the
    server puts a BOS of its own in front. asks_usage: for counts in the stream. marks_end: its streams end with a
    reason or `[DONE]`, so that one without was broken off.
    """

    kind: Literal["ids", "text", "chat"]
    extended: bool
    drops_bos: bool = False
    asks_usage: bool = True
    marks_end: bool = True

    @property
    def path(self) -> str:
        return "/chat/completions" if self.kind == "chat" else "/completions"

    def prompt(self, tokenizer: Tokenizer, messages: Messages) -> list[int] | str:
        """A conversation as the prompt of a completion."""
        if self.kind == "ids":
            return tokenizer.render_chat(messages)
        text = tokenizer.render_chat_text(messages)
        if not self.drops_bos or tokenizer.bos_id is None:
            return text
        return text.removeprefix(tokenizer.token_text(tokenizer.bos_id))

    def fields(self, model: str, sampling: SamplingParams, max_tokens: int, seed: int) -> dict[str, Any]:
        """All of a request but its prompt."""
        fields: dict[str, Any] = {
            "model": model,
            "max_tokens": max_tokens,
            "temperature": 0.0 if sampling.is_greedy else sampling.temperature,
            "top_p": sampling.top_p or 1.0,  # servers refuse 0
            "seed": seed,
            "stream": True,
        }
        if self.asks_usage:
            fields["stream_options"] = {"include_usage": True}
        return fields | _extended_fields(sampling) if self.extended else fields


# In the order in which they are tried; as text only where the server counts the prompt's tokens.
COMPLETIONS = (
    Dialect("ids", True),
    Dialect("ids", False),
    Dialect("ids", False, asks_usage=False),
    Dialect("text", True),
    Dialect("text", False),
)
CHATS = (Dialect("chat", False), Dialect("chat", False, asks_usage=False))


def without_usage(dialect: Dialect, error: StatusError) -> Dialect | None:
    """The same without asking for counts, if it is these that the server refuses by name."""
    refused = str(error.body)
    is_named = "stream_options" in refused or "include_usage" in refused
    return replace(dialect, asks_usage=False) if dialect.asks_usage and is_named else None


def seed_of(sampling: SamplingParams, stage: int, candidate: int, request: int) -> int:
    """The seed of a rollout's n-th request, 31 bits."""
    return int(RandomKey(sampling.seed, stage, candidate).uniform(_SEEDS, request) * (1 << 31))


def _extended_fields(params: SamplingParams) -> dict[str, Any]:
    """What vLLM and SGLang know beyond the protocol, and log-probabilities, which not all servers accept."""
    return {
        "min_p": params.min_p,
        "top_k": params.top_k or -1,
        "repetition_penalty": params.repetition_penalty,
        "skip_special_tokens": False,  # or the end of the thinking could not be seen
        "logprobs": 1,
    }
