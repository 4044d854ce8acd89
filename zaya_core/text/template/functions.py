"""What a template may call and write besides Jinja's own: each counted, none a way out of the sandbox."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import SandboxedEnvironment, SandboxedFormatter
from jinja2.utils import Namespace

from zaya_core.text.template.limits import CURRENT
from zaya_core.text.template.marks import ControlMarks


class Format:
    """`text.format` and `text.format_map`, counted."""

    __name__ = "format"

    def __init__(self, environment: SandboxedEnvironment, text: str, takes_mapping: bool) -> None:
        self._environment = environment
        self._text = text
        self._takes_mapping = takes_mapping

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        CURRENT.get().spend_text(len(self._text))
        if self._takes_mapping:
            (kwargs,), args = args, ()
        return _Formatter(self._environment).vformat(self._text, args, kwargs)


class _Formatter(SandboxedFormatter):
    def __init__(self, environment: SandboxedEnvironment) -> None:
        super().__init__(environment)
        self._length = 0

    def convert_field(self, value: Any, conversion: Any) -> Any:
        CURRENT.get().spend_all(value)
        return super().convert_field(value, conversion)

    def format_field(self, value: Any, format_spec: str) -> Any:
        limits = CURRENT.get()
        limits.check_widths(format_spec)
        limits.spend_all(value)
        text = super().format_field(value, format_spec)
        self._length += len(text)
        limits.check_text(self._length)
        return text


class GenerationBlock(Extension):
    """`{% generation %}` marks the model's own text for training; here it is its body."""

    tags = {"generation"}  # noqa: RUF012  (jinja's own declaration)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class PlainNamespace(Namespace):
    """Without underscore names, which lead out of the sandbox."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # a template may write namespace(self=...)
        given = dict(*args[1:], **kwargs)
        for name in given:
            _refuse_underscore(name)
        Namespace.__init__(args[0], given)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_underscore(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<namespace>"  # its values may be this namespace, or others without end


def _refuse_underscore(name: object) -> None:
    if str(name).startswith("_"):
        raise SecurityError(f"a namespace may not hold {name!r}")


def make_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    """`dict`."""
    CURRENT.get().spend_all(args)
    return dict(*args, **kwargs)


def raise_exception(message: object) -> None:
    """How a template refuses a conversation."""
    CURRENT.get().spend_all(message)
    raise TemplateError(str(message))


def strftime_now(form: str) -> str:
    """The date, as a template wants it."""
    CURRENT.get().check_format(form, ())
    return datetime.now().strftime(form)


def to_json(
    marks: ControlMarks,
    value: object,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes <, > and & for HTML."""
    limits = CURRENT.get()
    encoder = json.JSONEncoder(ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys)
    pieces = []
    length = 0
    for piece in encoder.iterencode(value):
        limits.spend_text(len(piece))
        limits.check_text(length := length + len(piece))
        pieces.append(piece)
    text = "".join(pieces)
    return _NOT_ASCII.sub(_escaped, marks.unmark(text)) if ensure_ascii else text


_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


def _escaped(character: re.Match[str]) -> str:
    return json.dumps(character[0])[1:-1]
