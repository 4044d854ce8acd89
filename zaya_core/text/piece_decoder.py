"""From the pieces of a tokenizer.json to bytes of text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from zaya_core.errors import CheckpointError

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class PieceDecoder:
    """tokenizer.json's decoder as a table from piece to bytes, for the kinds language models use."""

    def __init__(self, decoder: Any, path: Path) -> None:
        state: dict[str, Any] = json.loads(decoder.__getstate__()) if decoder is not None else {"type": None}
        self.drops_first_space = False
        self._prefix = ""
        self._replacements: list[tuple[str, str]] = []
        self._is_byte_level = False
        self._has_byte_pieces = False
        for step in state["decoders"] if state["type"] == "Sequence" else [state]:
            self._read_step(step, path)

    def _read_step(self, step: dict[str, Any], path: Path) -> None:
        match step:
            case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)}:
                self._replacements.append((old, new))
            case {"type": "Metaspace", "replacement": str(old), "prepend_scheme": scheme}:
                self._replacements.append((old, " "))
                self.drops_first_space |= scheme != "never"
            case {"type": "Strip", "content": " ", "start": int(start), "stop": 0}:
                self.drops_first_space |= start > 0
            case {"type": "ByteFallback"}:
                self._has_byte_pieces = True
            case {"type": "ByteLevel"}:
                self._is_byte_level = True
            case {"type": "Fuse"}:
                pass
            case {"type": None}:  # without a decoder, tokens are words
                self._prefix, self.drops_first_space = " ", True
            case _:
                raise CheckpointError(f"{path}: the decoder {json.dumps(step)} is not supported.")

    def to_bytes(self, piece: str) -> bytes:
        if self._is_byte_level:
            return _byte_level_bytes(piece)
        if self._has_byte_pieces and (match := _BYTE_PIECE.fullmatch(piece)):
            return bytes([int(match[1], 16)])
        for old, new in self._replacements:
            piece = piece.replace(old, new)
        return (self._prefix + piece).encode()


def _build_byte_level_alphabet() -> dict[str, int]:
    """GPT-2's characters for bytes: printable ones stand for themselves, the others for U+0100 onwards."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTE_LEVEL_ALPHABET = _build_byte_level_alphabet()


def _byte_level_bytes(piece: str) -> bytes:
    try:
        return bytes([_BYTE_LEVEL_ALPHABET[character] for character in piece])
    except KeyError:  # an added token is written as it is
        return piece.encode()
