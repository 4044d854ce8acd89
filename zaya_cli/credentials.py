"""The keys that people give in variables and files: read, trimmed and checked here and nowhere else."""

from __future__ import annotations

import os
import re
from pathlib import Path

from zaya_core.errors import UsageError
from zaya_core.redaction import keep_secret

_HUB_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_SERVER_VARIABLE = "OPENAI_API_KEY"
_KEY = re.compile("[!-~]+")  # what a header can carry
_AROUND = "\ufeff\u200b\xa0"  # a byte order mark, and blanks that are pasted along
_LARGEST_FILE = 100_000  # bytes


def hub_token() -> str | None:
    """The token for the Hub, from a variable or the file of `hf auth login`; None leaves it to huggingface_hub.

    Raises UsageError that names the place, not the value, for what cannot be a token.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN or os.environ.get("HF_OIDC_RESOURCE"):
        return None
    for variable in _HUB_VARIABLES:
        if token := _key_of(variable):
            return token
    path = Path(constants.HF_TOKEN_PATH)
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE)
    except OSError:
        return None
    return _checked(content.decode("utf-8", "surrogateescape"), str(path))


def server_key() -> str | None:
    """The key for --endpoint. Raises UsageError like `hub_token`."""
    return _key_of(_SERVER_VARIABLE)


def _key_of(variable: str) -> str | None:
    return _checked(os.environ.get(variable, ""), variable)


def _checked(text: str, place: str) -> str | None:
    """The key in a text; None for an empty one."""
    keep_secret(text)
    key = text.strip().strip(_AROUND).strip()
    if key and not _KEY.fullmatch(key):
        at, strange = next((at, one) for at, one in enumerate(key, 1) if not _KEY.fullmatch(one))
        raise UsageError(f"{place} holds {_kind_of(strange)}, its character {at}, which no key has: set it again.")
    return key or None


def _kind_of(character: str) -> str:
    if character in " \t\r\n":
        return "a blank or the end of a line"
    return "a control character" if ord(character) < 0xA0 else "a character that is not ASCII"
