"""Residual scaling: the float32 residual stream and the learned merge of each branch into it."""

from __future__ import annotations

import torch
from torch import Tensor


class ResidualScaling:
    """(branch + bias_h) * scale_h + (residual + bias_r) * scale_r (reference: `ZayaResidualScaling`).

    The biases are folded into one constant at load: c = bias_h * scale_h + bias_r * scale_r.
    Shapes: branch, residual (B, T, D) -> (B, T, D). Dtype: float32 whatever the branch has.
    """

    def __init__(
        self, hidden_states_scale: Tensor, hidden_states_bias: Tensor, residual_scale: Tensor, residual_bias: Tensor
    ):
        self.branch_scale = hidden_states_scale.float()
        self.residual_scale = residual_scale.float()
        self.constant = hidden_states_bias.float() * self.branch_scale + residual_bias.float() * self.residual_scale

    def __call__(self, branch: Tensor, residual: Tensor) -> Tensor:
        kept = torch.addcmul(self.constant, residual, self.residual_scale)
        return kept.addcmul_(branch.float(), self.branch_scale)
