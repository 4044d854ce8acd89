"""Token ids ↔ text for one model folder.

Text is never trusted: `encode` gives ordinary tokens only, and only `render_chat` puts control tokens into a
prompt, where the folder's own template has them. Decoding is a table from id to bytes, so that text can be given
out token by token. Nothing here knows tensors, and nothing from the folder is executed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.errors import ModelNotFoundError
from zaya_core.text.control_names import ControlNames, Segment
from zaya_core.text.declared_tokens import DeclaredTokens
from zaya_core.text.detokenizer import Detokenizer
from zaya_core.text.json_vocabulary import JsonVocabulary
from zaya_core.text.piece_vocabulary import PieceVocabulary
from zaya_core.text.surrogates import without_surrogates
from zaya_core.text.template.chat_template import ChatTemplate, load_chat_template
from zaya_core.text.token_names import THINK_END, THINK_START, TURN_END, TURN_END_ID, TURN_START
from zaya_core.text.vocabulary import Vocabulary


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

    def encode(self, text: str, parse_special: bool = False) -> list[int]:
        """Ordinary tokens of plain text: no BOS or EOS is added, `<|im_end|>` is ten characters.

        parse_special: the names of control tokens are those tokens, as for the text of a prompt that was rendered
        elsewhere. Never for what people write.
        """
        return self._encode_segments(self._names.split(text) if parse_special else [Segment(text, False)])

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        detokenizer = self.detokenizer(skip_special_tokens)
        return "".join([detokenizer.add(id_) for id_ in ids]) + detokenizer.flush()

    def detokenizer(self, skip_special_tokens: bool = True) -> Detokenizer:
        return Detokenizer(self._vocabulary, self.control_ids if skip_special_tokens else frozenset())

    def id_of(self, name: str) -> int | None:
        """A token by its name in the vocabulary, a control token or a piece."""
        return self._vocabulary.id_of(name)

    def bytes_of(self, id_: int) -> bytes:
        """A token's share of the text, perhaps a part of a character; a control token's name; empty for an id from 0
        on without a token. Decoded text may lack a space that its first token has."""
        return self._vocabulary.bytes_of(id_)

    def token_text(self, id_: int) -> str:
        """For showing one token: a control token's name, half a character as U+FFFD."""
        return self.bytes_of(id_).decode("utf-8", "replace")

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
        return self._encode_segments(
            self.chat_template.render(messages, tools, enable_thinking=enable_thinking, **options)
        )

    def _encode_segments(self, segments: Sequence[Segment]) -> list[int]:
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


def load_tokenizer(path: str | Path | ModelFolder) -> Tokenizer:
    """Read a model folder's tokenizer. Raises ModelNotFoundError, CheckpointError."""
    folder = ModelFolder.of(path)
    declared = DeclaredTokens.read(folder)
    vocabulary = _open_vocabulary(folder.path, declared)
    bos_name = vocabulary.name_of(declared.bos_id) if declared.bos_id is not None else None
    variables = {"bos_token": bos_name or "", **declared.variables}
    names = ControlNames(vocabulary.control)
    return Tokenizer(vocabulary, names, declared, load_chat_template(folder, variables, names))


def _open_vocabulary(folder: Path, declared: DeclaredTokens) -> Vocabulary:
    if os.path.lexists(folder / "tokenizer.json"):
        return JsonVocabulary(folder / "tokenizer.json", declared)
    if os.path.lexists(folder / "tokenizer.model"):
        return PieceVocabulary(folder / "tokenizer.model", declared)
    raise ModelNotFoundError(
        f"{folder} has no tokenizer: expected tokenizer.json or tokenizer.model; download the model folder again."
    )
