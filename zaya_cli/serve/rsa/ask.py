"""A body of `/v1/chat/completions` with `rsa` → the schedule of a run, and how its answer is to be told."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from zaya_cli.rsa.sampling import AGGREGATE_SAMPLING, RSA_SAMPLING
from zaya_cli.serve.job import Job
from zaya_cli.serve.protocol.asks.chat import Chat, chat_fields
from zaya_cli.serve.protocol.asks.prompt import Messages, rendered
from zaya_cli.serve.protocol.asks.sampling import sampling_params
from zaya_cli.serve.protocol.asks.telling import telling_of
from zaya_cli.serve.protocol.asks.thinking import ENABLE, Thinking
from zaya_cli.serve.protocol.errors import bad_field
from zaya_cli.serve.protocol.served import Served
from zaya_cli.serve.rsa.field import RsaField, rsa_field
from zaya_core.engine.request import Request
from zaya_core.errors import UsageError
from zaya_core.rsa.params import RsaParams, fit_to_context
from zaya_core.rsa.prompt import Aggregation
from zaya_core.rsa.reading import prompt_sizes
from zaya_core.rsa.solver import Solver, aggregation_messages
from zaya_core.sampling.params import SamplingParams

_LIMITS = ("max_tokens", "max_completion_tokens", "thinking_budget", "reasoning_max_tokens", "reasoning_effort")
_OTHERS = ("thinking", "chat_template_kwargs", "logprobs", "top_logprobs", "logit_bias")


@dataclass(frozen=True)
class RsaChat:
    """chat: the answer as its client sees it, a job of one choice that no row computes. solver: what computes it.

    stop: strings that end an answer.
    """

    chat: Chat
    solver: Solver
    stop: tuple[str, ...]
    has_progress: bool


def read_rsa_chat(body: Mapping[str, Any], served: Served, aggregation: Aggregation, owner: str) -> RsaChat:
    """Check all fields and fit the run to the context. Raises ApiError, PromptTooLongError."""
    fields = chat_fields(body, served, {"rsa": rsa_field})
    _refuse_what_does_not_go_with_it(fields)
    sampling, messages, field = sampling_params(fields, RSA_SAMPLING), fields["messages"], fields["rsa"]
    solver = _solver(messages, field, served, aggregation, sampling, fields)
    telling = telling_of(fields, served, sampling.seed, has_logprobs=False)
    telling = replace(telling, has_running_usage=False, has_timings=False)  # a run is told when it has ended
    ids = rendered(served.tokenizer, messages, Thinking())
    job = Job(f"chatcmpl-{secrets.token_hex(12)}", (Request(ids=ids),), owner=owner)
    chat = Chat(job, telling, served.tokenizer.starts_in_thinking(ids))
    return RsaChat(chat, solver, fields.get("stop", ()), field.has_progress)


def _solver(
    messages: Messages,
    field: RsaField,
    served: Served,
    aggregation: Aggregation,
    sampling: SamplingParams,
    fields: Mapping[str, Any],
) -> Solver:
    params = field.params(RsaParams(passes=aggregation.passes))
    last = {**fields, "seed": sampling.seed}
    last_sampling = sampling_params(last, AGGREGATE_SAMPLING) if params.select == "aggregate" else None
    try:
        longer = aggregation_messages(messages, [""] * max(1, params.tails), aggregation.prompt)
    except UsageError as error:
        raise bad_field("messages", f"do not end in a question. {error}") from None
    rendered(served.tokenizer, messages, Thinking())  # what the template refuses is the client's to mend
    sizes = prompt_sizes(served.tokenizer, messages, longer)
    fitted = fit_to_context(params, sizes, served.context)
    return Solver(messages, fitted, sampling, sizes.shared, aggregation.prompt, last_sampling)


def _refuse_what_does_not_go_with_it(fields: Mapping[str, Any]) -> None:
    """An answer without what they ask for would be a wrong one. Raises ApiError."""
    if fields.get("n", 1) != 1:
        raise bad_field("n", "must be 1 with rsa, which chooses one answer of rsa.candidates.")
    for name in _LIMITS:
        if name in fields:
            raise bad_field(name, "does not go with rsa: use rsa.think and rsa.answer.")
    for name in _OTHERS:
        if fields.get(name):
            raise bad_field(name, "does not go with rsa.")
    if fields.get(ENABLE) is False:
        raise bad_field(ENABLE, "is false, and rsa passes the thinking on.")
    if fields.get("temperature") == 0:
        raise bad_field("temperature", "is 0, and all candidates of rsa would think the same: give a higher one.")
