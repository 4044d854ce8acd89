"""Chat messages → the prompt's text, cut into control tokens and plain text.

The folder's Jinja template is a foreign program: it runs in a sandbox that counts its work (`template_sandbox.py`),
sees plain JSON values only, and only what its own literals hold becomes a control token (`template_marks.py`).
This file knows names of tokens, not ids; `tokenizer.py` is its only caller.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

from jinja2 import StrictUndefined, Template

from zaya_core.errors import CheckpointError, UsageError
from zaya_core.files.model_file import read_model_file
from zaya_core.text.template_limits import CURRENT, Limits
from zaya_core.text.template_marks import ControlMarks, ControlNames, Segment
from zaya_core.text.template_sandbox import ChatEnvironment

ROLES = ("system", "user", "assistant", "tool")
TEMPLATE_FILE = "chat_template.jinja"
MAX_TEMPLATE_BYTES = 1 << 18  # real ones have some ten thousand; compiling takes a second for each 100,000
_CUT = "\x00"  # in no token's name
MAX_REASON = 200  # characters of a template's own words in an error

# For folders that bring no template. ZAYA's own writes the system turn even where it is empty.
BUILT_IN_TEMPLATE = """\
{%- set last_user = namespace(index=-1) %}
{%- for message in messages %}
{%- if message.role == 'user' %}{% set last_user.index = loop.index0 %}{% endif %}
{%- endfor %}
{{- bos_token }}
{%- set has_system = messages and messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' }}
{%- if has_system %}{{- messages[0].content }}{% endif %}
{%- if tools %}
{%- if has_system and messages[0].content %}{{- '\\n\\n' }}{% endif %}
{{- '# Tools\\n\\nYou have access to the following functions:\\n\\n<tools>' }}
{%- for tool in tools %}
{%- set tool = tool.function if tool.function is defined else tool %}
{{- '\\n<function>\\n<name>' ~ tool.name ~ '</name>' }}
{%- if tool.description %}{{- '\\n<description>' ~ tool.description | trim ~ '</description>' }}{% endif %}
{{- '\\n<parameters>' }}
{%- set schema = tool.parameters if tool.parameters is mapping else {} %}
{%- for name, field in (schema.properties | default({}, true)) | items %}
{{- '\\n<parameter>\\n<name>' ~ name ~ '</name>' }}
{%- if field.type %}{{- '\\n<type>' ~ field.type ~ '</type>' }}{% endif %}
{%- if field.description %}{{- '\\n<description>' ~ field.description | trim ~ '</description>' }}{% endif %}
{%- if field.enum %}{{- '\\n<enum>' ~ field.enum | tojson ~ '</enum>' }}{% endif %}
{{- '\\n</parameter>' }}
{%- endfor %}
{%- if schema.required %}{{- '\\n<required>' ~ schema.required | tojson ~ '</required>' }}{% endif %}
{{- '\\n</parameters>\\n</function>' }}
{%- endfor %}
{{- '\\n</tools>\\n\\nIf you choose to call a function ONLY reply in the following format with NO suffix:\\n\\n' }}
{{- '<zyphra_tool_call>\\n<function=example_function_name>\\n<parameter=example_parameter>\\nvalue\\n' }}
{{- '</parameter>\\n</function>\\n</zyphra_tool_call>' }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{%- if loop.first or loop.previtem.role != 'tool' %}{{- '<|im_start|>user\\n' }}{% else %}{{- '\\n' }}{% endif %}
{{- '<zyphra_tool_response>\\n' ~ message.content ~ '\\n</zyphra_tool_response>' }}
{%- if loop.last or loop.nextitem.role != 'tool' %}{{- '<|im_end|>\\n' }}{% endif %}
{%- elif message.role == 'assistant' %}
{{- '<|im_start|>assistant\\n<think>\\n' }}
{%- if loop.index0 > last_user.index and message.reasoning_content %}
{{- message.reasoning_content | trim ~ '\\n' }}
{%- endif %}
{{- '</think>\\n\\n' ~ message.content | default('', true) }}
{%- for call in message.tool_calls | default([], true) %}
{%- set call = call.function if call.function is defined else call %}
{%- if message.content or not loop.first %}{{- '\\n' }}{% endif %}
{{- '<zyphra_tool_call>\\n<function=' ~ call.name ~ '>\\n' }}
{%- for name, value in (call.arguments if call.arguments is mapping else {}) | items %}
{{- '<parameter=' ~ name ~ '>\\n' ~ (value if value is string else value | tojson) ~ '\\n</parameter>\\n' }}
{%- endfor %}
{{- '</function>\\n</zyphra_tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif not (loop.first and has_system) %}
{{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n<think>\\n' }}
{%- if enable_thinking is defined and not enable_thinking %}{{- '</think>\\n\\n' }}{% endif %}
{%- endif %}
"""


class _Role(TypedDict):
    role: Literal["system", "user", "assistant", "tool"]


class Message(_Role, total=False):
    """One turn. `content` may also be OpenAI's list of text parts, which is joined."""

    content: str | list[dict[str, str]] | None
    reasoning_content: str | None
    tool_calls: list[dict[str, Any]] | None
    tool_call_id: str
    name: str


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
            tool_list = _plain_value([*tools], "tools") if tools else None
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


def load_chat_template(
    folder: Path, tokenizer_config: Mapping[str, object], variables: Mapping[str, str], names: ControlNames
) -> ChatTemplate:
    """The folder's template: `chat_template.jinja`, else tokenizer_config.json's, else the built-in ChatML."""
    path = folder / TEMPLATE_FILE
    if os.path.lexists(path):
        return ChatTemplate(_read_template(path), str(path), variables, names)
    declared = tokenizer_config.get("chat_template")
    origin = str(folder / "tokenizer_config.json")
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


def read_messages(messages: Sequence[Mapping[str, object]]) -> list[dict[str, Any]]:
    """Check roles and types, join text parts, parse tool arguments given as JSON text.

    Raises UsageError that names the message by its number, counted from 1.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not messages:
        raise UsageError("A conversation is a list of at least one message with a role and a content.")
    return [_read_message(message, f"message {number}") for number, message in enumerate(messages, start=1)]


def _read_message(message: Mapping[str, object], where: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise UsageError(f"{where} is {type(message).__name__}, not an object with a role and a content.")
    plain: dict[str, Any] = _plain_value(message, where)
    role = plain.get("role")
    if role not in ROLES:
        raise UsageError(f"{where} has the role {role!r}; known are {', '.join(ROLES)}.")
    plain["content"] = _read_content(plain.get("content"), f"{where} ({role})")
    if not isinstance(plain.get("reasoning_content"), (str, type(None))):
        raise UsageError(f"{where} ({role}): reasoning_content is not text.")
    if plain.get("tool_calls") is not None:
        plain["tool_calls"] = _read_tool_calls(plain["tool_calls"], where)
    return plain


def _read_content(content: object, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{where}: content is not text; this model reads text only.")
    return "".join(str(text) for text in texts)


def _read_tool_calls(calls: object, where: str) -> list[dict[str, Any]]:
    """OpenAI clients send arguments as JSON text, templates iterate over an object: parse where it is one."""
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise UsageError(f"{where}: tool_calls is not a list of objects.")
    for call in calls:
        function = call.get("function", call)
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise UsageError(f"{where}: a tool call has no function name.")
        if isinstance(function.get("arguments"), str):
            try:
                parsed = json.loads(function["arguments"])
            except (ValueError, RecursionError):
                continue
            if isinstance(parsed, dict):
                function["arguments"] = parsed
    return calls


def _plain_value(value: object, where: str) -> Any:
    """A copy in exact JSON types: objects with methods of their own stay outside the sandbox."""
    if value is None or isinstance(value, bool):
        return value
    for exact in (str, int, float):
        if isinstance(value, exact):
            return exact(value)
    if isinstance(value, Mapping):
        return {str(key): _plain_value(item, where) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_value(item, where) for item in value]
    raise UsageError(f"{where} holds a {type(value).__name__}; only JSON values can go into a prompt.")


def _read_template(path: Path) -> str:
    content = read_model_file(path, MAX_TEMPLATE_BYTES)
    try:
        return content.decode().replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8 text ({error}); download the file again.") from error
