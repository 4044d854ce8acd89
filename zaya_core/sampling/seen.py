"""Which ids a row contains, for the repetition penalty."""

from __future__ import annotations

from collections.abc import Set

import torch
from torch import Tensor


class SeenIds:
    """Ids of a prompt and its answer, kept only when a penalty needs them.

    spared: ids that repetition penalties leave alone. The end of a turn stands in every prompt of a conversation, and
    a model that is fined for it does not stop.
    """

    def __init__(self, repetition_penalty: float, spared: Set[int] = frozenset()):
        self._is_needed = repetition_penalty != 1.0
        self._spared = spared
        self._ids: set[int] = set()
        self.tensor: Tensor = torch.empty(0, dtype=torch.int64)  # (n), each once

    def add(self, *ids: int) -> None:
        """Note ids that the row contains, from the prompt or generated."""
        new = set(ids) - self._ids - self._spared if self._is_needed else set()
        if new:
            self._ids |= new
            self.tensor = torch.cat([self.tensor, torch.tensor(list(new))])
