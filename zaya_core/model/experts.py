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
        if can_skip:
            return self._with_skipped_rows(x, choice, weight)
        if len(x) == 1:
            return self._feed_forward(x, [(int(choice), 1)]).float() * weight
        order = choice.argsort(stable=True)
        counts = torch.bincount(choice, minlength=self.num_experts).tolist()
        groups = [(expert, count) for expert, count in enumerate(counts) if count]
        outputs = self._feed_forward(x[order], groups)
        scaled = outputs.float() * weight[order, None]
        return torch.empty_like(scaled).index_copy_(0, order, scaled)

    def _feed_forward(self, x: Tensor, groups: list[tuple[int, int]]) -> Tensor:
        gate, up = self.gate_up_proj.matmul_experts(x, groups).chunk(2, dim=-1)
        return self.down_proj.matmul_experts(F.silu(gate) * up, groups)

    def _with_skipped_rows(self, x: Tensor, choice: Tensor, weight: Tensor) -> Tensor:
        out = x.float() * weight[:, None] if self.skip_keeps_input else torch.zeros_like(x, dtype=torch.float32)
        routed = (choice < self.num_experts).nonzero()[:, 0]
        if len(routed):
            out[routed] = self(x[routed], choice[routed], weight[routed], can_skip=False)
        return out
