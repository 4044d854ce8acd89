"""How much a template may do: a count of steps and a longest text, the same on every machine.

Whatever takes time or memory in proportion to a value is paid for in steps: looking into a list costs its items, a
text one step for each 32 characters, a turn of a loop the size of its body.
"""

from __future__ import annotations

import re
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
from contextvars import ContextVar
from typing import Any

from jinja2 import TemplateError

STEPS = 2_000_000
STEPS_FOR_A_CHARACTER = 20  # of the conversation: a long one may take longer
MAX_TEXT = 1 << 21  # about four times what a context of 131,072 tokens holds
MAX_INTEGER_BITS = 1 << 14
MAX_WIDTH = 9999
# A type as `isinstance` takes it; mappings are looked into by key and value.
CONTAINERS = (list, tuple, set, frozenset, KeysView, ValuesView, ItemsView)
_FIVE_DIGITS = re.compile(r"\d{5}")


class Limits:
    """What is left for one rendering. `given`: characters of the conversation. Every method raises TemplateError."""

    def __init__(self, given: int = 0) -> None:
        self._steps = STEPS + STEPS_FOR_A_CHARACTER * given
        self.max_text = MAX_TEXT + 2 * given

    def spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise TemplateError("it takes too many steps")

    def spend_text(self, length: int) -> None:
        self.check_text(length)
        self.spend(1 + (length >> 5))

    def check_text(self, length: int) -> None:
        if length > self.max_text:
            raise TemplateError(f"it makes a text of {length} characters, more than {self.max_text}")

    def spend_top(self, value: object) -> None:
        """For what handles a value without looking into its items."""
        if isinstance(value, str):
            self.spend_text(len(value))
        elif isinstance(value, int):
            self.check_integer(value.bit_length())
        elif isinstance(value, (range, Mapping, *CONTAINERS)):
            self.spend(1 + len(value))
        else:
            self.spend(1)

    def spend_all(self, value: object) -> int:
        """For what compares, writes or hashes a value. Returns how many characters its texts have."""
        characters = 0
        pending = [value]
        while pending:
            self.spend_top(one := pending.pop())
            if isinstance(one, str):
                characters += len(one)
            elif isinstance(one, Mapping):
                pending += [*one.keys(), *one.values()]
            elif isinstance(one, CONTAINERS):
                pending += one
        self.check_text(characters)
        return characters

    def counted(self, items: Iterable[Any]) -> Iterator[Any]:
        """The same items, each for one step."""
        for item in items:
            self.spend(1)
            yield item

    def check_integer(self, bits: int) -> None:
        if bits > MAX_INTEGER_BITS:
            raise TemplateError(f"it makes an integer of {bits} bits, more than {MAX_INTEGER_BITS}")

    def check_operation(self, operator: str, left: Any, right: Any) -> None:
        """Before an operation that can make much of little."""
        if operator == "%" and isinstance(left, str):
            self.check_format(left, right)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            self.check_integer(left.bit_length() * abs(right))
        elif operator == "*":
            for one, times in ((left, right), (right, left)):
                if isinstance(one, (str, list, tuple)) and isinstance(times, int):
                    self.spend_text(len(one) * max(times, 0))

    def check_format(self, form: str, values: object) -> None:
        """Before `form % values`; a `*` in the form takes a width from the values."""
        self.check_widths(form)
        for value in values if "*" in form and isinstance(values, (tuple, list)) else ():
            self.check_width(value)
        width = MAX_WIDTH if "*" in form or re.search(r"\d", form) else 0
        self.spend_text(len(form) + form.count("%") * (self.spend_all(values) + width))

    def check_widths(self, form: str) -> None:
        """Widths and precisions of a format have four digits at most."""
        if _FIVE_DIGITS.search(form):
            raise TemplateError(f"it writes something wider than {MAX_WIDTH}")

    def check_width(self, value: object) -> None:
        if isinstance(value, int):
            if abs(value) > MAX_WIDTH:
                raise TemplateError(f"it writes something wider than {MAX_WIDTH}")
            self.spend(abs(value))

    def check_growth(self, name: str, text: object, arguments: Sequence[Any]) -> None:
        """Before a filter or a method that makes more of a text than one copy, or reads it more than once."""
        if name in _WIDENING:
            for argument in arguments:
                self.check_width(argument)
        if isinstance(text, str) and name in _GROWTH:
            self.spend_text(len(text) + _GROWTH[name](text, arguments))
        if isinstance(text, str) and name in _REREADING:
            self.spend(_REREADING[name](text, arguments))


def _longest(arguments: Sequence[Any], otherwise: int) -> int:
    lengths = [len(one) if isinstance(one, str) else int(one) for one in arguments if isinstance(one, (str, int))]
    return max([otherwise, *lengths])


def _replaced(text: str, arguments: Sequence[Any]) -> int:
    old, new = map(str, arguments[:2])
    return text.count(old) * len(new)


def _searched_for_each(text: str, arguments: Sequence[Any]) -> int:
    return len(text) * _longest([one for one in arguments if isinstance(one, str)], 0) >> 10


def _wrapped(text: str, arguments: Sequence[Any]) -> int:
    width = next((one for one in arguments if type(one) is int and one > 0), 79)
    return (len(text) // width) * (len(text) >> 5)


_Size = Callable[[str, Sequence[Any]], int]
_WIDENING = frozenset(
    ["center", "ljust", "rjust", "zfill", "expandtabs", "indent", "wordwrap", "batch", "slice", "round", "tojson"]
)
# Characters that are added.
_GROWTH: dict[str, _Size] = {
    "replace": _replaced,
    "indent": lambda text, arguments: (1 + text.count("\n")) * _longest(arguments, 4),
    "expandtabs": lambda text, arguments: text.count("\t") * _longest(arguments, 8),
    "wordwrap": lambda text, arguments: len(text) * _longest([one for one in arguments if isinstance(one, str)], 1),
}
# Steps beyond one reading.
_REREADING: dict[str, _Size] = {
    **dict.fromkeys(["rfind", "rindex", "rsplit", "rpartition"], _searched_for_each),
    **dict.fromkeys(["strip", "lstrip", "rstrip", "trim"], _searched_for_each),
    "wordwrap": _wrapped,
}

CURRENT: ContextVar[Limits] = ContextVar("limits of the rendering")
