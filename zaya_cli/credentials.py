"""The keys that people give in variables and files: read, trimmed and checked here and nowhere else."""

from __future__ import annotations

import os
import re
from pathlib import Path

from zaya_core.errors import UsageError
from zaya_core.redaction import keep_secret

_HUB_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_SERVER_VARIABLE = "OPENAI_API_KEY"
_ALSO_SENT = ("OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
_KEY = re.compile("[!-~]+")  # what a header can carry
_AROUND = " \t\r\n\ufeff"  # blanks, newlines and a byte order mark come along with a key
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
    text = content.decode("utf-8", "surrogateescape")
    token = _checked(text, str(path))
    return None if token == text.strip() else token  # huggingface_hub renews what it reads itself


def server_key() -> str | None:
    """The key for --endpoint. Raises UsageError like `hub_token`."""
    for variable in _ALSO_SENT:  # by the client library, which reads them itself
        if key := _key_of(variable):
            os.environ[variable] = key
    return _key_of(_SERVER_VARIABLE)


def _key_of(variable: str) -> str | None:
    return _checked(os.environ.get(variable, ""), variable)


def _checked(text: str, place: str) -> str | None:
    """The key in a text; None for an empty one."""
    keep_secret(text)
    key = text.strip(_AROUND)
    if key and not _KEY.fullmatch(key):
        at, strange = next((at, one) for at, one in enumerate(key, 1) if not _KEY.fullmatch(one))
        raise UsageError(f"{place}: character {at} of the key is {_kind_of(strange)}, which no key has: set it again.")
    return key or None


def _kind_of(character: str) -> str:
    if character in " \t\r\n":
        return "a blank or a newline"
    return "a control character" if ord(character) < 0xA0 else "not ASCII"
