"""Chat messages → the prompt's text, cut into control tokens and plain text.

The folder's Jinja template is a foreign program: it runs in a sandbox, sees plain JSON values only, and whatever
people wrote passes through it with every control-token string broken up, so that what is a control token
afterwards is the template's own. This file knows names of tokens, not ids; `tokenizer.py` is its only caller.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict

from jinja2 import StrictUndefined, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from zaya_core.errors import CheckpointError, UsageError

ROLES = ("system", "user", "assistant", "tool")
TEMPLATE_FILE = "chat_template.jinja"
MAX_TEMPLATE_BYTES = 1 << 20
# Keys and values that templates look up and compare; they stay whole even where a token is called `<function>`.
TEMPLATE_WORDS = frozenset(
    "role content reasoning_content tool_calls tool_call_id function name arguments description parameters "  # noqa: SIM905
    "properties required type enum items object array string number integer boolean null text".split()
)

# Written from docs/zaya_facts.md 3.6 and 3.7, for folders that bring no template.
BUILT_IN_TEMPLATE = """\
{%- set last_user = namespace(index=-1) %}
{%- for message in messages %}
{%- if message.role == 'user' %}{% set last_user.index = loop.index0 %}{% endif %}
{%- endfor %}
{{- bos_token }}
{%- set has_system = messages and messages[0].role == 'system' %}
{%- if has_system or tools %}
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
{%- endif %}
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


class Segment(NamedTuple):
    """A stretch of a rendered prompt: the name of one control token, or plain text."""

    text: str
    is_control: bool


