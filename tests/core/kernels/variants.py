"""Tiny models of each kind that native steps must compute, with int4 experts and int8 attention and head."""

from __future__ import annotations

from tests.core.quantized_models import quantized_folder, source_folder
from zaya_core.quantize.job import QuantizeSettings

VARIANTS = {
    "base": ("native", {}),
    "attention_bias": ("native", {}),
    "one_sliding_layer": ("native", {}),
    "longer_convolutions": ("native", {}),
    "many_experts_wide_router": ("native", {"router_hidden_size": 48, "hidden_size": 320}),
    "whole_head_rotated": ("original", {}),  # here the skip class can win
}


def write_variants(root):
    """Folders by variant; what each was made from is beside it, as VARIANT.source."""
    found = {}
    for variant, (layout, sizes) in VARIANTS.items():
        source = source_folder(root / f"{variant}.source", layout, variant, **sizes)
        found[variant] = quantized_folder(source, root / variant, QuantizeSettings("int4", "int8"))
    return found
