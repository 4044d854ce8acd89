"""The vocabulary of a tokenizer.json, by the library `tokenizers`."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zaya_core.errors import CheckpointError
from zaya_core.files.model_file import read_model_file
from zaya_core.files.names import printable
from zaya_core.text.declared_tokens import DeclaredTokens
from zaya_core.text.piece_decoder import PieceDecoder
from zaya_core.text.vocabulary import MOST_BYTES, find_control

if TYPE_CHECKING:
    import tokenizers


class JsonVocabulary:
    """tokenizer.json through `tokenizers`."""

    def __init__(self, path: Path, declared: DeclaredTokens) -> None:
        self._tokenizer = _open_tokenizer_json(path)
        added = self._tokenizer.get_added_tokens_decoder()
        self.size = max([self._tokenizer.get_vocab_size(), *(id_ + 1 for id_ in added)])
        names = declared.control_names.union(token.content for token in added.values() if token.special)
        self.control: Mapping[str, int] = find_control(names, self.id_of)
        unknown = getattr(self._tokenizer.model, "unk_token", None) or declared.variables.get("unk_token", "<unk>")
        self.unknown_id = self._tokenizer.token_to_id(unknown)
        self._decoder = PieceDecoder(self._tokenizer.decoder, path)
        self.drops_first_space = self._decoder.drops_first_space
        self._bytes: dict[int, bytes] = {}
        self._hide_control_tokens(added)

    def id_of(self, name: str) -> int | None:
        return self._tokenizer.token_to_id(name)

    def name_of(self, id_: int) -> str | None:
        return self._tokenizer.id_to_token(id_) if 0 <= id_ < self.size else None

    def bytes_of(self, id_: int) -> bytes:
        if (known := self._bytes.get(id_)) is None:
            name = self.name_of(id_)
            known = self._bytes[id_] = b"" if name is None else self._decoder.to_bytes(name)
        return known

    def encode(self, text: str, before: str | None, after: str | None) -> list[int]:
        left = None if before is None else self._anchor(before)
        right = None if after is None else self._anchor(after)
        ids: list[int] = self._tokenizer.encode((left or "") + text + (right or ""), add_special_tokens=False).ids
        # A normaliser may put its dummy prefix before the left anchor: take what lies between the two.
        start = 0 if left is None else ids.index(self._anchor_ids[left]) + 1
        end = len(ids) if right is None else len(ids) - 1 - ids[::-1].index(self._anchor_ids[right])
        return ids[start:end]

    def _hide_control_tokens(self, added: Mapping[int, tokenizers.AddedToken]) -> None:
        """Make special tokens invisible in text, and give each kind of control token an anchor that stands for it.

        An anchor is an added token with a name nobody can guess, and swallows blanks where the control tokens it
        stands for do. Text beside it is encoded as beside them, dummy prefixes and all.
        """
        from tokenizers import AddedToken

        hidden = [token for token in added.values() if token.content in self.control]
        blanks = {token.content: (token.lstrip, token.rstrip) for token in hidden}
        anchors = {flags: _unguessable_name() for flags in {(False, False), *blanks.values()}}
        self._anchor_of = {name: anchors[flags] for name, flags in blanks.items()}
        self._plain_anchor = anchors[False, False]
        self._tokenizer.add_tokens(
            [AddedToken(name, lstrip=left, rstrip=right, normalized=False) for (left, right), name in anchors.items()]
        )
        # Hides what the file marks special; the few that it does not mark are caught in `Tokenizer._encode_plain`.
        self._tokenizer.encode_special_tokens = True
        self._anchor_ids = {name: self._tokenizer.token_to_id(name) or 0 for name in anchors.values()}

    def _anchor(self, neighbour: str) -> str:
        return self._anchor_of.get(neighbour, self._plain_anchor)


def _open_tokenizer_json(path: Path) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer as JsonTokenizer

    content = read_model_file(path, MOST_BYTES)
    try:
        tokenizer = JsonTokenizer.from_buffer(content)
    except Exception as error:  # the library raises bare Exception for anything it cannot read
        raise CheckpointError(
            f"{path} cannot be read as a tokenizer ({printable(str(error))}); download the file again."
        ) from error
    # Both may be left in the file from training, and would shorten or fill every prompt.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _unguessable_name() -> str:
    """Sixteen private-use characters, which no normaliser changes; drawn anew at every load."""
    return "".join(chr(0xF0000 + byte) for byte in secrets.token_bytes(16))
