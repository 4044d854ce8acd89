"""`config.json` of either checkpoint layout, read into one frozen dataclass.

Every key is read with its type; a value that this program does not compute is refused with the key, the
value and what is supported; a key that nobody here knows is collected in `unknown_keys` and reported, never
silently dropped. Names are those of transformers' `ZayaConfig`; `docs/checkpoints.md` lists how the keys of the original
80-layer layout map to them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zaya_core.errors import ConfigError, ModelNotFoundError

Layout = Literal["native", "original"]

FULL = "hybrid"
SLIDING = "hybrid_sliding"

# Bounds far above every ZAYA released, so that a damaged number cannot ask for terabytes of tables.
_LARGEST = {
    "vocab_size": 2_000_000,
    "hidden_size": 65_536,
    "num_hidden_layers": 1_024,
    "num_attention_heads": 1_024,
    "num_key_value_heads": 1_024,
    "head_dim": 4_096,
    "num_experts": 4_096,
    "moe_intermediate_size": 262_144,
    "router_hidden_size": 65_536,
    "cca_time0": 64,
    "cca_time1": 64,
    "max_position_embeddings": 1 << 24,
}

# Keys that describe training, other programs' switches or the file itself: known, and without effect here.
_WITHOUT_EFFECT = frozenset(
    """_name_or_path activation_func_fp8_input_store apply_rope_fusion architectures attention_dropout
    auto_map bias_activation_fusion chunk_size_feed_forward dtype fused_add_norm id2label
    initializer_range is_encoder_decoder label2id mamba_cache_dtype model_type norm_topk_prob
    output_attentions output_hidden_states output_router_logits problem_type residual_in_fp32
    return_dict rope_type tokenizer_class torch_dtype transformers_version use_cache vocab_padding
    zaya_high_prec use_rope_scaling""".split()
)


@dataclass(frozen=True)
class RopeParameters:
    """Rotary embedding of one layer type: base, and the share of each head's width that is rotated."""

    rope_theta: float
    partial_rotary_factor: float


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and switches of one ZAYA model, whichever layout its checkpoint has."""

    layout: Layout
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    num_experts: int
    moe_intermediate_size: int
    router_hidden_size: int
    cca_time0: int
    cca_time1: int
    rms_norm_eps: float
    max_position_embeddings: int
    layer_types: tuple[str, ...]
    rope_parameters: Mapping[str, RopeParameters]
    sliding_window: int | None
    attention_bias: bool
    lm_head_bias: bool
    tie_word_embeddings: bool
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    pad_token_id: int | None
    unknown_keys: tuple[str, ...] = ()

    @property
    def cca_channels(self) -> int:
        """C: channels of the convolutions, queries first, then keys."""
        return (self.num_attention_heads + self.num_key_value_heads) * self.head_dim

    @property
    def conv_tail(self) -> int:
        """W: how many earlier columns both convolutions together look back."""
        return self.cca_time0 + self.cca_time1 - 2

    @property
    def delayed_width(self) -> int:
        """Width of the half of V that comes from the previous token."""
        return self.num_key_value_heads * self.head_dim // 2

    def kv_bytes_per_token(self, bytes_per_value: int = 2) -> int:
        """Bytes of K and V of all layers for one position."""
        return 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim * bytes_per_value


def read_config(folder: str | Path) -> ModelConfig:
    """Read `config.json` of a model folder.

    Raises: ModelNotFoundError without folder or file; ConfigError for anything that is not a ZAYA that this program computes.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise ModelNotFoundError(f"{folder} has no config.json: give the folder of a downloaded ZAYA model.")
    if path.stat().st_size > 4_000_000:
        raise ConfigError(f"{path} has {path.stat().st_size:,} bytes; a config.json has a few thousand.")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid JSON ({error}): download the file again.") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} holds a {type(raw).__name__}, not an object of settings.")
    return parse_config(raw)


