"""Rotary position embedding of the first part of each head (reference: `ZayaRotaryEmbedding`)."""

from __future__ import annotations

import torch
from torch import Tensor

from zaya_core.config.rope import RopeParameters

_LEAST_TABLE = 4096  # positions


class RotaryEmbedding:
    """Angles of one layer type. The frequencies span the rotated width only, not the whole head.

    State: the table of the longest sequence so far.
    """

    def __init__(self, parameters: RopeParameters, head_dim: int, device: torch.device):
        rotated = int(head_dim * parameters.partial_rotary_factor)
        exponents = torch.arange(0, rotated, 2, dtype=torch.float32, device=device) / rotated
        frequencies = 1.0 / parameters.rope_theta**exponents
        self.frequencies = torch.cat([frequencies, frequencies])  # of both halves that are rotated
        self._table = self(torch.arange(0, device=device)[None])

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """positions: (B, T) -> cos, sin: (B, T, 1, rotated), float32."""
        angles = positions[..., None, None] * self.frequencies
        return angles.cos(), angles.sin()

    def table(self, positions: int) -> tuple[Tensor, Tensor]:
        """cos, sin of positions 0, 1, ... for at least so many: (1, P, 1, rotated) each, contiguous float32."""
        kept = self._table[0].shape[1]
        if kept < positions:
            longer = max(_LEAST_TABLE, 2 * kept, positions)
            self._table = self(torch.arange(longer, device=self.frequencies.device)[None])
        return self._table


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first `cos.shape[-1]` dimensions of each head, leave the others. x: (B, T, heads, K) -> same."""
    rotated = cos.shape[-1]
    head = x[..., :rotated]
    first, second = head.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return torch.cat([head * cos + turned * sin, x[..., rotated:]], dim=-1)
