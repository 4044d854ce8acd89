"""The keys that people give in variables and files: trimmed and checked here, before the libraries read them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from zaya_core.errors import UsageError
from zaya_core.files.bounded_file import decoded, read_file
from zaya_core.redaction import keep_secret

_HUB_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_SERVER_VARIABLES = ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
API_KEY_VARIABLE = "ZAYA_API_KEY"  # of the server that this program is
_KEY = re.compile("[!-~]+")  # what a header can carry
_AROUND = " \t\r\n\ufeff"  # blanks, newlines and a byte order mark come along with a key
_LARGEST_FILE = 100_000  # bytes


def prepare_hub_token() -> None:
    """Trim the token for the Hub in its variables, or else in the file of `hf auth login`.

    Raises UsageError that names the place, not the value, for what cannot be a token.
    """
    from huggingface_hub import constants

    if not any(map(_trim, _HUB_VARIABLES)) and not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        _prepare_token_file(Path(constants.HF_TOKEN_PATH))


def prepare_server_keys() -> None:
    """Trim what is sent to an --endpoint. Raises UsageError like `prepare_hub_token`."""
    for variable in _SERVER_VARIABLES:
        _trim(variable)


def read_api_keys(path: Path | None) -> tuple[str, ...]:
    """Those that the clients of our own server must send: of ZAYA_API_KEY, and of a file with one a line.

    Raises UsageError like `prepare_hub_token`, also for a file without any, and MissingFileError.
    """
    keys = [key] if (key := _trim(API_KEY_VARIABLE)) else []
    if path is not None:
        lines = decoded(read_file(path, _LARGEST_FILE), str(path)).splitlines()
        found = [_checked(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]
        if not any(found):
            raise UsageError(f"{path} has no key: write one a line, or leave --api-key-file out.")
        keys += filter(None, found)
    return tuple(dict.fromkeys(keys))


def _prepare_token_file(path: Path) -> None:
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_FILE).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(
            f"{path}, where the login is kept, cannot be read ({error.strerror}): check HF_HOME and HF_TOKEN_PATH."
        ) from None
    token = _checked(text, str(path))
    if token != text.strip():  # else huggingface_hub reads it as well, and renews one that ends
        os.environ[_HUB_VARIABLES[0]] = token


def _trim(variable: str) -> str:
    """The key in a variable, which holds nothing else from now on; "" if there is none."""
    key = _checked(os.environ.get(variable, ""), variable)
    if variable in os.environ:
        os.environ[variable] = key
    return key


def _checked(text: str, place: str) -> str:
    keep_secret(text)
    key = text.strip(_AROUND)
    if key and not _KEY.fullmatch(key):
        at, strange = next((at, one) for at, one in enumerate(key, 1) if not _KEY.fullmatch(one))
        raise UsageError(f"{place}: character {at} of the key is {_kind_of(strange)}, which no key has: set it again.")
    return key


def _kind_of(character: str) -> str:
    if character in " \t\r\n":
        return "a blank or a newline"
    return "a control character" if ord(character) < 0xA0 else "not ASCII"
