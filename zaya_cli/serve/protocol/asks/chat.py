"""A body of `/v1/chat/completions` → a job, and how its answer is to be told."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from zaya_cli.serve.job import Job
from zaya_cli.serve.protocol.asks.choices import choices_of
from zaya_cli.serve.protocol.asks.messages import chat_messages
from zaya_cli.serve.protocol.asks.prompt import chat_prompt
from zaya_cli.serve.protocol.asks.sampling import SAMPLING, logit_bias, sampling_params, stop_texts
from zaya_cli.serve.protocol.asks.telling import TELLING, Telling, telling_of
from zaya_cli.serve.protocol.asks.thinking import THINKING, budget_within, thinking_of
from zaya_cli.serve.protocol.asks.unsupported import refuse_unsupported, report_unknown
from zaya_cli.serve.protocol.errors import bad_field
from zaya_cli.serve.protocol.fields import Rule, flag, read_fields, text, whole
from zaya_cli.serve.protocol.served import Served
from zaya_core.engine.request import Request

MAX_TOP_LOGPROBS = 20
_NONE: Mapping[str, Rule] = MappingProxyType({})


@dataclass(frozen=True)
class Chat:
    """What was asked. starts_in_thinking: whether its answers begin with a thought."""

    job: Job
    telling: Telling
    starts_in_thinking: bool


def chat_rules(served: Served) -> dict[str, Rule]:
    """The fields that are read."""
    return {
        "messages": chat_messages,
        "model": text,
        "max_completion_tokens": whole(1),
        "max_tokens": whole(1),
        "n": whole(1, served.rows),
        "stop": stop_texts,
        "logprobs": flag,
        "top_logprobs": whole(0, MAX_TOP_LOGPROBS),
        "logit_bias": logit_bias(served.vocab_size),
        **SAMPLING,
        **THINKING,
        **TELLING,
    }


def read_chat(body: Mapping[str, Any], served: Served, owner: str) -> Chat:
    """Check all fields, render and tokenise. Raises ApiError."""
    fields = chat_fields(body, served)
    has_logprobs = fields.get("logprobs", False)
    if fields.get("top_logprobs") and not has_logprobs:
        raise bad_field("top_logprobs", "needs logprobs to be true.")
    request = _request(fields, served, owner)
    telling = telling_of(fields, served, request.sampling.seed, has_logprobs)
    requests = tuple(choices_of(request, fields.get("n", 1)))
    job = Job(f"chatcmpl-{secrets.token_hex(12)}", requests, keeps_tokens=telling.needs_tokens, owner=owner)
    return Chat(job, telling, served.tokenizer.starts_in_thinking(request.ids))


def chat_fields(body: Mapping[str, Any], served: Served, further: Mapping[str, Rule] = _NONE) -> dict[str, Any]:
    """All fields that are given, checked. further: of those that else are refused. Raises ApiError."""
    refuse_unsupported({name: value for name, value in body.items() if name not in further})
    rules = {**chat_rules(served), **further}
    fields = read_fields(body, rules)
    report_unknown(body, (*rules, "tools", "tool_choice", "response_format", "modalities", "rsa"))
    served.expect_name(fields.get("model"))
    if "messages" not in fields:
        raise bad_field("messages", "is missing.")
    return fields


def _request(fields: Mapping[str, Any], served: Served, owner: str) -> Request:
    """Of the first choice."""
    thinking = thinking_of(fields)
    prompt = chat_prompt(served, fields["messages"], thinking)
    max_tokens = fields.get("max_completion_tokens", fields.get("max_tokens"))
    return Request(
        ids=prompt.ids,
        sampling=sampling_params(fields, served.defaults),
        max_tokens=max_tokens,
        stop=fields.get("stop", ()),
        thinking_budget=budget_within(thinking, max_tokens, served.context - len(prompt.ids)),
        top_logprobs=fields.get("top_logprobs", 0),
        snapshot_at=prompt.heads,
        logit_bias=fields.get("logit_bias", {}),
        stop_in_thinking="close",
        salt=owner,
    )
