"""Products on a card with torch: large slices of the weights are turned to the dtype of x, one after the other.

Few launches and a bounded scratch, not speed: the weights are written and read once more than they need to be.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from quant.formats import TILE

SLICE = 1 << 23  # weights, 16 MB in bf16: as large as a matrix of an expert may be of which a step needs all


def multiply_on_card(
    x: Tensor, weights_of: Callable[[int, int, torch.dtype], Tensor], n: int, dtype: torch.dtype
) -> Tensor:
    """x: (M, K) float32 or bf16 -> (M, N) in `dtype`, that of x or float32, accumulated in float32.

    weights_of: (start, stop, dtype) -> those rows of the weights, (stop - start, K); start is a multiple of 16.
    """
    step = max(TILE, SLICE // x.shape[1] // TILE * TILE)
    multiply = F.linear if dtype == x.dtype else multiply_to_float32
    if n <= step:
        return multiply(x, weights_of(0, n, x.dtype))
    starts = range(0, n, step)
    return torch.cat([multiply(x, weights_of(start, min(start + step, n), x.dtype)) for start in starts], dim=1)


def multiply_to_float32(x: Tensor, weight: Tensor) -> Tensor:
    """x: (M, K) bf16, weight: (N, K) bf16 -> (M, N) float32, never rounded to bf16 on the way."""
    if _accumulator_can_be_had(x.device):
        return torch.mm(x, weight.t(), out_dtype=torch.float32)
    return F.linear(x.float(), weight.float())


@cache
def _accumulator_can_be_had(device: torch.device) -> bool:
    """Older builds of PyTorch for ROCm, such as AMD's own for Windows, refuse it."""
    one = torch.ones(TILE, TILE, dtype=torch.bfloat16, device=device)
    try:
        return torch.mm(one, one, out_dtype=torch.float32).dtype == torch.float32
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError):
        return False