def parse_config(raw: Mapping[str, Any]) -> ModelConfig:
    """Typed reads from the settings of either layout. See `read_config`."""
    reader = _Reader(raw)
    reader.expect("model_type", "zaya", required=True)
    layout: Layout = "native" if raw.get("layer_types") is not None else "original"
    config = _read_native(reader) if layout == "native" else _read_original(reader)
    _check_sizes(config)
    return config


class _Reader:
    """Typed access to the settings; remembers which keys were asked for."""

    def __init__(self, raw: Mapping[str, Any]):
        self.raw = raw
        self.read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return self.raw.get(key, default)

    def integer(self, key: str, default: int | None = None) -> int:
        return self._integer_of(key, self.get(key, default))

    def _integer_of(self, key: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"config.json: {key} is {value!r}; a whole number is needed.")
        return value

    def same_in_every_layer(self, key: str, default: int | None = None) -> int:
        """A number, or ZAYA1-base's list of one number a layer (0 where the layer has no such part)."""
        value = self.get(key, default)
        if not isinstance(value, list):
            return self._integer_of(key, value)
        distinct = sorted({self._integer_of(key, entry) for entry in value if not _is_absent(entry)})
        if len(distinct) != 1:
            raise ConfigError(f"config.json: {key} differs between layers ({distinct}); one value for all is supported.")
        return distinct[0]

    def number(self, key: str, default: float | None = None) -> float:
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f"config.json: {key} is {value!r}; a number is needed.")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise ConfigError(f"config.json: {key} is {value!r}; true or false is needed.")
        return value

    def optional_integer(self, key: str) -> int | None:
        value = self.get(key)
        return None if value is None else self._integer_of(key, value)

    def expect(self, key: str, *supported: Any, required: bool = False) -> None:
        """Refuse a value that would change the maths."""
        if key not in self.raw and not required:
            return
        value = self.get(key)
        if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in supported):
            choices = " or ".join(repr(one) for one in supported)
            raise ConfigError(f"config.json: {key} is {value!r}; this program computes {choices} only.")

    def token_ids(self, key: str) -> tuple[int, ...]:
        value = self.get(key)
        entries = value if isinstance(value, list) else [] if value is None else [value]
        return tuple(self._integer_of(key, entry) for entry in entries)

    def unknown(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.raw) - self.read - _WITHOUT_EFFECT))


def _is_absent(entry: Any) -> bool:
    return entry is None or entry == 0


def _read_native(reader: _Reader) -> ModelConfig:
    layers = reader.integer("num_hidden_layers", 40)
    layer_types = _read_layer_types(reader, layers)
    reader.expect("num_experts_per_tok", 1)
    reader.expect("hidden_act", "silu")
    reader.expect("rope_scaling", None, False)
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
        rope_parameters=_read_rope(reader, layer_types),
        sliding_window=reader.optional_integer("sliding_window"),
        **_read_common(reader),
    )


