"""Normalisations, always in float32: RMS norm of hidden states, L2 norm of queries and keys."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class RMSNorm:
    """x / rms(x) * weight (reference: `ZayaRMSNorm`).

    Shapes: (..., D) -> (..., D). Dtype: float32 in and out; the caller casts what enters a product.
    """

    def __init__(self, weight: Tensor, eps: float):
        self.weight = weight.float()
        self.eps = eps

    def __call__(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class QKNorm:
    """Scale each head to length sqrt(K), keys also by their learned temperature (reference: `ZayaQKNorm`).

    Shapes: (B, T, H + G, K) -> (B, T, H + G, K), queries first. Dtype: float32, since squares overflow float16 and
    lose the small heads in bf16.
    """

    def __init__(self, temp: Tensor, query_heads: int, head_dim: int):
        scale = torch.cat([torch.ones(query_heads, device=temp.device), temp.float()])
        self.scale = (scale * head_dim**0.5)[:, None]  # (H + G, 1)
        self.eps = torch.finfo(torch.float32).eps

    def __call__(self, qk: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(qk, dim=-1, keepdim=True).clamp_min(self.eps)
        return qk * (self.scale / length)
