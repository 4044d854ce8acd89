"""Jinja as transformers' `apply_chat_template` sets it up, in a sandbox whose every operation is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from jinja2 import Template, TemplateError, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.runtime import BlockReference, Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Joiner

from zaya_core.text.template.functions import (
    Format,
    GenerationBlock,
    PlainNamespace,
    make_dict,
    raise_exception,
    strftime_now,
    to_json,
)
from zaya_core.text.template.limits import CURRENT, Limits
from zaya_core.text.template.literals import UNMARK, MarkLiterals
from zaya_core.text.template.marks import ControlMarks
from zaya_core.text.template.work import CONCATENATE, PAY, READ_ALL, CountWork, concatenate, pay, read_all

# Filters that do not look into the value, or only as far as somebody takes items from them.
_LAZY_FILTERS = frozenset(
    "default d length count first last items map select selectattr "  # noqa: SIM905
    "reject rejectattr attr random".split()
)
# Likewise tests; some have the name of a filter that reads all, such as `string`.
_LAZY_TESTS = frozenset(
    "defined undefined none boolean false true integer float string mapping number "  # noqa: SIM905
    "sequence iterable callable sameas odd even divisibleby filter test escaped".split()
)
_TAKE_ITEMS = frozenset(["map", "select", "selectattr", "reject", "rejectattr", "first"])
_TOP = frozenset(["list", "reverse", "batch", "slice"])
# No chat template uses them, and what they do cannot be counted.
_LEFT_OUT_FILTERS = ("pprint", "urlize")
_LEFT_OUT_GLOBALS = ("lipsum", "cycler")
_AS_PEOPLE_READ_IT = frozenset(["e", "escape", "forceescape", "urlencode", "xmlattr", "striptags"])
_SEARCHES = frozenset(
    "split rsplit partition rpartition startswith endswith find rfind index rindex count "  # noqa: SIM905
    "replace removeprefix removesuffix strip lstrip rstrip".split()
)
_TEXT_METHODS = _SEARCHES.union(
    "capitalize casefold lower swapcase title upper isalnum isalpha isascii isdecimal "  # noqa: SIM905
    "isdigit isidentifier islower isnumeric isprintable isspace istitle isupper "
    "splitlines join center ljust rjust zfill expandtabs".split()
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
            extensions=[GenerationBlock, loopcontrols],
            optimized=False,  # or `'a' * 10**9` would be computed by the compiler
            finalize=_written,
        )
        self._marks = marks
        self._plain = ImmutableSandboxedEnvironment()
        for name in _LEFT_OUT_FILTERS:
            del self._plain.filters[name]
        self._plain.filters["tojson"] = partial(to_json, marks)
        self.filters = {name: _with_context(self._filter, name) for name in self._plain.filters}
        self.tests = {name: _with_context(self._test, name) for name in self._plain.tests}
        self.filters |= {UNMARK: _with_context(self._compared), CONCATENATE: concatenate}
        self.filters |= {PAY: pay, READ_ALL: read_all}
        for name in _LEFT_OUT_GLOBALS:
            del self.globals[name]
        self.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
        self.globals |= {"namespace": PlainNamespace, "dict": make_dict}
        self._functions = [*self.globals.values()]

    def compile_marked(self, source: str) -> Template:
        """Compile with the template's control tokens marked. Raises whatever jinja and Python raise."""
        tree = MarkLiterals(self._marks).visit(self.parse(source))
        tree = CountWork().visit(tree).set_environment(self)
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
        ours = (Macro, LoopContext, BlockReference, Undefined, Joiner, Format)
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
        return Format(self, value.__self__, value.__name__ == "format_map")

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


def _with_context(function: Callable[..., Any], *arguments: str) -> Callable[..., Any]:
    """A filter or a test for the compiler, which computes none that takes a context."""
    return pass_context(partial(function, *arguments))


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
