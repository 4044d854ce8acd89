"""The literals of a parsed template, in which control tokens are exchanged for marks before it is compiled."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from zaya_core.text.template.marks import ControlMarks

UNMARK = "plain text"  # names of our own filters hold a blank, so that no template can write them


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
