"""Whether the sizes of a configuration fit together, and are of a model that anybody could have made."""

from __future__ import annotations

from reprlib import repr as shown

from zaya_core.config.bounds import LARGEST, checked
from zaya_core.config.model_config import ModelConfig
from zaya_core.config.rope import SLIDING, RopeParameters
from zaya_core.errors import ConfigError


def check_sizes(config: ModelConfig) -> None:
    """Raises ConfigError."""
    for key in LARGEST:
        checked(key, getattr(config, key))
    if config.num_attention_heads % config.num_key_value_heads:
        raise ConfigError(
            f"config.json: num_attention_heads {config.num_attention_heads} is not a multiple of "
            f"num_key_value_heads {config.num_key_value_heads}."
        )
    if config.num_key_value_heads * config.head_dim % 2:
        raise ConfigError("config.json: num_key_value_heads * head_dim is odd; V is made of two halves.")
    _check_window(config)
    if not 0 < config.rms_norm_eps < 1:
        raise ConfigError(f"config.json: rms_norm_eps is {config.rms_norm_eps}; it must lie between 0 and 1.")
    for rope in config.rope_parameters.values():
        _check_rope(rope, config.head_dim)


def _check_window(config: ModelConfig) -> None:
    window, largest = config.sliding_window, LARGEST["max_position_embeddings"]
    if window is None and SLIDING in config.layer_types:
        raise ConfigError(f"config.json: sliding_window is None; {SLIDING!r} layers need a size.")
    if window is not None and not 1 <= window <= largest:
        raise ConfigError(f"config.json: sliding_window is {shown(window)}; it must lie between 1 and {largest:,}.")


def _check_rope(rope: RopeParameters, head_dim: int) -> None:
    if not 0 < rope.partial_rotary_factor <= 1:
        raise ConfigError(
            f"config.json: partial_rotary_factor is {rope.partial_rotary_factor}; it must lie between 0 and 1."
        )
    rotated = int(head_dim * rope.partial_rotary_factor)
    if rotated == 0 or rotated % 2:
        raise ConfigError(
            f"config.json: partial_rotary_factor {rope.partial_rotary_factor} rotates {rotated} of {head_dim} "
            "dimensions; an even number of them is needed."
        )
    if not rope.rope_theta > 0:
        raise ConfigError(f"config.json: rope_theta is {rope.rope_theta}; a positive number is needed.")
