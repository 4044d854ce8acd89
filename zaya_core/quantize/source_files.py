"""The weight files of a source, which may come while it is quantized and go when they are done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Rest = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Step:
    """One shard of the result, and what is read of the source for it.

    layers: files that are read for layers, and must be whole. rest: files of which only tensors outside the layers are
    read, and these tensors. ahead: the file that will be read next, to be fetched meanwhile; none, or one.
    layers_later, rest_later: the same for all steps after this one.
    """

    number: int
    layers: frozenset[str]
    rest: Rest
    ahead: frozenset[str]
    layers_later: frozenset[str]
    rest_later: Rest


@dataclass(frozen=True)
class OwnFile:
    """A file that is brought for this run and deleted by it: its size, how much of it takes space now, and whether only
    the tensors outside the layers are left of it."""

    size: int
    here: int
    is_reduced: bool


class SourceFiles:
    """The files of a source that are all there. A subclass brings them when they are needed."""

    def own_files(self) -> Mapping[str, OwnFile]:
        """By name, those that take space only because of this run."""
        return {}

    def bring(self, step: Step) -> None:
        """Return when what the step reads is there."""

    def give_up(self, step: Step) -> None:
        """The shard of the step is finished: only what later steps read is needed any more."""
