"""Which implementation computes the products of weights, and why. The one place that says so."""

from __future__ import annotations

import torch

from quant.dense import has_bf16_products


def products_in_use() -> list[tuple[str, str]]:
    """(name of the implementation, reason), one for each kind of product."""
    reason = "the processor has bf16 instructions" if has_bf16_products() else "the processor has no bf16 instructions"
    return [(f"reference: torch {torch.__version__}", reason)]
