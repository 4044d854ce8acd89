"""The experts: 16 gated feed-forward networks of which each token uses one."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from quant.matrix import Stack


class Experts:
    """down(silu(gate) * up) of each row's expert, times the router's weight (reference: `ZayaExperts`).

    Decoding one row multiplies that expert's matrices directly; more rows are sorted by expert first, so that each
    expert's weights are read once for all of its rows.
    """

    def __init__(self, gate_up_proj: Stack[Any], down_proj: Stack[Any], skip_keeps_input: bool):
        """skip_keeps_input: the skip class passes the block's input on (original layout) instead of zero (native)."""
        self.gate_up_proj = gate_up_proj
        self.down_proj = down_proj
        self.skip_keeps_input = skip_keeps_input
        self.num_experts = len(gate_up_proj.matrices)

    @property
    def nbytes_of_one(self) -> float:
        """Bytes of one expert's weights."""
        return (self.gate_up_proj.nbytes + self.down_proj.nbytes) / self.num_experts

    def __call__(self, x: Tensor, choice: Tensor, weight: Tensor, can_skip: bool) -> Tensor:
        """x: (N, D), choice: (N) in 0..E, weight: (N) float32 -> (N, D) float32. E in `choice` means skip."""
        if len(x) == 1 and not can_skip:
            return self._feed_forward(x, [(int(choice), 1)]).float() * weight
        order = choice.argsort(stable=True)  # those that skip are the last
        ones = torch.ones_like(choice)
        # Of all that is done here only this waits for a card.
        *counts, skipped = choice.new_zeros(self.num_experts + 1).index_add_(0, choice, ones).tolist()
        groups = [(expert, count) for expert, count in enumerate(counts) if count]
        ordered, routed = x[order], len(x) - skipped
        parts = [self._feed_forward(ordered[:routed], groups).float()] if routed else []
        if skipped:
            kept = ordered[routed:].float()
            parts.append(kept if self.skip_keeps_input else torch.zeros_like(kept))
        scaled = torch.cat(parts) * weight[order, None]
        return torch.empty_like(scaled).index_copy_(0, order, scaled)

    def _feed_forward(self, x: Tensor, groups: list[tuple[int, int]]) -> Tensor:
        gate, up = self.gate_up_proj.matmul_experts(x, groups).chunk(2, dim=-1)
        return self.down_proj.matmul_experts(F.silu(gate) * up, groups)
