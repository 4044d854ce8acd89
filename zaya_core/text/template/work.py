"""What a template does that the sandbox does not see, made visible: turns of loops, calls of macros, `~`, slices, keys.

Before it is compiled, filters that spend from the `CURRENT` limits are put into the parsed template.
"""

from __future__ import annotations

from typing import Any

from jinja2 import nodes, pass_context
from jinja2.runtime import Context
from jinja2.visitor import NodeTransformer

from zaya_core.text.template.limits import CURRENT

CONCATENATE, PAY, READ_ALL = "one text", "pay for", "read all"  # blanks: no template can write such names


class CountWork(NodeTransformer):
    """Adds the filters to a parsed template."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        price = _price(node)
        if node.test is not None:
            node.test = _filtered(PAY, node.test, price)
        return self._paid_for(node, price)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Macro:
        return self._paid_for(node, _price(node))

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.CallBlock:
        return self._paid_for(node, _price(node))

    def visit_Block(self, node: nodes.Block) -> nodes.Block:
        return self._paid_for(node, _price(node))

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        return _filtered(CONCATENATE, self.generic_visit(nodes.List(node.nodes, lineno=node.lineno)))

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _filtered(PAY, node.node, 1)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:
        self.generic_visit(node)
        if not isinstance(node.key, nodes.Const):
            node.key = _filtered(READ_ALL, node.key)
        return node

    def _paid_for(self, node: Any, price: int) -> Any:
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_filtered(PAY, nodes.Const(None), price), lineno=node.lineno))
        return node


def _price(node: nodes.Node) -> int:
    """Steps for executing a body once, as if every branch were taken."""
    inner = [*node.find_all(nodes.Node)]
    literals = sum(len(one.data) for one in inner if isinstance(one, nodes.TemplateData))
    return 1 + len(inner) // 4 + (literals >> 5)


def _filtered(name: str, node: Any, *arguments: int) -> nodes.Filter:
    return nodes.Filter(node, name, [*map(nodes.Const, arguments)], [], None, None, lineno=node.lineno)


@pass_context
def pay(_context: Context, value: Any, price: int) -> Any:
    """The value, for so many steps."""
    CURRENT.get().spend(price)
    CURRENT.get().spend_top(value)
    return value


@pass_context
def read_all(_context: Context, value: Any) -> Any:
    """The value, which is looked into."""
    CURRENT.get().spend_all(value)
    return value


@pass_context
def concatenate(_context: Context, parts: list[Any]) -> str:
    """`~`."""
    CURRENT.get().spend_all(parts)
    return "".join(map(str, parts))
