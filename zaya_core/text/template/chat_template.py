"""Chat messages → the prompt's text, cut into control tokens and plain text.

The folder's Jinja template is a foreign program: it runs in a sandbox that counts its work (`sandbox.py`), sees plain
JSON values only, and only what its own literals hold becomes a control token (`marks.py`). This file knows names of
tokens, not ids; `tokenizer.py` is its only caller.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jinja2 import StrictUndefined, Template

from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.errors import CheckpointError, UsageError
from zaya_core.files.model_file import read_model_file
from zaya_core.files.model_json import TOKENIZER_CONFIG
from zaya_core.text.control_names import ControlNames, Segment
from zaya_core.text.messages import plain_value, read_messages
from zaya_core.text.template.built_in import BUILT_IN_TEMPLATE
from zaya_core.text.template.limits import CURRENT, Limits
from zaya_core.text.template.marks import ControlMarks
from zaya_core.text.template.sandbox import ChatEnvironment

TEMPLATE_FILE = "chat_template.jinja"
MAX_TEMPLATE_BYTES = 1 << 18  # real ones have some ten thousand; compiling takes a second for each 100,000
_CUT = "\x00"  # in no token's name
MAX_REASON = 200  # characters of a template's own words in an error


class ChatTemplate:
    """A compiled template. `origin` says where it came from, for messages to people."""

    def __init__(self, source: str, origin: str, variables: Mapping[str, str], names: ControlNames) -> None:
        """`variables`: bos_token and its like, visible to the template. Raises CheckpointError."""
        self.source = source
        self.origin = origin
        self._names = names
        self._marks = ControlMarks(names, source)
        given = {"bos_token": "", "eos_token": "", **variables}
        self._variables = {key: self._marks.mark(value) for key, value in given.items()}
        try:
            self._template = ChatEnvironment(self._marks).compile_marked(source)
        except Exception as error:  # jinja's errors, and Python's own for what jinja makes of the template
            raise CheckpointError(
                f"{origin}: the chat template cannot be compiled ({_shown(error)}); download the model folder again."
            ) from error

    @property
    def note(self) -> str | None:
        """What people should know about the template, once a run."""
        if self.source is not BUILT_IN_TEMPLATE:
            return None
        return f"the model folder has no chat template ({TEMPLATE_FILE}); prompts are written with the built-in one."

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        tools: Sequence[Mapping[str, object]] | None = None,
        **options: object,
    ) -> list[Segment]:
        """Render, and cut at the template's own control tokens; text from `messages` and `tools` is always plain.

        Raises UsageError for a malformed message (with its number), CheckpointError where the template fails.
        """
        try:
            chat = read_messages(messages)
            tool_list = plain_value([*tools], "tools") if tools else None
            given = json.dumps([chat, tool_list], ensure_ascii=False) + str(options)
        except RecursionError as error:
            raise UsageError("A message or a tool holds lists or objects nested too deeply.") from error
        settings = {"add_generation_prompt": True, "documents": None, **self._variables, **options}
        try:
            text = _write(self._template, Limits(len(given)), {"messages": chat, "tools": tool_list, **settings})
        except Exception as error:  # a template is a foreign program: whatever it raises is its own failure
            raise CheckpointError(
                f"{self.origin}: the chat template failed on this conversation: {_shown(error)}"
            ) from error
        segments = self._marks.split(text)
        self._check_output(segments, given, chat, settings)
        return segments

    def _check_output(
        self,
        segments: Sequence[Segment],
        given: str,
        chat: Sequence[Mapping[str, object]],
        settings: Mapping[str, object],
    ) -> None:
        """Refuse a template whose own control tokens came out as text."""
        plain = _CUT.join(part.text for part in segments if not part.is_control)
        if self._marks.has_pieces(plain, given):
            raise CheckpointError(f"{self.origin}: the chat template cuts its own control tokens into pieces.")
        if self._names.find(plain) and (name := self._spelled_name(chat, settings)):
            raise CheckpointError(
                f"{self.origin}: the chat template puts {name} together out of pieces, so that it cannot be told from "
                "what people write; write it in one piece."
            )

    def _spelled_name(self, chat: Sequence[Mapping[str, object]], settings: Mapping[str, object]) -> str | None:
        """A control token that is spelled out in the prompt although nobody wrote anything."""
        silent = [{"role": message["role"], "content": "x"} for message in chat]
        try:
            text = _write(self._template, Limits(), {"messages": silent, "tools": None, **settings})
        except Exception:  # the template wants more than that: nothing is known
            return None
        plain = _CUT.join(segment.text for segment in self._marks.split(text) if not segment.is_control)
        return next((part.text for part in self._names.split(plain) if part.is_control), None)


def compile_in_sandbox(source: str) -> Callable[[Mapping[str, object]], str]:
    """A template that is not a chat's, which writes a text from variables. Compiling and writing raise as Jinja does.

    What is not there is an error, not an empty text.
    """
    environment = ChatEnvironment(ControlMarks(ControlNames(()), source))
    environment.undefined = StrictUndefined
    template = environment.compile_marked(source)
    return lambda values: _write(template, Limits(len(json.dumps(values))), values)


def _write(template: Template, limits: Limits, values: Mapping[str, object]) -> str:
    token = CURRENT.set(limits)
    try:
        pieces, length = [], 0
        for piece in template.generate(values):
            limits.check_text(length := length + len(piece))
            pieces.append(piece)
        return "".join(pieces)
    finally:
        CURRENT.reset(token)


def _shown(error: Exception) -> str:
    """What went wrong, on one line of a bearable length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MAX_REASON else text[: MAX_REASON - 1] + "…"


def load_chat_template(folder: ModelFolder, variables: Mapping[str, str], names: ControlNames) -> ChatTemplate:
    """The folder's template: `chat_template.jinja`, else tokenizer_config.json's, else the built-in ChatML."""
    path = folder.path / TEMPLATE_FILE
    if os.path.lexists(path):
        return ChatTemplate(_read_template(path), str(path), variables, names)
    declared = folder.json_object(TOKENIZER_CONFIG).get("chat_template")
    origin = str(folder.path / TOKENIZER_CONFIG)
    if declared is None:
        return ChatTemplate(BUILT_IN_TEMPLATE, "the built-in chat template", variables, names)
    if isinstance(declared, list):
        named = {t.get("name"): t.get("template") for t in declared if isinstance(t, dict)}
        declared = named.get("default")
    if not isinstance(declared, str):
        raise CheckpointError(f"{origin}: chat_template is neither text nor a list with a template named 'default'.")
    if len(declared.encode("utf-8", "replace")) > MAX_TEMPLATE_BYTES:
        raise CheckpointError(f"{origin}: the chat template is larger than {MAX_TEMPLATE_BYTES} bytes.")
    return ChatTemplate(declared, origin, variables, names)


def _read_template(path: Path) -> str:
    content = read_model_file(path, MAX_TEMPLATE_BYTES)
    try:
        return content.decode().replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8 text ({error}); download the file again.") from error
