"""How large the numbers of a configuration may be, before anything is built from them."""

from __future__ import annotations

from collections.abc import Mapping
from reprlib import repr as shown

from zaya_core.errors import ConfigError

# Bounds far above every ZAYA released, so that a damaged number cannot ask for terabytes of tables.
LARGEST: Mapping[str, int] = {
    "vocab_size": 2_000_000,
    "hidden_size": 65_536,
    "num_hidden_layers": 512,
    "num_attention_heads": 1_024,
    "num_key_value_heads": 1_024,
    "head_dim": 4_096,
    "num_experts": 512,
    "moe_intermediate_size": 262_144,
    "router_hidden_size": 65_536,
    "cca_time0": 64,
    "cca_time1": 64,
    "max_position_embeddings": 1 << 24,
}


def checked(key: str, value: int) -> int:
    """The value. Raises ConfigError where it is out of bounds."""
    if not 1 <= value <= LARGEST[key]:
        raise ConfigError(f"config.json: {key} is {shown(value)}; it must lie between 1 and {LARGEST[key]:,}.")
    return value
