"""Where kernels are tested: in the interpreter on the CPU, or with TRITON_INTERPRET=0 on a card."""

from __future__ import annotations

import torch

from quant.kernels.triton.launch import IS_INTERPRETED

PLACE = torch.device("cpu" if IS_INTERPRETED else "cuda:0")
EXACT = 2e-5 if IS_INTERPRETED else 2e-2  # of the largest number: a card multiplies rounded numbers


def assert_near(found: torch.Tensor, expected: torch.Tensor, tolerance: float = EXACT) -> None:
    """The largest difference is at most this share of the largest number expected."""
    found, expected = found.float().cpu(), expected.float().cpu()
    assert found.shape == expected.shape
    worst = float((found - expected).abs().max()) / max(1e-30, float(expected.abs().max()))
    assert worst <= tolerance, f"off by {worst:.1e}"
