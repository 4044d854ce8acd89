"""What all layers share in one forward pass: where its tokens stand, their rotary angles and who sees whom."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from zaya_core.cache.step import CacheStep
from zaya_core.config.model_config import ModelConfig
from zaya_core.config.rope import SLIDING
from zaya_core.model.rope import RotaryEmbedding


class ForwardPass:
    """One pass over a cache, `step`, with what each type of layers sees of it."""

    def __init__(self, config: ModelConfig, rotary: Mapping[str, RotaryEmbedding], step: CacheStep):
        """rotary: by layer type."""
        self.step = step
        self._layer_types = config.layer_types
        self.by_type = {
            kind: AttentionInputs(angles, step, config.sliding_window if kind == SLIDING else None)
            for kind, angles in rotary.items()
        }

    def inputs(self, layer: int) -> AttentionInputs:
        """What the layers of this one's type share."""
        return self.by_type[self._layer_types[layer]]


class AttentionInputs:
    """What all layers of one type share in one forward pass: rotary angles and who sees whom.

    `is_causal` replaces the mask of a whole prompt. `first_visible`: the first position that each row's last query
    sees. `window`: how many positions a query sees, itself among them; None: all.
    """

    def __init__(self, rotary: RotaryEmbedding, step: CacheStep, window: int | None):
        self._step, self.window, self._rotary = step, window, rotary
        slides = window is not None and step.num_keys > window
        self.first_visible = [0 if window is None else max(0, end - window) for end in step.totals]
        uniform = len(set(step.totals)) == 1 and not step.is_padded
        self.is_causal = uniform and not slides and step.past[0] == 0 and step.columns > 1
        self._sees_all = uniform and not slides and step.columns == 1
        self._masks: dict[int, Tensor] = {}  # by the first row of a part

    @cached_property
    def angles(self) -> tuple[Tensor, Tensor]:
        """cos, sin: (B, T, 1, rotated)."""
        return self._rotary(self._step.positions)

    @property
    def table(self) -> tuple[Tensor, Tensor]:
        """`angles` of all positions so far, and of others: (1, P, 1, rotated)."""
        return self._rotary.table(self._step.num_keys)

    def mask_of(self, rows: slice) -> Tensor | None:
        """`visible` of all queries of some rows; None where each sees every key, or `is_causal` says enough."""
        if self.is_causal or self._sees_all:
            return None
        if rows.start not in self._masks:
            self._masks[rows.start] = self.visible(0, self._step.columns, rows)
        return self._masks[rows.start]

    def visible(self, start: int, stop: int, rows: slice) -> Tensor:
        """Which keys some queries see: those at or before the query, within the window if there is one.

        (b, 1, stop - start, S) bool: some rows, these of their T queries, S positions as the longest of the rows has.
        """
        keys = torch.arange(max(self._step.totals[rows]), device=self._step.device)
        queries = self._step.positions[rows, None, start:stop, None]  # (b, 1, T, 1)
        seen = keys <= queries
        return seen if self.window is None else seen & (keys > queries - self.window)
