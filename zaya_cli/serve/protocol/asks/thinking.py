"""Whether the model thinks, and how long: the names that OpenAI, vLLM, llama.cpp and Anthropic have for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zaya_cli.serve.protocol.errors import bad_field
from zaya_cli.serve.protocol.fields import Rule, an_object, flag, one_of, table, whole

ENABLE = "enable_thinking"
_EFFORTS: dict[str, int | None] = {
    "none": None,
    "minimal": 512,
    "low": 2048,
    "medium": 8192,
    "high": None,
    "xhigh": None,
    "max": None,
}
_TEMPLATES_OWN = ("self", "messages", "tools", "documents", "bos_token", "eos_token", "add_generation_prompt")
_LARGEST_RESERVE = 1024  # tokens


def _template_options(name: str, value: Any) -> dict[str, Any]:
    """What the chat template is given beside the conversation."""
    options = an_object(name, value)
    for key in options:
        if key in _TEMPLATES_OWN:
            raise bad_field(f"{name}.{key}", "is set by the server.")
    if options.get(ENABLE) is not None:
        flag(f"{name}.{ENABLE}", options[ENABLE])
    return options


THINKING: dict[str, Rule] = {
    "reasoning_effort": one_of(tuple(_EFFORTS)),
    "thinking_budget": whole(0),
    "reasoning_max_tokens": whole(0),
    "thinking": table({"type": one_of(("enabled", "disabled", "adaptive")), "budget_tokens": whole(0)}),
    ENABLE: flag,
    "chat_template_kwargs": _template_options,
}


@dataclass(frozen=True)
class Thinking:
    """budget: most tokens, None for as many as there is room for. options: for the template, beside that."""

    is_on: bool = True
    budget: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def thinking_of(fields: Mapping[str, Any]) -> Thinking:
    """What the fields ask for; one that says it plainly comes before an effort."""
    options = {key: value for key, value in fields.get("chat_template_kwargs", {}).items() if value is not None}
    switch, effort, anthropic = options.pop(ENABLE, None), fields.get("reasoning_effort"), fields.get("thinking", {})
    is_on = fields.get(ENABLE, switch)
    if is_on is None:
        is_on = effort != "none" and anthropic.get("type") != "disabled"
    budgets = (
        fields.get("thinking_budget"),
        fields.get("reasoning_max_tokens"),
        anthropic.get("budget_tokens"),
        _EFFORTS.get(effort) if effort else None,
    )
    return Thinking(is_on, next((budget for budget in budgets if budget is not None), None), options)


def budget_within(thinking: Thinking, max_tokens: int | None, room: int) -> int | None:
    """The budget; without one, what leaves some of `max_tokens` for the answer, or a short limit gives none at all.

    room: tokens that the context has for both.
    """
    if thinking.budget is not None or max_tokens is None or not thinking.is_on:
        return thinking.budget
    most = min(max_tokens, room)
    reserve = min(_LARGEST_RESERVE, most // 4)
    return most - reserve - 1 if reserve else None  # one for the end of the thinking
