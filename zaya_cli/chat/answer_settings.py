"""What `/set` shows and changes of a conversation: sampling, lengths and the seed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args, get_type_hints

from zaya_cli.chat.conversation import Conversation
from zaya_cli.flags.generation import SAMPLING, GenerationSettings
from zaya_cli.flags.typed import NEEDED, typed
from zaya_core.errors import UsageError

_LENGTHS = {"max_tokens": 1, "thinking_budget": 0}  # the least of each; they may be off
NAMES = (*SAMPLING, "seed", *_LENGTHS)


def shown(conversation: Conversation, name: str) -> object:
    """The value of a setting in NAMES, `off` for none."""
    home: Any = conversation.settings if name in _LENGTHS else conversation.sampling
    value = getattr(home, name)
    return "off" if value is None else value


def change(conversation: Conversation, name: str, text: str) -> None:
    """Set one of NAMES to what was typed. Raises UsageError."""
    kind = get_args(get_type_hints(GenerationSettings)[name])[0]
    try:
        value = None if text == "off" and name in _LENGTHS else typed(kind, text)
    except ValueError:
        raise UsageError(f"{name} is {text!r}; it must be {NEEDED[kind]}.") from None
    changes: dict[str, Any] = {name: value}
    if name not in _LENGTHS:
        conversation.sampling = replace(conversation.sampling, **changes)
        return
    if value is not None and value < _LENGTHS[name]:
        raise UsageError(f"{name} is {value}; it must be {_LENGTHS[name]} or more, or off.")
    conversation.settings = replace(conversation.settings, **changes)
