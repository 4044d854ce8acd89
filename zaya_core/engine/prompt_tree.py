"""Prompts that wait, by their common beginnings: where one parts from all others is found in one walk along it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from zaya_core.text.known_ids import common_length


@dataclass
class _Node:
    """A beginning of prompts, of which `ends` end here; `next`: by its first id, what follows."""

    ends: int = 0
    next: dict[int, _Edge] = field(default_factory=dict)


@dataclass
class _Edge:
    """The stretch `prompt[start:stop]`, not copied, and the node behind it."""

    prompt: tuple[int, ...]
    start: int
    stop: int
    node: _Node

    def common_with(self, ids: tuple[int, ...], position: int) -> int:
        """How much of the stretch `ids` has from `position` on."""
        length = min(self.stop - self.start, len(ids) - position)
        mine, theirs = self.prompt[self.start : self.start + length], ids[position : position + length]
        return length if mine == theirs else common_length(mine, theirs)


class PromptTree:
    """A radix tree of prompts, each perhaps several times. All methods take time in proportion to the prompt alone."""

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, ids: Sequence[int]) -> None:
        prompt, position, node = tuple(ids), 0, self._root
        while position < len(prompt):
            edge = node.next.get(prompt[position])
            if edge is None:
                edge = node.next[prompt[position]] = _Edge(prompt, position, len(prompt), _Node())
            shared = edge.common_with(prompt, position)
            if shared < edge.stop - edge.start:
                _split(edge, shared)
            node, position = edge.node, position + shared
        node.ends += 1

    def remove(self, ids: Sequence[int]) -> None:
        """Take out one that was added."""
        prompt, position, node = tuple(ids), 0, self._root
        path: list[tuple[_Node, int]] = []
        while position < len(prompt):
            edge = node.next[prompt[position]]
            path.append((node, prompt[position]))
            node, position = edge.node, position + edge.stop - edge.start
        node.ends -= 1
        while path and not node.ends and not node.next:
            node, first = path.pop()
            del node.next[first]

    @property
    def is_empty(self) -> bool:
        return not (self._root.ends or self._root.next)

    def partings(self, ids: Sequence[int]) -> list[int]:
        """At which positions of `ids` prompts of the tree part from it or end, ascending; 0 for other beginnings."""
        prompt, position, node = tuple(ids), 0, self._root
        found: list[int] = []
        while True:
            edge = node.next.get(prompt[position]) if position < len(prompt) else None
            if node.ends or len(node.next) > (edge is not None):
                found.append(position)
            if edge is None:
                return found
            shared = edge.common_with(prompt, position)
            position += shared
            if shared < edge.stop - edge.start:
                return [*found, position]
            node = edge.node


class SaltedPrompts:
    """A tree for each salt: prompts of different ones have no beginning in common."""

    def __init__(self) -> None:
        self._trees: dict[bytes, PromptTree] = {}

    def add(self, ids: Sequence[int], salt: bytes) -> None:
        self._trees.setdefault(salt, PromptTree()).add(ids)

    def remove(self, ids: Sequence[int], salt: bytes) -> None:
        """Take out one that was added."""
        self._trees[salt].remove(ids)
        if self._trees[salt].is_empty:
            del self._trees[salt]

    def partings(self, ids: Sequence[int], salt: bytes) -> list[int]:
        """See `PromptTree`."""
        return self._trees[salt].partings(ids) if salt in self._trees else []


def _split(edge: _Edge, length: int) -> None:
    """Put a node behind the first `length` ids of the stretch."""
    middle = edge.start + length
    rest = _Edge(edge.prompt, middle, edge.stop, edge.node)
    edge.stop, edge.node = middle, _Node(next={edge.prompt[middle]: rest})
