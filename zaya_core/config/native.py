"""The layout of transformers' `ZayaForCausalLM`: one entry a decoder layer, rotary parameters by its type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from reprlib import repr as shown

from zaya_core.config.bounds import checked
from zaya_core.config.common import read_common
from zaya_core.config.model_config import ModelConfig
from zaya_core.config.reader import Reader
from zaya_core.config.rope import DEFAULT_ROPE, FULL, SLIDING, RopeParameters
from zaya_core.errors import ConfigError


def read_native(reader: Reader) -> ModelConfig:
    """Raises ConfigError."""
    layers = checked("num_hidden_layers", reader.integer("num_hidden_layers", 40))
    layer_types = _read_layer_types(reader, layers)
    reader.expect("num_experts_per_tok", 1)
    reader.expect("hidden_act", "silu")
    reader.expect("rope_scaling", None, False)
    rope_parameters, unknown_rope_keys = _read_rope(reader, layer_types)
    return ModelConfig(
        layout="native",
        num_hidden_layers=layers,
        num_attention_heads=reader.integer("num_attention_heads", 8),
        num_key_value_heads=reader.integer("num_key_value_heads", 2),
        head_dim=reader.integer("head_dim", 128),
        num_experts=reader.integer("num_experts", 16),
        moe_intermediate_size=reader.integer("moe_intermediate_size", 2048),
        router_hidden_size=reader.integer("router_hidden_size", 256),
        rms_norm_eps=reader.number("rms_norm_eps", 1e-5),
        layer_types=layer_types,
        rope_parameters=rope_parameters,
        sliding_window=_read_native_window(reader),
        **read_common(reader, unknown_rope_keys),
    )


def _read_native_window(reader: Reader) -> int | None:
    window = reader.get("sliding_window")
    return None if window is None else reader.integer_of("sliding_window", window)


def _read_layer_types(reader: Reader, layers: int) -> tuple[str, ...]:
    value = reader.get("layer_types")
    if value is None:
        return (FULL,) * layers
    if not isinstance(value, list) or len(value) != layers:
        count = f"{len(value)} entries" if isinstance(value, list) else shown(value)
        raise ConfigError(
            f"config.json: layer_types is {count} for num_hidden_layers {layers}; one for each is needed."
        )
    strange = sorted({shown(entry) for entry in value if entry not in (FULL, SLIDING)})
    if strange:
        raise ConfigError(
            f"config.json: layer_types holds {', '.join(strange[:5])}; {FULL!r} and {SLIDING!r} are computed."
        )
    return tuple(value)


def _read_rope(reader: Reader, layer_types: Sequence[str]) -> tuple[dict[str, RopeParameters], list[str]]:
    """The table nested by layer type, and its unknown keys.

    The Hub's file carries a stray `rope_type` beside the types, and a copy of `partial_rotary_factor` beside the table.
    """
    table = reader.get("rope_parameters")
    if table is None:
        table = DEFAULT_ROPE
    if not isinstance(table, dict):
        raise ConfigError(f"config.json: rope_parameters is {shown(table)}; a table by layer type is needed.")
    outer = Reader(table)
    outer.expect("rope_type", "default", None)
    outer.read.update((FULL, SLIDING))
    unknown = [f"rope_parameters.{key}" for key in outer.unknown()]
    found: dict[str, RopeParameters] = {}
    for layer_type in sorted(set(layer_types)):
        entry = table.get(layer_type)
        if not isinstance(entry, dict):
            raise ConfigError(f"config.json: rope_parameters has no table for layer type {layer_type!r}.")
        inner = Reader(entry)
        inner.expect("rope_type", "default", None)
        found[layer_type] = RopeParameters(inner.number("rope_theta"), inner.number("partial_rotary_factor", 1.0))
        unknown += [f"rope_parameters.{layer_type}.{key}" for key in inner.unknown()]
    _expect_copies(reader, found)
    return found, unknown


def _expect_copies(reader: Reader, rope: Mapping[str, RopeParameters]) -> None:
    """A rope setting repeated beside the table must be one of the table's: nobody could say which of the two holds."""
    for key in ("rope_theta", "partial_rotary_factor"):
        in_table = sorted({getattr(entry, key) for entry in rope.values()})
        if reader.get(key) is not None and reader.number(key) not in in_table:
            raise ConfigError(
                f"config.json: {key} is {shown(reader.raw[key])}, but rope_parameters has {in_table}: "
                "they must agree; download the file again."
            )
