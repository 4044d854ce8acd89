"""JSON that carries a checksum of itself, so that a flipped bit is not taken for what was saved."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_CHECKSUM = "checksum"


def sealed(value: Mapping[str, Any]) -> bytes:
    """The object with its checksum, as UTF-8."""
    plain = json.loads(json.dumps(value))
    whole = {**plain, _CHECKSUM: _checksum(plain)}
    try:
        return json.dumps(whole, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a character, as the command line hands on a byte that is no text
        return json.dumps(whole).encode()


def unsealed(content: bytes) -> dict[str, Any]:
    """What was sealed. Raises ValueError for anything else."""
    value, checksum = _opened(content)
    if checksum != _checksum(value):
        raise ValueError("checksum")
    return value


def unsealed_or_edited(content: bytes) -> tuple[dict[str, Any], bool]:
    """An object, and whether it was changed since it was sealed. Raises ValueError for what is no object."""
    value, checksum = _opened(content)
    return value, checksum is not None and checksum != _checksum(value)


def _opened(content: bytes) -> tuple[dict[str, Any], Any]:
    """(the object without its checksum, that)"""
    try:
        value = json.loads(content.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value, value.pop(_CHECKSUM, None)


def _checksum(value: dict[str, Any]) -> str:
    """Of the values, whatever their order and spelling in the file."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()
