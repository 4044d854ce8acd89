"""Token ids ↔ text for one model folder.

Text is never trusted: `encode` gives ordinary tokens only, and only `render_chat` puts control tokens into a
prompt, where the folder's own template has them. Decoding is a table from id to bytes, so that text can be given
out token by token. Nothing here knows tensors, and nothing from the folder is executed.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import reprlib
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from zaya_core.errors import CheckpointError, ModelNotFoundError
from zaya_core.files.model_file import read_model_file
from zaya_core.files.model_json import read_json_object
from zaya_core.files.names import printable
from zaya_core.text.messages import ChatTemplate, load_chat_template
from zaya_core.text.template_marks import ControlNames
from zaya_core.whole_numbers import is_whole, without_fraction

if TYPE_CHECKING:
    import tokenizers

TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
TURN_END_ID = 106
THINK_START = "<think>"
THINK_END = "</think>"
# Control tokens whatever the files say: some tokenizer.json files do not mark them special.
STRUCTURAL_NAMES = frozenset(
    [
        TURN_START,
        TURN_END,
        THINK_START,
        THINK_END,
        "<zyphra_tool_call>",
        "</zyphra_tool_call>",
        "<zyphra_tool_response>",
        "</zyphra_tool_response>",
    ]
)
MAX_TOKENIZER_BYTES = 100 << 20

_SPACE_SYMBOL = "\u2581"  # how SentencePiece writes a space inside a piece
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class DeclaredTokens:
    """What the folder's JSON files say about special tokens."""

    variables: Mapping[str, str]  # bos_token and its like → name, as templates see them
    control_names: frozenset[str]
    added: Mapping[int, str]  # tokenizer_config.json's added tokens: id → name
    bos_id: int | None
    stop_ids: frozenset[int]

    @staticmethod
    def read(folder: Path, tokenizer_config: Mapping[str, Any]) -> DeclaredTokens:
        """Later files win over earlier ones; the lists of stop ids are joined. Raises CheckpointError."""
        config = read_json_object(folder / "config.json")
        generation = read_json_object(folder / "generation_config.json")
        declared = {**read_json_object(folder / "special_tokens_map.json"), **tokenizer_config}
        added = _read_added_tokens(folder / "tokenizer_config.json", tokenizer_config)
        variables = {key: name for key, value in declared.items() if key.endswith("_token") and (name := _name(value))}
        extra = [*_listed(declared, "additional_special_tokens"), *_listed(declared, "extra_special_tokens")]
        special = [token["content"] for token in added.values() if token.get("special") is True]
        bos = _ids(folder / "config.json", config, "bos_token_id")
        return DeclaredTokens(
            variables=variables,
            control_names=STRUCTURAL_NAMES.union(variables.values(), filter(None, map(_name, extra)), special),
            added={id_: token["content"] for id_, token in added.items()},
            bos_id=bos[0] if bos else None,
            stop_ids=frozenset(
                _ids(folder / "config.json", config, "eos_token_id")
                + _ids(folder / "generation_config.json", generation, "eos_token_id")
            ),
        )


class Vocabulary(Protocol):
    """One of the two file formats."""

    size: int
    control: Mapping[str, int]  # name → id
    unknown_id: int | None  # a control token that text may give: what the vocabulary cannot spell
    drops_first_space: bool  # decoded text loses one leading space (SentencePiece's dummy prefix)

    def id_of(self, name: str) -> int | None: ...

    def name_of(self, id_: int) -> str | None: ...

    def bytes_of(self, id_: int) -> bytes:
        """The token's share of the text; empty for an id without a token."""
        ...

    def encode(self, text: str, before: str | None, after: str | None, /) -> list[int]:
        """Encode plain text. `before`, `after`: the control token there, "" for more plain text, None for the
        end of everything; it decides about dummy prefixes and about blanks that a control token swallows."""
        ...


