"""Conversations and texts → the ids of a prompt, and which of its beginnings later prompts will share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from zaya_cli.serve.protocol.asks.thinking import Thinking
from zaya_cli.serve.protocol.errors import ApiError
from zaya_cli.serve.protocol.served import Served
from zaya_core.errors import CheckpointError, UsageError
from zaya_core.text.known_ids import common_length
from zaya_core.text.tokenizer import Tokenizer

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class ChatPrompt:
    """ids: of the prompt. heads: lengths of its beginnings that are worth keeping."""

    ids: list[int]
    heads: tuple[int, ...]


def chat_prompt(served: Served, messages: Messages, thinking: Thinking) -> ChatPrompt:
    """A conversation as the template writes it. Raises ApiError for one that is too long.

    Kept are the end of the first system message, and that of the last turn, from which the next prompt goes on: the
    template leaves earlier thinking out, so that the state after the answer would serve nobody.
    """
    tokenizer = served.tokenizer
    ids = rendered(tokenizer, messages, thinking)
    served.expect_length(ids, "messages")
    heads = [rendered(tokenizer, messages, thinking, add_generation_prompt=False)]
    if len(messages) > 1 and messages[0]["role"] in ("system", "developer"):
        opening = [messages[0], {"role": "user", "content": ""}]
        heads.append(rendered(tokenizer, opening, thinking, add_generation_prompt=False))
    cuts = {common_length(ids, head) for head in heads} - {0, len(ids)}
    return ChatPrompt(ids, tuple(sorted(cuts)))


def rendered(tokenizer: Tokenizer, messages: Messages, thinking: Thinking, **options: Any) -> list[int]:
    """The ids. Raises ApiError for a conversation that the template cannot write."""
    with _refusals():
        return tokenizer.render_chat(messages, thinking.is_on, None, **thinking.options, **options)


def written(tokenizer: Tokenizer, messages: Messages, thinking: Thinking, **options: Any) -> str:
    """The same as text, for showing. Raises ApiError."""
    with _refusals():
        return tokenizer.render_chat_text(messages, thinking.is_on, None, **thinking.options, **options)


@contextmanager
def _refusals() -> Iterator[None]:
    """The template's own, such as of roles that do not alternate, are the client's to mend."""
    try:
        yield
    except CheckpointError as error:
        raise ApiError(400, _without_path(error), param="messages") from None
    except UsageError as error:
        raise ApiError(400, str(error), param="messages") from None


def _without_path(error: CheckpointError) -> str:
    """Where the template is, is nobody's business."""
    _, _, reason = str(error).partition(": ")
    return f"{reason[:1].upper()}{reason[1:]}"


def text_prompt(tokenizer: Tokenizer, text: str, add_bos: bool = True, parse_special: bool = True) -> list[int]:
    """A text as ids. parse_special: names of control tokens become them, as vLLM and llama.cpp have it. A BOS is put in
    front unless the text has one."""
    ids = tokenizer.encode(text, parse_special)
    has_bos = tokenizer.bos_id is None or ids[:1] == [tokenizer.bos_id]
    return ids if has_bos or not add_bos or tokenizer.bos_id is None else [tokenizer.bos_id, *ids]
