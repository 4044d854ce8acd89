"""The vocabulary of a tokenizer.model, by the library `sentencepiece`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zaya_core.errors import CheckpointError
from zaya_core.files.model_file import read_model_file
from zaya_core.text.declared_tokens import DeclaredTokens
from zaya_core.text.vocabulary import MOST_BYTES, find_control

_SPACE_SYMBOL = "\u2581"  # how SentencePiece writes a space inside a piece


class PieceVocabulary:
    """tokenizer.model through `sentencepiece`.

    Tokens that tokenizer_config.json adds are known by id and name; in plain text they are ordinary characters
    unless the model file has them too (in Gemma's it does).
    """

    def __init__(self, path: Path, declared: DeclaredTokens) -> None:
        self._first, self._later = _open_piece_model(path)
        pieces = self._first.get_piece_size()
        self._added = dict(declared.added)
        self._added_ids = {name: id_ for id_, name in self._added.items()}
        self.size = max([pieces, *(id_ + 1 for id_ in self._added)])
        self.unknown_id: int | None = self._first.unk_id()
        names = [self._first.id_to_piece(id_) for id_ in range(pieces) if self._first.is_control(id_)]
        self.control: Mapping[str, int] = find_control(declared.control_names.union(names), self.id_of)
        start = self._first.encode("a", out_type=str)[:1]
        self.drops_first_space = bool(start) and start[0].startswith(_SPACE_SYMBOL)

    def id_of(self, name: str) -> int | None:
        if name in self._added_ids:
            return self._added_ids[name]
        id_: int = self._first.piece_to_id(name)
        return id_ if self.name_of(id_) == name else None

    def name_of(self, id_: int) -> str | None:
        if id_ in self._added:
            return self._added[id_]
        return self._first.id_to_piece(id_) if 0 <= id_ < self._first.get_piece_size() else None

    def bytes_of(self, id_: int) -> bytes:
        name = self.name_of(id_)
        if name is None:
            return b""
        if id_ not in self._added and self._first.is_byte(id_):
            return bytes([int(name[3:5], 16)])
        return name.replace(_SPACE_SYMBOL, " ").encode()

    def encode(self, text: str, before: str | None, _after: str | None, /) -> list[int]:
        model = self._first if before is None else self._later
        return [*model.encode(text)]


def _open_piece_model(path: Path) -> tuple[Any, Any]:
    """The model twice: as it is, for the start of a text, and without its dummy prefix, for a continuation."""
    from sentencepiece import SentencePieceProcessor

    content = read_model_file(path, MOST_BYTES)
    # A message appended to a protocol buffer is merged into it: normalizer_spec (3) {add_dummy_prefix (3): false}.
    no_dummy_prefix = b"\x1a\x02\x18\x00"
    try:
        whole, later = (SentencePieceProcessor(model_proto=content + end) for end in (b"", no_dummy_prefix))
    except RuntimeError as error:
        raise CheckpointError(f"{path} cannot be read as a SentencePiece model; download the file again.") from error
    return whole, later
