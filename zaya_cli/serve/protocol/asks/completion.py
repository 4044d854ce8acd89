"""A body of `/v1/completions` → a job: prompts as they are, and all that the model writes after them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zaya_cli.serve.job import Job
from zaya_cli.serve.protocol.asks.choices import beyond, choices_of
from zaya_cli.serve.protocol.asks.prompt import text_prompt
from zaya_cli.serve.protocol.asks.sampling import SAMPLING, logit_bias, sampling_params, stop_texts
from zaya_cli.serve.protocol.asks.telling import TELLING, Telling, telling_of
from zaya_cli.serve.protocol.asks.unsupported import refuse_unsupported, report_unknown
from zaya_cli.serve.protocol.errors import bad_field
from zaya_cli.serve.protocol.fields import Rule, flag, read_fields, shown, text, whole
from zaya_cli.serve.protocol.served import Served
from zaya_cli.serve.raw_text import RawText
from zaya_core.engine.request import Request
from zaya_core.whole_numbers import is_whole

MAX_LOGPROBS = 20
_NOTHING_GENERATED = 0


@dataclass(frozen=True)
class Completion:
    """What was asked. echoes: what each choice's text begins with. n: choices of each prompt, which stand together."""

    job: Job
    telling: Telling
    n: int
    echoes: tuple[str, ...]
    has_echo: bool
    skip_special_tokens: bool


def completion_rules(served: Served) -> dict[str, Rule]:
    """The fields that are read."""
    return {
        "prompt": _prompts,
        "model": text,
        "max_tokens": whole(0),
        "n": whole(1, served.rows),
        "best_of": whole(1),
        "stop": stop_texts,
        "echo": flag,
        "logprobs": whole(0, MAX_LOGPROBS),
        "logit_bias": logit_bias(served.vocab_size),
        "skip_special_tokens": flag,
        "add_special_tokens": flag,
        "ignore_eos": flag,
        "thinking_budget": whole(0),
        **SAMPLING,
        **TELLING,
    }


def read_completion(body: Mapping[str, Any], served: Served, owner: str) -> Completion:
    """Check all fields and tokenise. Raises ApiError."""
    refuse_unsupported(body)
    rules = completion_rules(served)
    fields = read_fields(body, rules)
    report_unknown(body, (*rules, "suffix"))
    served.expect_name(fields.get("model"))
    n, has_echo, skip = fields.get("n", 1), fields.get("echo", False), fields.get("skip_special_tokens", True)
    _expect_sense(fields, n, has_echo)
    prompts = [_ids(prompt, served, fields) for prompt in fields["prompt"]]
    first = _request(fields, prompts[0], served, owner, has_echo)
    requests = [one for ids in prompts for one in choices_of(_with_ids(first, ids), n)]
    for request in requests[::n]:
        served.expect_room(request, "prompt")
    filters = [RawText(served.tokenizer, fields.get("stop", ()), skip) for _ in requests]
    has_logprobs = "logprobs" in fields
    job = Job(f"cmpl-{secrets.token_hex(12)}", tuple(requests), filters, has_logprobs, owner)
    echoes = tuple(_echo(prompt, served, skip) if has_echo else "" for prompt in fields["prompt"] for _ in range(n))
    telling = telling_of(fields, served, first.sampling.seed, has_logprobs)
    return Completion(job, telling, n, echoes, has_echo, skip)
