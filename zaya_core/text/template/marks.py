"""Which control tokens of a rendered prompt are the template's own.

Before a template is compiled, every control token in its literals is exchanged for a mark: a short run of characters
that nobody can guess. What people wrote passes through unchanged, and whatever the template does to it, it cannot
become a mark; only marks become control tokens.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from itertools import groupby
from typing import Any, NamedTuple

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

# CJK extension B: no case, no blank, printable (so `repr` keeps them), changed by no normaliser, hardly ever written.
_MARK_CHARACTERS = range(0x20000, 0x2A6D0)
_MARK_LENGTH = 9
UNMARK = "plain text"  # names of our own filters hold a blank, so that no template can write them


class Segment(NamedTuple):
    """A stretch of a rendered prompt: the name of one control token, or plain text."""

    text: str
    is_control: bool


class ControlNames:
    """The strings that are control tokens, found in text the way the tokenizer finds them: leftmost, longest."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)  # each of two characters or more, or it could not be halved
        self._lengths = sorted({len(name) for name in self._names}, reverse=True)
        self._first = re.compile("|".join(re.escape(c) for c in sorted({n[0] for n in self._names})) or r"(?!)")

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


class ControlMarks:
    """The marks of one template. `source`: its text, whose characters no mark takes."""

    def __init__(self, names: ControlNames, source: str) -> None:
        self._names = names
        self._taken = frozenset(source)
        self._lead = self._free_character()
        self._mark_of: dict[str, str] = {}
        self._name_of: dict[str, str] = {}

    def mark(self, text: str) -> str:
        """Exchange every control token of a text that the template's author wrote."""
        return "".join(self._mark(part.text) if part.is_control else part.text for part in self._names.split(text))

    def split(self, text: str) -> list[Segment]:
        """Cut at every mark. A name that is merely spelled out is plain text."""
        segments = []
        start = position = 0
        while (position := text.find(self._lead, position)) >= 0:
            if (name := self._name_of.get(text[position : position + _MARK_LENGTH])) is None:
                position += 1
                continue
            segments += [Segment(text[start:position], False), Segment(name, True)]
            start = position = position + _MARK_LENGTH
        segments.append(Segment(text[start:], False))
        return [segment for segment in segments if segment.text]

    def unmark(self, text: str) -> str:
        """The text with the names instead of the marks."""
        if self._lead not in text:
            return text
        return "".join(segment.text for segment in self.split(text))

    def has_pieces(self, text: str, given: str) -> bool:
        """Whether a mark was cut up: its characters are in the text, and nobody gave them."""
        used = set("".join(self._mark_of.values())).intersection(text) if not text.isascii() else ()
        return any(character not in given for character in used)

    def _mark(self, name: str) -> str:
        if name not in self._mark_of:
            mark = self._lead + "".join(self._free_character() for _ in range(_MARK_LENGTH - 1))
            self._mark_of[name], self._name_of[mark] = mark, name
        return self._mark_of[name]

    def _free_character(self) -> str:
        while (character := chr(secrets.choice(_MARK_CHARACTERS))) in self._taken:
            pass
        return character


class MarkLiterals(NodeTransformer):
    """Marks the literals of a parsed template, those that are compared or looked up excepted."""

    def __init__(self, marks: ControlMarks) -> None:
        self._marks = marks

    def visit_Output(self, node: nodes.Output) -> nodes.Output:
        """Adjacent literals are one text: `<|im_{{ 'end' }}|>` holds a control token."""
        node.nodes = [
            part if (text := _literal(part)) is None else nodes.TemplateData(text, lineno=part.lineno)
            for part in _joined([_folded(child) for child in node.nodes])
        ]
        return self._visit_children(node)

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.TemplateData:
        return nodes.TemplateData(self._marks.mark(node.data), lineno=node.lineno)

    def visit_Const(self, node: nodes.Const) -> nodes.Const:
        if not isinstance(node.value, str):
            return node
        return nodes.Const(self._marks.mark(node.value), lineno=node.lineno)

    def visit_Add(self, node: nodes.Add) -> nodes.Node:
        return self._visit_folded(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        return self._visit_folded(node)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        """What the template looks for in a text is looked for as people write it."""
        node.expr = self._unmarked(node.expr)
        for operand in node.ops:
            operand.expr = self._unmarked(operand.expr)
        return node

    def visit_Test(self, node: nodes.Test) -> nodes.Test:
        if node.args:  # `is eq '<think>'`
            node.args = [self._unmarked(argument) for argument in node.args]
            node.node = self._unmarked(node.node)
            return node
        return self._visit_children(node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Getitem:
        if not isinstance(node.arg, nodes.Const):
            node.arg = self.visit(node.arg)
        node.node = self.visit(node.node)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Pair:
        node.key = self._unmarked(node.key)
        node.value = self.visit(node.value)
        return node

    def _unmarked(self, node: nodes.Expr) -> nodes.Expr:
        if isinstance(node, nodes.Const):
            return node
        return nodes.Filter(self.visit(node), UNMARK, [], [], None, None, lineno=node.lineno)

    def _visit_folded(self, node: nodes.Expr) -> nodes.Node:
        folded = _folded(node)
        if isinstance(folded, nodes.Const):
            return self.visit_Const(folded)
        return self._visit_children(folded)

    def _visit_children(self, node: Any) -> Any:
        return self.generic_visit(node)


def _literal(node: nodes.Node) -> str | None:
    if isinstance(node, nodes.TemplateData):
        return node.data
    return node.value if isinstance(node, nodes.Const) and isinstance(node.value, str) else None


def _folded(node: nodes.Expr) -> nodes.Expr:
    """`x + '<|im_' + 'end|>'` → `x + '<|im_end|>'`, likewise `~`: a name may be written in pieces."""
    if isinstance(node, nodes.Concat):
        parts = _joined([_folded(part) for part in node.nodes])
        return parts[0] if len(parts) == 1 else nodes.Concat(parts, lineno=node.lineno)
    if isinstance(node, nodes.Add):
        left, right = _folded(node.left), _folded(node.right)
        tail = left.right if isinstance(left, nodes.Add) else left
        if (head := _literal(tail)) is not None and (text := _literal(right)) is not None:
            whole = nodes.Const(head + text, lineno=node.lineno)
            return nodes.Add(left.left, whole, lineno=node.lineno) if isinstance(left, nodes.Add) else whole
        return nodes.Add(left, right, lineno=node.lineno)
    return node


def _joined(parts: list[nodes.Expr]) -> list[nodes.Expr]:
    """Literals that follow each other become one."""
    joined: list[nodes.Expr] = []
    for is_literal, run in groupby(parts, key=lambda part: _literal(part) is not None):
        group = [*run]
        if is_literal:
            text = "".join(filter(None, map(_literal, group)))
            group = [nodes.Const(text, lineno=group[0].lineno)]
        joined += group
    return joined
