"""Rotary embedding: its parameters for each type of layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FULL = "hybrid"
SLIDING = "hybrid_sliding"


@dataclass(frozen=True)
class RopeParameters:
    """Rotary embedding of one layer type: base, and the share of each head's width that is rotated."""

    rope_theta: float
    partial_rotary_factor: float


DEFAULT_ROPE: Mapping[str, Mapping[str, float]] = {
    FULL: {"rope_theta": 5_000_000.0, "partial_rotary_factor": 0.5},
    SLIDING: {"rope_theta": 10_000.0, "partial_rotary_factor": 0.5},
}
