"""Sentences without secrets: keys in environment variables, names and passwords and queries in addresses."""

from __future__ import annotations

import base64
import json
import os
import re
import sys
from collections.abc import Iterator, Set
from urllib.parse import quote, unquote

_HIDDEN = "***"
_SHORTEST = 6  # characters; less is no secret, and would be found inside of words
_SHORTEST_END = 8  # of a secret that a message has cut
_SECRET_NAME = re.compile(
    r"(^|_)(TOKEN|[A-Z]*KEY|SECRET|PASSW(OR)?D|CREDENTIAL|HEADER)S?(_|$)(?!.*(PATH|FILE|DIR)$)", re.IGNORECASE
)
_ADDRESS = re.compile(r"\w://\S+")
_LOGIN = re.compile(r"(?:(?<=://)|^(?!.*://)).*@")  # a password may hold / and @
_PRINTABLE = re.compile("[ -~]+")

_kept: set[str] = set()


def keep_secret(value: str) -> None:
    """Hide this value, too, from now on."""
    _kept.add(value)


def is_secret_name(variable: str) -> bool:
    """Whether an environment variable of this name holds a secret: HF_TOKEN, OPENAI_API_KEY; not HF_TOKEN_PATH."""
    return _SECRET_NAME.search(variable) is not None


def public_url(url: str) -> str:
    """An address without login and query."""
    return _LOGIN.sub("", re.split("[?#]", url, maxsplit=1)[0])


def redacted(text: str) -> str:
    """The text without this process's secrets, however they are quoted or cut in it, and with public addresses only.

    To be asked before a text is cut: less than 8 characters of a secret are not found.
    """
    forms = {form for secret in _secrets() for form in _forms(secret) if len(form) >= _SHORTEST}
    if forms:
        text = _without(text, forms)
        text = _without(text[::-1], {form[::-1] for form in forms})[::-1]  # what was cut at its beginning
    return _ADDRESS.sub(_public, text)


def _without(text: str, forms: Set[str]) -> str:
    """The text without the forms, and without what goes on like one for a while."""
    beginnings = {form[:_SHORTEST_END] for form in forms}
    parts, end = [], 0
    for found in re.finditer("|".join(map(re.escape, sorted(beginnings))), text):
        start = found.start()
        if start >= end:
            parts += [text[end:start], _HIDDEN]
            end = start + max(_common_length(text[start:], form) for form in forms)
    return "".join([*parts, text[end:]])


def _common_length(text: str, other: str) -> int:
    return next((at for at, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other)))


def _public(found: re.Match[str]) -> str:
    address = found[0].rstrip(")>]}.,:;'\"")
    return public_url(address) + found[0][len(address) :]


def _secrets() -> Iterator[str]:
    yield from _kept
    for name, value in os.environ.items():
        if is_secret_name(name) and not _is_path(value):
            yield value
        if "://" in value:
            yield from _secrets_of(value)
    for argument in sys.argv:
        if "://" in argument:
            yield from _secrets_of(argument)


def _is_path(value: str) -> bool:
    """Whether it names a place on this machine, as `SSH_KEY=/home/me/.ssh/id` does: no secret, and in many messages."""
    return value.startswith(("/", "~")) and os.path.isdir(os.path.dirname(os.path.expanduser(value)))


def _secrets_of(url: str) -> Iterator[str]:
    """Login, password and the values of the query."""
    address, _, query = url.partition("?")
    login = address.partition("://")[2].rpartition("@")[0]
    for text in (login, unquote(login)):
        yield text
        yield text.partition(":")[2]
    yield from (part.partition("=")[2] for part in re.split("[&;]", query))


def _forms(secret: str) -> Iterator[str]:
    """A secret, and its printable parts, as messages, headers and addresses quote them."""
    parts = [part.strip() for part in (secret, *_PRINTABLE.findall(secret))]
    for text in {secret, *parts, *(part.rpartition(" ")[2] for part in parts)}:  # the last word of `Name: value`
        yield from (text, repr(text)[1:-1], ascii(text)[1:-1], json.dumps(text)[1:-1])
        content = text.encode("utf-8", "replace")
        yield from (quote(content, safe=""), repr(content)[2:-1], base64.b64encode(content).decode())
