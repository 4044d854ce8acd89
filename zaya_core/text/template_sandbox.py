"""Jinja as transformers' `apply_chat_template` sets it up, in a sandbox whose every operation is counted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from jinja2 import Template, TemplateError, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import BlockReference, Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.utils import Joiner, Namespace
from jinja2.visitor import NodeTransformer

from zaya_core.text.template_limits import CURRENT, Limits
from zaya_core.text.template_marks import UNMARK, ControlMarks, MarkLiterals

_CONCATENATE, _PAY, _READ_ALL = "one text", "pay for", "read all"
# Filters that do not look into the value, or only as far as somebody takes items from them.
_LAZY_FILTERS = frozenset(
    "default d length count first last items map select selectattr reject rejectattr attr random".split()  # noqa: SIM905
)
# Likewise tests; some have the name of a filter that reads all, such as `string`.
_LAZY_TESTS = frozenset(
    "defined undefined none boolean false true integer float string mapping number sequence iterable callable "  # noqa: SIM905
    "sameas odd even divisibleby filter test escaped".split()
)
_TAKE_ITEMS = frozenset(["map", "select", "selectattr", "reject", "rejectattr", "first"])
_TOP = frozenset(["list", "reverse", "batch", "slice"])
# No chat template uses them, and what they do cannot be counted.
_LEFT_OUT_FILTERS = ("pprint", "urlize")
_LEFT_OUT_GLOBALS = ("lipsum", "cycler")
_AS_PEOPLE_READ_IT = frozenset(["e", "escape", "forceescape", "urlencode", "xmlattr", "striptags"])
_SEARCHES = frozenset(
    "split rsplit partition rpartition startswith endswith find rfind index rindex count replace removeprefix "  # noqa: SIM905
    "removesuffix strip lstrip rstrip".split()
)
_TEXT_METHODS = _SEARCHES.union(
    "capitalize casefold lower swapcase title upper isalnum isalpha isascii isdecimal isdigit isidentifier "  # noqa: SIM905
    "islower isnumeric isprintable isspace istitle isupper splitlines join center ljust rjust zfill expandtabs".split()
)
_METHODS: tuple[tuple[type, frozenset[str]], ...] = (
    (str, _TEXT_METHODS),
    (dict, frozenset(["get", "items", "keys", "values", "copy"])),
    (list, frozenset(["index", "count", "copy"])),
    (tuple, frozenset(["index", "count"])),
    (float, frozenset(["is_integer"])),
    (LoopContext, frozenset(["cycle", "changed"])),
)


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox. Operations spend from `CURRENT` limits, which `render` sets, and raise TemplateError beyond them."""

    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self, marks: ControlMarks) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_GenerationBlock, loopcontrols],
            optimized=False,  # or `'a' * 10**9` would be computed by the compiler
            finalize=_written,
        )
        self._marks = marks
        self._plain = ImmutableSandboxedEnvironment()
        for name in _LEFT_OUT_FILTERS:
            del self._plain.filters[name]
        self._plain.filters["tojson"] = partial(_to_json, marks)
        self.filters = {name: _with_context(self._filter, name) for name in self._plain.filters}
        self.tests = {name: _with_context(self._test, name) for name in self._plain.tests}
        self.filters |= {UNMARK: _with_context(self._compared), _CONCATENATE: _concatenate}
        self.filters |= {_PAY: _pay, _READ_ALL: _read_all}
        for name in _LEFT_OUT_GLOBALS:
            del self.globals[name]
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
        self.globals |= {"namespace": _PlainNamespace, "dict": _make_dict}
        self._functions = [*self.globals.values()]

    def compile_marked(self, source: str) -> Template:
        """Compile with the template's control tokens marked. Raises whatever jinja and Python raise."""
        tree = MarkLiterals(self._marks).visit(self.parse(source))
        tree = _CountWork().visit(tree).set_environment(self)
        return Template.from_code(self, self.compile(tree), self.make_globals(None))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        limits = CURRENT.get()
        limits.check_operation(operator, left, right)
        result = super().call_binop(context, operator, left, right)
        limits.spend_top(result)
        return result

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(argument, (str, tuple)):
            CURRENT.get().spend_all(argument)
            argument = self._unmark(argument)
        return super().getitem(obj, argument)

    def is_safe_callable(self, obj: Any) -> bool:
        """Only what is listed: an unknown method may do any amount of work at once."""
        ours = (Macro, LoopContext, BlockReference, Undefined, Joiner, _Format)
        if isinstance(obj, ours) or any(obj is function for function in self._functions):
            return True
        owner = getattr(obj, "__self__", None)
        return any(isinstance(owner, kind) and obj.__name__ in names for kind, names in _METHODS)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        if not __self.is_safe_callable(__obj):
            raise SecurityError(f"it calls {getattr(__obj, '__name__', type(__obj).__name__)}, which no template may")
        limits = CURRENT.get()
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, (str, list, tuple, dict, LoopContext)):
            args, kwargs = __self._method_arguments(limits, __obj.__name__, owner, args, kwargs)
        else:
            limits.spend(1 + len(args) + len(kwargs))
        result = super().call(__context, __obj, *args, **kwargs)
        limits.spend_top(result)
        return result

    def wrap_str_format(self, value: Any) -> Any:
        if super().wrap_str_format(value) is None:
            return None
        return _Format(self, value.__self__, value.__name__ == "format_map")

    def _method_arguments(
        self, limits: Limits, name: str, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Pay for a method of a text or a container; what it searches a text for is as people write it."""
        if isinstance(owner, str) and name == "join":
            args = tuple(_items(limits, one) for one in args)
            limits.spend_text(sum(map(limits.spend_all, args)) + len(owner) * sum(map(len, args)))
            return args, kwargs
        every = [*args, *kwargs.values()]
        limits.spend_all(owner if isinstance(owner, (str, list, tuple)) else ())
        limits.spend_all(every)
        limits.check_growth(name, owner, every)
        if isinstance(owner, str) and name in _SEARCHES:
            return self._as_searched(name, owner, args, kwargs)
        return args, kwargs

    def _as_searched(
        self, name: str, text: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What `text` is searched for; what `replace` puts there keeps its marks."""
        if self._marks.unmark(text) is not text:  # the template's own control tokens are in it
            return args, kwargs
        searched = 1 if name == "replace" else len(args)
        plain = {key: value if key == "new" else self._unmark(value) for key, value in kwargs.items()}
        return (*map(self._unmark, args[:searched]), *args[searched:]), plain

    def _filter(self, name: str, context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        limits = CURRENT.get()
        value = self._pay(limits, name, value)
        if name not in _LAZY_FILTERS:
            limits.spend_all((*args, *kwargs.values()))
        if name in _AS_PEOPLE_READ_IT:
            value = self._unmark(value)
        if name == "replace":
            args, kwargs = self._as_searched(name, str(value), args, kwargs)
        _check_filter(limits, name, value, args, kwargs)
        result = self._plain.call_filter(name, value, args, kwargs, context=context)
        limits.spend_top(result)
        return limits.counted(result) if isinstance(result, Iterator) else result

    def _test(self, name: str, context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        limits = CURRENT.get()
        limits.spend(1)
        if name not in _LAZY_TESTS:
            value = _read(limits, value)
            limits.spend_all((*args, *kwargs.values()))
        return self._plain.call_test(name, value, args, kwargs, context=context)

    def _pay(self, limits: Limits, name: str, value: Any) -> Any:
        limits.spend(1)
        if name in _TOP:
            limits.spend_top(value)
        elif name in _TAKE_ITEMS:
            value = limits.counted(value)
        elif name not in _LAZY_FILTERS:
            value = _read(limits, value)
        return value

    def _compared(self, _context: Context, value: Any) -> Any:
        CURRENT.get().spend_all(value)
        return self._unmark(value)

    def _unmark(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._marks.unmark(value)
        return type(value)(map(self._unmark, value)) if type(value) in (list, tuple) else value


class _CountWork(NodeTransformer):
    """Adds to a parsed template what the sandbox does not see: turns of loops, calls of macros, `~`, slices, keys."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        price = _price(node)
        if node.test is not None:
            node.test = _filtered(_PAY, node.test, price)
        return self._paid_for(node, price)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Macro:
        return self._paid_for(node, _price(node))

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.CallBlock:
        return self._paid_for(node, _price(node))

    def visit_Block(self, node: nodes.Block) -> nodes.Block:
        return self._paid_for(node, _price(node))

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        return _filtered(_CONCATENATE, self.generic_visit(nodes.List(node.nodes, lineno=node.lineno)))

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _filtered(_PAY, node.node, 1)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:
        self.generic_visit(node)
        if not isinstance(node.key, nodes.Const):
            node.key = _filtered(_READ_ALL, node.key)
        return node

    def _paid_for(self, node: Any, price: int) -> Any:
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_filtered(_PAY, nodes.Const(None), price), lineno=node.lineno))
        return node


def _with_context(function: Callable[..., Any], *arguments: str) -> Callable[..., Any]:
    """A filter or a test for the compiler, which computes none that takes a context."""
    return pass_context(partial(function, *arguments))


def _price(node: nodes.Node) -> int:
    """Steps for executing a body once, as if every branch were taken."""
    inner = [*node.find_all(nodes.Node)]
    literals = sum(len(one.data) for one in inner if isinstance(one, nodes.TemplateData))
    return 1 + len(inner) // 4 + (literals >> 5)


def _filtered(name: str, node: Any, *arguments: int) -> nodes.Filter:
    return nodes.Filter(node, name, [*map(nodes.Const, arguments)], [], None, None, lineno=node.lineno)


@pass_context
def _written(_context: Context, value: Any) -> Any:
    """What `{{ ... }}` holds, before it becomes text."""
    CURRENT.get().spend_all(value)
    return value


def _read(limits: Limits, value: Any) -> Any:
    """The value, all of it paid for."""
    value = _items(limits, value) if isinstance(value, Iterator) else value
    limits.spend_all(value)
    return value


@pass_context
def _pay(_context: Context, value: Any, price: int) -> Any:
    CURRENT.get().spend(price)
    CURRENT.get().spend_top(value)
    return value


@pass_context
def _read_all(_context: Context, value: Any) -> Any:
    CURRENT.get().spend_all(value)
    return value


@pass_context
def _concatenate(_context: Context, parts: list[Any]) -> str:
    CURRENT.get().spend_all(parts)
    return "".join(map(str, parts))


def _items(limits: Limits, value: Any) -> list[Any]:
    return [*limits.counted(value)]


def _check_filter(limits: Limits, name: str, value: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Before the few filters that can make much of little."""
    every = [*args, *kwargs.values()]
    if name == "format":
        limits.check_format(str(value), kwargs or args)
    elif name == "join" and every:
        limits.spend_text(len(value) * len(str(kwargs.get("d", every[0]))))
    elif name == "sum" and any(isinstance(one, (list, tuple)) for one in every):
        raise TemplateError("it sums up lists")
    elif name == "replace":
        every = [kwargs.get(key, default) for key, default in zip(("old", "new"), [*args, "", ""], strict=False)]
        limits.check_growth(name, str(value), every)
    else:
        limits.check_growth(name, value, every)


class _Format:
    """`text.format` and `text.format_map`, counted."""

    __name__ = "format"

    def __init__(self, environment: ChatEnvironment, text: str, takes_mapping: bool) -> None:
        self._environment = environment
        self._text = text
        self._takes_mapping = takes_mapping

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        CURRENT.get().spend_text(len(self._text))
        if self._takes_mapping:
            (kwargs,), args = args, ()
        return _Formatter(self._environment).vformat(self._text, args, kwargs)


class _Formatter(SandboxedFormatter):
    def __init__(self, environment: ChatEnvironment) -> None:
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

    def __repr__(self) -> str:
        return "<namespace>"  # its values may be this namespace, or others without end


def _refuse_underscore(name: object) -> None:
    if str(name).startswith("_"):
        raise SecurityError(f"a namespace may not hold {name!r}")


def _make_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    CURRENT.get().spend_all(args)
    return dict(*args, **kwargs)


def _raise_exception(message: object) -> None:
    CURRENT.get().spend_all(message)
    raise TemplateError(str(message))


def _strftime_now(form: str) -> str:
    CURRENT.get().check_format(form, ())
    return datetime.now().strftime(form)


def _to_json(
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
