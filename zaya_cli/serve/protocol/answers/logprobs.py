"""Log-probabilities of tokens with their exact bytes, in the form of chats and in the older one of completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zaya_core.engine.events import TokenEvent
from zaya_core.text.tokenizer import Tokenizer

LEAST_LOGPROB = -9999.0  # OpenAI's word for a token that could not be chosen; JSON has no infinity


def finite(logprob: float) -> float:
    """A log-probability that JSON can express."""
    return max(logprob, LEAST_LOGPROB)


def token_name(tokenizer: Tokenizer, id_: int) -> str:
    """A token's text; part of a character by its bytes, as OpenAI spells it, since U+FFFD could be any."""
    content = tokenizer.bytes_of(id_)
    try:
        return content.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)


def chat_logprobs(tokenizer: Tokenizer, tokens: Sequence[TokenEvent]) -> dict[str, Any]:
    """`logprobs` of a chat's choice or chunk."""
    content = [
        {
            **_entry(tokenizer, event.token_id, event.logprob),
            "top_logprobs": [_entry(tokenizer, id_, logprob) for id_, logprob in event.top_logprobs],
        }
        for event in tokens
    ]
    return {"content": content, "refusal": None}


def _entry(tokenizer: Tokenizer, id_: int, logprob: float) -> dict[str, Any]:
    content = tokenizer.bytes_of(id_)
    return {"token": token_name(tokenizer, id_), "logprob": finite(logprob), "bytes": list(content)}


class LegacyLogprobs:
    """`logprobs` of a completion's choice or chunks. State: where in the text the next token begins, in characters."""

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool):
        self._tokenizer = tokenizer
        self._detokenizer = tokenizer.detokenizer(skip_special_tokens)
        self._offset = 0

    def of(self, tokens: Sequence[TokenEvent | int]) -> dict[str, Any]:
        """The next tokens; one without a log-probability, a prompt's first, is an id."""
        lists: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for token in tokens:
            id_ = token if isinstance(token, int) else token.token_id
            names = {} if isinstance(token, int) else self._names(token)
            lists["tokens"].append(names.get(id_) or token_name(self._tokenizer, id_))
            lists["text_offset"].append(self._offset)
            if isinstance(token, int):
                lists["token_logprobs"].append(None)
                lists["top_logprobs"].append(None)
            else:
                likeliest = {**dict(token.top_logprobs), id_: token.logprob}
                lists["token_logprobs"].append(finite(token.logprob))
                lists["top_logprobs"].append({names[one]: finite(logprob) for one, logprob in likeliest.items()})
            self._offset += len(self._detokenizer.add(id_))
        return lists

    def _names(self, token: TokenEvent) -> dict[int, str]:
        """One for each of the tokens, so that none takes another's place: the same text may be two tokens."""
        names: dict[int, str] = {}
        for id_ in (token.token_id, *(one for one, _ in token.top_logprobs)):
            if id_ not in names:
                name = token_name(self._tokenizer, id_)
                names[id_] = f"token_id:{id_}" if name in names.values() else name
        return names
