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

    `mask` is (B, 1, T, S) bool, or None where every query sees every key. `is_causal` replaces the mask of a whole
    prompt. `first_visible`: the first position that each row's last query sees. `window`: how many positions a
    query sees, itself among them; None: all.
    """

    def __init__(self, rotary: RotaryEmbedding, step: CacheStep, window: int | None):
        self._step, self.window, self._rotary = step, window, rotary
        slides = window is not None and step.num_keys > window
        self.first_visible = [0 if window is None else max(0, end - window) for end in step.totals]
        uniform = len(set(step.totals)) == 1 and not step.is_padded
        self.is_causal = uniform and not slides and step.past[0] == 0 and step.columns > 1
        self._sees_all = uniform and not slides and step.columns == 1

    @cached_property
    def angles(self) -> tuple[Tensor, Tensor]:
        """cos, sin: (B, T, 1, rotated)."""
        return self._rotary(self._step.positions)

    @property
    def table(self) -> tuple[Tensor, Tensor]:
        """`angles` of all positions so far, and of others: (1, P, 1, rotated)."""
        return self._rotary.table(self._step.num_keys)

    @cached_property
    def mask(self) -> Tensor | None:
        return (
            None
            if self.is_causal or self._sees_all
            else self.visible(0, self._step.columns, slice(0, len(self._step.totals)))
        )

    def mask_of(self, rows: slice) -> Tensor | None:
        """`mask` of some of the rows, as wide as the longest of them."""
        if self.mask is None or rows == slice(0, len(self._step.totals)):
            return self.mask
        return self.visible(0, self._step.columns, rows)

    def visible(self, start: int, stop: int, rows: slice) -> Tensor:
        """(b, 1, stop - start, S) bool, for these of the T queries of some rows, S as of the longest: keys at or before
        the query, within the window if there is one (it counts the query)."""
        keys = torch.arange(max(self._step.totals[rows]), device=self._step.device)
        queries = self._step.positions[rows, None, start:stop, None]  # (b, 1, T, 1)
        seen = keys <= queries
        return seen if self.window is None else seen & (keys > queries - self.window)