def _read_original(reader: _Reader) -> ModelConfig:
    half_layers = reader.integer("num_hidden_layers", 80)
    if half_layers % 2:
        raise ConfigError(
            f"config.json: num_hidden_layers is {half_layers}; the original layout alternates attention and experts, "
            "so an even number is needed."
        )
    _expect_original_switches(reader)
    windows = _read_windows(reader, half_layers // 2)
    two_halves = reader.same_in_every_layer("ffn_hidden_size_list" if "ffn_hidden_size_list" in reader.raw else "ffn_hidden_size", 4096)
    return ModelConfig(
        layout="original",
        num_hidden_layers=half_layers // 2,
        num_attention_heads=_read_query_heads(reader),
        num_key_value_heads=_read_key_heads(reader),
        head_dim=reader.integer("kv_channels" if "kv_channels" in reader.raw else "head_dim", 128),
        num_experts=_read_experts_of_zaya_layers(reader),
        moe_intermediate_size=two_halves // 2,
        router_hidden_size=reader.same_in_every_layer("zaya_mlp_expansion", 256),
        rms_norm_eps=reader.number("norm_epsilon", 1e-5),
        layer_types=tuple(SLIDING if window else FULL for window in windows),
        rope_parameters=_read_original_rope(reader),
        # The original counts the earlier positions only; here the window includes the query's own.
        sliding_window=max(windows) + 1 if any(windows) else None,
        **_read_common(reader),
    )


def _read_common(reader: _Reader) -> dict[str, Any]:
    reader.expect("clamp_temp", False)
    values: dict[str, Any] = {
        "vocab_size": reader.integer("vocab_size", 262_272),
        "hidden_size": reader.integer("hidden_size", 2048),
        "cca_time0": reader.integer("cca_time0", 2),
        "cca_time1": reader.integer("cca_time1", 2),
        "max_position_embeddings": reader.integer("max_position_embeddings", 131_072),
        "attention_bias": reader.flag("attention_bias", False),
        "lm_head_bias": reader.flag("lm_head_bias", False),
        "tie_word_embeddings": reader.flag("tie_word_embeddings", True),
        "bos_token_id": reader.optional_integer("bos_token_id"),
        "eos_token_ids": reader.token_ids("eos_token_id"),
        "pad_token_id": reader.optional_integer("pad_token_id"),
    }
    values["unknown_keys"] = reader.unknown()
    return values


def _read_layer_types(reader: _Reader, layers: int) -> tuple[str, ...]:
    value = reader.get("layer_types")
    if not isinstance(value, list) or len(value) != layers:
        count = len(value) if isinstance(value, list) else "no list"
        raise ConfigError(f"config.json: layer_types has {count} entries for num_hidden_layers {layers}.")
    strange = sorted({repr(entry) for entry in value if entry not in (FULL, SLIDING)})
    if strange:
        raise ConfigError(f"config.json: layer_types holds {', '.join(strange)}; {FULL!r} and {SLIDING!r} are computed.")
    return tuple(value)


def _read_rope(reader: _Reader, layer_types: Sequence[str]) -> dict[str, RopeParameters]:
    """The table nested by layer type; the Hub's file carries a stray `rope_type` beside the types."""
    table = reader.get("rope_parameters")
    if table is None:
        table = {FULL: {"rope_theta": 5_000_000.0}, SLIDING: {"rope_theta": 10_000.0}}
    if not isinstance(table, dict):
        raise ConfigError(f"config.json: rope_parameters is {table!r}; a table by layer type is needed.")
    found: dict[str, RopeParameters] = {}
    for layer_type in sorted(set(layer_types)):
        entry = table.get(layer_type)
        if not isinstance(entry, dict):
            raise ConfigError(f"config.json: rope_parameters has no table for layer type {layer_type!r}.")
        inner = _Reader(entry)
        inner.expect("rope_type", "default", None)
        found[layer_type] = RopeParameters(
            inner.number("rope_theta"), inner.number("partial_rotary_factor", 1.0)
        )
    return found


def _read_original_rope(reader: _Reader) -> dict[str, RopeParameters]:
    reader.expect("rope_scaling", None, False)
    base_key = "rope_theta" if "rope_theta" in reader.raw else "rotary_base"
    reader.read.update({"rope_theta", "rotary_base", "rope_pct", "partial_rotary_factor"})
    share_key = "partial_rotary_factor" if "partial_rotary_factor" in reader.raw else "rope_pct"
    share = reader.number(share_key, 0.5)
    return {
        FULL: RopeParameters(reader.number(base_key, 5_000_000.0), share),
        SLIDING: RopeParameters(reader.number("swa_rotary_base", 10_000.0), share),
    }


def _expect_original_switches(reader: _Reader) -> None:
    """The original code has switches for other architectures; all ZAYA releases set them as below."""
    reader.expect("moe_router_topk", 1)
    reader.expect("num_experts_per_tok", 1)
    reader.expect("activation_func", "swiglu")
    reader.expect("hidden_act", "silu")
    reader.expect("normalization", "RMSNorm")
    for key in ("cca", "gated_linear_unit", "scale_residual_merge", "zaya_use_mod", "zaya_use_eda"):
        reader.expect(key, True)
    reader.expect("add_bias_linear", False)


def _read_query_heads(reader: _Reader) -> int:
    """`num_attention_heads` of the original files counts the heads before compression."""
    reader.read.add("num_attention_heads")
    return reader.same_in_every_layer("cca_num_q_heads" if "cca_num_q_heads" in reader.raw else "num_attention_heads", 8)


def _read_key_heads(reader: _Reader) -> int:
    for key in ("num_query_groups_list", "num_query_groups"):
        reader.read.add("num_key_value_heads")
        if key in reader.raw:
            return reader.same_in_every_layer(key)
    return reader.same_in_every_layer("num_key_value_heads", 2)


def _read_experts_of_zaya_layers(reader: _Reader) -> int:
    """`zaya_layers` alternates "a" (attention) with the number of experts of the layer after it."""
    layers = reader.get("zaya_layers")
    if layers is None:
        return reader.integer("num_experts", 16)
    reader.read.add("num_experts")
    if not isinstance(layers, list) or any(entry != "a" for entry in layers[::2]):
        raise ConfigError("config.json: zaya_layers must alternate 'a' and a number of experts.")
    counts = sorted({reader._integer_of("zaya_layers", entry) for entry in layers[1::2]})
    if len(counts) != 1:
        raise ConfigError(f"config.json: zaya_layers gives {counts} experts; one number for all layers is supported.")
    return counts[0]


def _read_windows(reader: _Reader, layers: int) -> list[int]:
    """Earlier positions that each layer sees, 0 for all of them."""
    value = reader.get("swa_layers")
    reader.read.add("sliding_window")
    if value is None:
        return [0] * layers
    if not isinstance(value, list) or len(value) not in (layers, 2 * layers):
        raise ConfigError(f"config.json: swa_layers must list a window for each of the {layers} layers.")
    windows = [reader._integer_of("swa_layers", entry) for entry in value]
    windows = windows[::2] if len(windows) == 2 * layers else windows
    if len({window for window in windows if window}) > 1:
        raise ConfigError(f"config.json: swa_layers has windows {sorted(set(windows))}; one size is supported.")
    return windows


def _check_sizes(config: ModelConfig) -> None:
    for key, largest in _LARGEST.items():
        value = getattr(config, key)
        if not 1 <= value <= largest:
            raise ConfigError(f"config.json: {key} is {value:,}; it must lie between 1 and {largest:,}.")
    if config.num_attention_heads % config.num_key_value_heads:
        raise ConfigError(
            f"config.json: num_attention_heads {config.num_attention_heads} is not a multiple of "
            f"num_key_value_heads {config.num_key_value_heads}."
        )
    if config.num_key_value_heads * config.head_dim % 2:
        raise ConfigError("config.json: num_key_value_heads * head_dim is odd; V is made of two halves.")
    if SLIDING in config.layer_types and (config.sliding_window is None or config.sliding_window < 1):
        raise ConfigError(f"config.json: sliding_window is {config.sliding_window}; {SLIDING!r} layers need a size.")
    if not 0 < config.rms_norm_eps < 1:
        raise ConfigError(f"config.json: rms_norm_eps is {config.rms_norm_eps}; it must lie between 0 and 1.")
    for rope in config.rope_parameters.values():
        _check_rope(rope, config.head_dim)


def _check_rope(rope: RopeParameters, head_dim: int) -> None:
    rotated = int(head_dim * rope.partial_rotary_factor)
    if not 0 < rotated <= head_dim or rotated % 2:
        raise ConfigError(
            f"config.json: partial_rotary_factor {rope.partial_rotary_factor} rotates {rotated} of {head_dim} "
            "dimensions; an even number of them is needed."
        )
    if not rope.rope_theta > 0:
        raise ConfigError(f"config.json: rope_theta is {rope.rope_theta}; a positive number is needed.")