class ControlNames:
    """The strings that are control tokens, found in text the way the tokenizer finds them: leftmost, longest."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)  # each of two characters or more, or it could not be broken up
        self._lengths = sorted({len(name) for name in self._names}, reverse=True)
        self._first = re.compile("|".join(re.escape(c) for c in sorted({n[0] for n in self._names})) or r"(?!)")
        self._beginnings = frozenset(name[:k] for name in self._names for k in range(1, len(name)))
        self._endings = frozenset(name[k:] for name in self._names for k in range(1, len(name)))
        insides = (name.strip(edge) for name in self._names for edge in ("<>", "</>"))
        self._insides = frozenset(insides) - TEMPLATE_WORDS

    def find(self, text: str, start: int = 0) -> tuple[int, int] | None:
        """(begin, end) of the first name at or after `start`."""
        # Lengths, not one big alternation: vocabularies with thousands of names made the regex slow at every `<`.
        for match in self._first.finditer(text, start):
            begin = match.start()
            for length in self._lengths:
                if (name := text[begin : begin + length]) in self._names:
                    return begin, begin + len(name)
        return None

    def split(self, text: str) -> list[Segment]:
        """Cut at every name; empty plain stretches are left out."""
        segments = []
        position = 0
        while (found := self.find(text, position)) is not None:
            segments += [Segment(text[position : found[0]], False), Segment(text[found[0] : found[1]], True)]
            position = found[1]
        segments.append(Segment(text[position:], False))
        return [segment for segment in segments if segment.text]

    def halve(self, text: str) -> list[str]:
        """Cut in the middle of every name, so that no piece holds one."""
        pieces = []
        position = 0
        while (found := self.find(text, position)) is not None:
            middle = sum(found) // 2
            pieces.append(text[position:middle])
            position = middle
        return [*pieces, text[position:]]

    def break_up(self, text: str, sentinel: str) -> str:
        """Put the sentinel inside every name, and where this text could be part of a name with its neighbours.

        `a<think>b` → `a<☐think>b`; `x <|im_ ` → `x <|im_☐ ` (a template may trim it and go on with `end|>`);
        `think` → `t☐hink` (a template may write `<` ~ key ~ `>`).
        """
        begin, end = len(text) - len(text.lstrip()), len(text.rstrip())
        core = text[begin:end]
        cuts = {begin + 1} if core in self._insides else set()
        for length in range(1, max(self._lengths, default=1)):
            if core[:length] in self._endings:
                cuts.add(begin)
            if core[-length:] in self._beginnings:
                cuts.add(end)
        position = 0
        while (found := self.find(text, position)) is not None:
            position = found[0] + 1
            cuts.add(position)
        edges = [0, *sorted(cuts), len(text)]
        return sentinel.join(text[left:right] for left, right in pairwise(edges))


class ChatTemplate:
    """A compiled template. `origin` says where it came from, for messages to people."""

    def __init__(self, source: str, origin: str, variables: Mapping[str, str]) -> None:
        """`variables`: bos_token and its like, visible to the template. Raises CheckpointError."""
        self.source = source
        self.origin = origin
        self._variables = {"bos_token": "", "eos_token": "", **variables}
        try:
            self._template = _build_environment().from_string(source)
        except (TemplateError, RecursionError) as error:
            raise CheckpointError(
                f"{origin}: the chat template cannot be compiled ({error}); download the model folder again."
            ) from error

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        names: ControlNames,
        tools: Sequence[Mapping[str, object]] | None = None,
        **options: object,
    ) -> list[Segment]:
        """Render, and cut at the template's own control tokens; text from `messages` and `tools` is always plain.

        Raises UsageError for a malformed message (with its number), CheckpointError where the template fails.
        """
        chat = read_messages(messages)
        tool_list = _plain_value([*tools], "tools") if tools else None
        given = json.dumps([chat, tool_list], ensure_ascii=False) + str(options)
        sentinel = _unused_character(self.source + given)
        protect = partial(_map_strings, partial(names.break_up, sentinel=sentinel))
        # Roles are from a fixed list, and the template compares them.
        protected = [{**protect(message), "role": message["role"]} for message in chat]
        settings = {"add_generation_prompt": True, "documents": None, **self._variables, **options}
        try:
            text = self._template.render(messages=protected, tools=protect(tool_list), **settings)
        except Exception as error:  # a template is a foreign program: whatever it raises is its own failure
            raise CheckpointError(f"{self.origin}: the chat template failed on this conversation: {error}") from error
        segments = (Segment(part.text.replace(sentinel, ""), part.is_control) for part in names.split(text))
        return [segment for segment in segments if segment.text]


def load_chat_template(
    folder: Path, tokenizer_config: Mapping[str, object], variables: Mapping[str, str]
) -> ChatTemplate:
    """The folder's template: `chat_template.jinja`, else tokenizer_config.json's, else the built-in ChatML."""
    path = folder / TEMPLATE_FILE
    if path.is_file():
        return ChatTemplate(_read_template(path), str(path), variables)
    declared = tokenizer_config.get("chat_template")
    origin = str(folder / "tokenizer_config.json")
    if declared is None:
        return ChatTemplate(BUILT_IN_TEMPLATE, "the built-in chat template", variables)
    if isinstance(declared, list):
        named = {t.get("name"): t.get("template") for t in declared if isinstance(t, dict)}
        declared = named.get("default")
    if not isinstance(declared, str):
        raise CheckpointError(f"{origin}: chat_template is neither text nor a list with a template named 'default'.")
    if len(declared.encode("utf-8", "replace")) > MAX_TEMPLATE_BYTES:
        raise CheckpointError(f"{origin}: the chat template is larger than {MAX_TEMPLATE_BYTES} bytes.")
    return ChatTemplate(declared, origin, variables)


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


def _map_strings(change: Any, value: Any) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): _map_strings(change, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_strings(change, item) for item in value]
    return value


def _private_characters() -> Iterator[str]:
    return map(chr, chain(range(0xE000, 0xF900), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE)))


def _unused_character(text: str) -> str:
    used = set(text)
    for character in _private_characters():
        if character not in used:
            return character
    raise UsageError("The conversation uses every private-use character of Unicode; remove some.")


def _read_template(path: Path) -> str:
    size = path.stat().st_size
    if size > MAX_TEMPLATE_BYTES:
        raise CheckpointError(f"{path}: {size} bytes; a chat template has at most {MAX_TEMPLATE_BYTES}.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8 text ({error}); download the file again.") from error


class _GenerationBlock(Extension):
    """`{% generation %}` marks the model's own text for training; here it is its body."""

    tags = {"generation"}  # noqa: RUF012  (jinja's own declaration)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _PlainNamespace(Namespace):
    """Without underscore names, which lead out of the sandbox."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # a template may write namespace(self=...)
        given = dict(*args[1:], **kwargs)
        for name in given:
            _refuse_underscore(name)
        Namespace.__init__(args[0], given)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_underscore(name)
        super().__setitem__(name, value)


def _refuse_underscore(name: object) -> None:
    if str(name).startswith("_"):
        raise SecurityError(f"a namespace may not hold {name!r}")


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes <, > and & for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def compile_in_sandbox(source: str) -> Callable[[Mapping[str, object]], str]:
    """A template that is not a chat's, which writes a text from variables. Compiling and writing raise as Jinja does.

    What is not there is an error, not an empty text.
    """
    environment = _build_environment()
    environment.undefined = StrictUndefined
    return environment.from_string(source).render


def _build_environment() -> ImmutableSandboxedEnvironment:
    """Jinja as transformers' `apply_chat_template` sets it up."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(
        raise_exception=_raise_exception,
        strftime_now=lambda form: datetime.now().strftime(form),
        namespace=_PlainNamespace,
        dict=lambda *args, **kwargs: dict(*args, **kwargs),
    )
    return environment
