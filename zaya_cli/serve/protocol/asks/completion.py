"""A body of `/v1/completions` → a job: prompts as they are, and all that the model writes after them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from zaya_cli.serve.job import Job
from zaya_cli.serve.protocol.asks.choices import choices_of
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
    first = _request(fields, served, owner)
    requests = [one for ids in prompts for one in choices_of(replace(first, ids=ids), n)]
    for ids in prompts:
        served.expect_length(ids, "prompt", least_answer=min(1, fields.get("max_tokens", 1)))
    filters = [RawText(served.tokenizer, fields.get("stop", ()), skip) for _ in requests]
    telling = telling_of(fields, served, first.sampling.seed, "logprobs" in fields)
    job = Job(f"cmpl-{secrets.token_hex(12)}", tuple(requests), filters, telling.needs_tokens, owner)
    echoes = tuple(_echo(prompt, served, skip) if has_echo else "" for prompt in fields["prompt"] for _ in range(n))
    return Completion(job, telling, n, echoes, has_echo, skip)


def _expect_sense(fields: Mapping[str, Any], n: int, has_echo: bool) -> None:
    """Raises ApiError for fields that do not go together."""
    if "prompt" not in fields:
        raise bad_field("prompt", "is missing.")
    if fields.get("best_of", n) != n:
        raise bad_field("best_of", f"is {fields['best_of']}; it must be n, which is {n}: all that are made are given.")
    if fields.get("max_tokens") == 0 and not has_echo:
        raise bad_field("max_tokens", "is 0; without echo it must be 1 or more.")


def _request(fields: Mapping[str, Any], served: Served, owner: str) -> Request:
    """Of the first choice of any prompt."""
    has_answer = fields.get("max_tokens") != 0  # without one the Engine is asked for scores alone
    is_scored = fields.get("echo", False) and ("logprobs" in fields or not has_answer)
    return Request(
        ids=(),
        sampling=sampling_params(fields, served.defaults),
        max_tokens=fields.get("max_tokens"),
        thinking_budget=fields.get("thinking_budget"),
        top_logprobs=fields.get("logprobs", 0),
        ignore_stop_ids=fields.get("ignore_eos", False),
        logit_bias=fields.get("logit_bias", {}),
        salt=owner,
        prompt_logprobs=fields.get("logprobs", 0) if is_scored else None,
    )


def _prompts(name: str, value: Any) -> list[str | list[int]]:
    """Texts or lists of ids, of which there may be one without a list around it."""
    if isinstance(value, str) or _are_ids(value):
        return [value]
    if isinstance(value, list) and value and all(isinstance(one, str) or _are_ids(one) for one in value):
        return value
    raise bad_field(name, f"is {shown(value)}; it must be a text, a list of texts, or one or more lists of token ids.")


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(is_whole, value))


def _ids(prompt: str | list[int], served: Served, fields: Mapping[str, Any]) -> list[int]:
    """Raises ApiError for ids that the model does not have."""
    if isinstance(prompt, str):
        ids = text_prompt(served.tokenizer, prompt, fields.get("add_special_tokens", True))
        if not ids:
            raise bad_field("prompt", "is empty.")
        return ids
    if min(prompt) < 0 or max(prompt) >= served.vocab_size:
        raise bad_field("prompt", f"has an id outside the vocabulary of {served.vocab_size:,}.")
    return prompt


def _echo(prompt: str | list[int], served: Served, skip_special_tokens: bool) -> str:
    return prompt if isinstance(prompt, str) else served.tokenizer.decode(prompt, skip_special_tokens)