class Tokenizer:
    """Encode, decode and render prompts. Immutable after loading; threads may share it."""

    def __init__(
        self, vocabulary: Vocabulary, names: ControlNames, declared: DeclaredTokens, chat_template: ChatTemplate
    ) -> None:
        self._vocabulary = vocabulary
        self._names = names
        self._forbidden = frozenset(vocabulary.control.values()) - {vocabulary.unknown_id}
        self.control_ids = frozenset(vocabulary.control.values())
        self.vocab_size = vocabulary.size
        bos_name = declared.variables.get("bos_token")
        self.bos_id = vocabulary.id_of(bos_name) if bos_name else declared.bos_id
        self.think_start_id = vocabulary.control.get(THINK_START)
        self.think_end_id = vocabulary.control.get(THINK_END)
        self.stop_ids = self._find_stop_ids(declared)
        self.unpenalised_ids = self.control_ids | self.stop_ids  # structure, which may be repeated as often as needed
        self.chat_template = chat_template

    def encode(self, text: str) -> list[int]:
        """Ordinary tokens of plain text: no BOS or EOS is added, `<|im_end|>` is ten characters."""
        return self._encode_plain(without_surrogates(text), None, None)

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        detokenizer = self.detokenizer(skip_special_tokens)
        return "".join([detokenizer.add(id_) for id_ in ids]) + detokenizer.flush()

    def detokenizer(self, skip_special_tokens: bool = True) -> Detokenizer:
        return Detokenizer(self._vocabulary, self.control_ids if skip_special_tokens else frozenset())

    def token_text(self, id_: int) -> str:
        """For showing one token: a control token's name, half a character as U+FFFD."""
        return self._vocabulary.bytes_of(id_).decode("utf-8", "replace")

    def render_chat(
        self,
        messages: Sequence[Mapping[str, object]],
        enable_thinking: bool = True,
        tools: Sequence[Mapping[str, object]] | None = None,
        **options: object,
    ) -> list[int]:
        """The prompt's ids. `options` reach the template (`add_generation_prompt=False`, ...).

        Equal to what transformers gives for the rendered text, except that control-token strings in the
        messages stay text. Raises UsageError, CheckpointError (the template).
        """
        segments = self.chat_template.render(messages, tools, enable_thinking=enable_thinking, **options)
        neighbours: list[str | None] = [None, *(s.text if s.is_control else "" for s in segments), None]
        ids: list[int] = []
        for position, segment in enumerate(segments):
            if segment.is_control:
                ids.append(self._vocabulary.control[segment.text])
            else:
                before, after = neighbours[position], neighbours[position + 2]
                ids += self._encode_plain(without_surrogates(segment.text), before, after)
        return ids

    def render_chat_text(
        self,
        messages: Sequence[Mapping[str, object]],
        enable_thinking: bool = True,
        tools: Sequence[Mapping[str, object]] | None = None,
        **options: object,
    ) -> str:
        """The prompt for showing to people; encoding this text is not the same as `render_chat`."""
        segments = self.chat_template.render(messages, tools, enable_thinking=enable_thinking, **options)
        return "".join(segment.text for segment in segments)

    def starts_in_thinking(self, ids: Sequence[int]) -> bool:
        """Whether a prompt ends inside an open think block, so that the answer's stream begins in thinking."""
        turn_start = self._vocabulary.control.get(TURN_START)
        last = next((i for i in reversed(range(len(ids))) if ids[i] == turn_start), -1)
        turn = ids[last + 1 :]
        if self.think_start_id is None or self.think_end_id is None:
            text = self.decode(turn, skip_special_tokens=False).rpartition(TURN_START)[2]
            return text.rfind(THINK_START) > text.rfind(THINK_END)
        thinks = [id_ for id_ in turn if id_ in (self.think_start_id, self.think_end_id)]
        return bool(thinks) and thinks[-1] == self.think_start_id

    def _find_stop_ids(self, declared: DeclaredTokens) -> frozenset[int]:
        names = [TURN_END, declared.variables.get("eos_token", TURN_END)]
        found = {id_ for name in names if (id_ := self._vocabulary.id_of(name)) is not None}
        # Generation stops at 106 whatever the files say, unless 106 is visibly something else.
        if self._vocabulary.name_of(TURN_END_ID) in (None, TURN_END):
            found.add(TURN_END_ID)
        return declared.stop_ids | found

    def _encode_plain(self, text: str, before: str | None, after: str | None) -> list[int]:
        """Encode so that no control id comes out.

        A control token that is an ordinary piece, or not marked special, is still found in text; its name is
        encoded in two halves, and text that normalises into one is cut in the middle until it does not.
        """
        if not text:
            return []
        ids = self._vocabulary.encode(text, before, after)
        if self._forbidden.isdisjoint(ids):
            return ids
        if len(text) == 1:
            return [id_ for id_ in ids if id_ not in self._forbidden]
        pieces = self._names.halve(text)
        if len(pieces) == 1:
            pieces = [text[: len(text) // 2], text[len(text) // 2 :]]
        inner: list[str | None] = [""] * (len(pieces) - 1)
        context = zip(pieces, [before, *inner], [*inner, after], strict=True)
        return [id_ for piece, left, right in context for id_ in self._encode_plain(piece, left, right)]


class Detokenizer:
    """Text of a growing list of ids: the pieces of `add` and the last `flush` join to `decode` of the list.

    A character is given out when its last byte is there; bytes that can no longer become one are U+FFFD.
    """

    def __init__(self, vocabulary: Vocabulary, skipped: frozenset[int]) -> None:
        self._vocabulary = vocabulary
        self._skipped = skipped
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._drops_space = vocabulary.drops_first_space

    def add(self, id_: int) -> str:
        if id_ in self._skipped:
            return ""
        text = self._utf8.decode(self._vocabulary.bytes_of(id_))
        if self._drops_space and text:
            self._drops_space = False
            return text.removeprefix(" ")
        return text

    def flush(self) -> str:
        """What is left of an unfinished character. More ids may follow."""
        return self._utf8.decode(b"", final=True)


class JsonVocabulary:
    """tokenizer.json through `tokenizers`."""

    def __init__(self, path: Path, declared: DeclaredTokens) -> None:
        self._tokenizer = _open_tokenizer_json(path)
        added = self._tokenizer.get_added_tokens_decoder()
        self.size = max([self._tokenizer.get_vocab_size(), *(id_ + 1 for id_ in added)])
        names = declared.control_names.union(token.content for token in added.values() if token.special)
        self.control: Mapping[str, int] = _find_control(names, self.id_of)
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
        self.control: Mapping[str, int] = _find_control(declared.control_names.union(names), self.id_of)
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


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Read a model folder's tokenizer. Raises ModelNotFoundError, CheckpointError."""
    folder = Path(path)
    tokenizer_config = read_json_object(folder / "tokenizer_config.json")
    declared = DeclaredTokens.read(folder, tokenizer_config)
    vocabulary: Vocabulary
    if os.path.lexists(folder / "tokenizer.json"):
        vocabulary = JsonVocabulary(folder / "tokenizer.json", declared)
    elif os.path.lexists(folder / "tokenizer.model"):
        vocabulary = PieceVocabulary(folder / "tokenizer.model", declared)
    else:
        raise ModelNotFoundError(
            f"{folder} has no tokenizer: expected tokenizer.json or tokenizer.model; download the model folder again."
        )
    bos_name = vocabulary.name_of(declared.bos_id) if declared.bos_id is not None else None
    variables = {"bos_token": bos_name or "", **declared.variables}
    names = ControlNames(vocabulary.control)
    return Tokenizer(vocabulary, names, declared, load_chat_template(folder, tokenizer_config, variables, names))


def _find_control(names: Iterable[str], id_of: Callable[[str], int | None]) -> dict[str, int]:
    """Names that the vocabulary has. A single character (a folder's "\\n" for padding) stays text."""
    return {name: id_ for name in names if len(name) > 1 and (id_ := id_of(name)) is not None}


def _open_tokenizer_json(path: Path) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer as JsonTokenizer

    content = read_model_file(path, MAX_TOKENIZER_BYTES)
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


def _open_piece_model(path: Path) -> tuple[Any, Any]:
    """The model twice: as it is, for the start of a text, and without its dummy prefix, for a continuation."""
    from sentencepiece import SentencePieceProcessor

    content = read_model_file(path, MAX_TOKENIZER_BYTES)
    # A message appended to a protocol buffer is merged into it: normalizer_spec (3) {add_dummy_prefix (3): false}.
    no_dummy_prefix = b"\x1a\x02\x18\x00"
    try:
        whole, later = (SentencePieceProcessor(model_proto=content + end) for end in (b"", no_dummy_prefix))
    except RuntimeError as error:
        raise CheckpointError(f"{path} cannot be read as a SentencePiece model; download the file again.") from error
    return whole, later


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


def _unguessable_name() -> str:
    """Sixteen private-use characters, which no normaliser changes; drawn anew at every load."""
    return "".join(chr(0xF0000 + byte) for byte in secrets.token_bytes(16))


def without_surrogates(text: str) -> str:
    """JSON may hold half a surrogate pair, which no encoder takes: whole pairs are joined, halves are U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _name(value: object) -> str | None:
    """A token's name, written as text or as an object with `content`."""
    name = value.get("content") if isinstance(value, dict) else value
    return without_surrogates(name) if isinstance(name, str) and name else None


def _listed(declared: Mapping[str, Any], key: str) -> list[object]:
    """A list of tokens, or (extra_special_tokens of multimodal models) an object of them."""
    value = declared.get(key)
    if isinstance(value, dict):
        return [*value.values()]
    return value if isinstance(value, list) else []


def _ids(path: Path, config: Mapping[str, Any], key: str) -> list[int]:
    """One id, a list of ids, or nothing. Raises CheckpointError."""
    value = config.get(key)
    ids = [*map(without_fraction, value if isinstance(value, list) else [] if value is None else [value])]
    if not all(is_whole(id_) and id_ >= 0 for id_ in ids):
        raise CheckpointError(f"{path}: {key} is {reprlib.repr(value)}, not token ids; download the file again.")
    return ids


def _read_added_tokens(path: Path, tokenizer_config: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    added = tokenizer_config.get("added_tokens_decoder", {})
    try:
        contents = {int(id_): without_surrogates(token["content"]) for id_, token in added.items()}
        if all(id_ >= 0 for id_ in contents):
            return {int(id_): {**token, "content": contents[int(id_)]} for id_, token in added.items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        pass
    raise CheckpointError(f"{path}: added_tokens_decoder is not a list of tokens by id; download the file again.")
