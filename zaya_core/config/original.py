"""Zyphra's first layout: half layers of attention and of experts alternate, and one setting has several names."""

from __future__ import annotations

from reprlib import repr as shown

from zaya_core.config.bounds import LARGEST
from zaya_core.config.common import read_common
from zaya_core.config.model_config import ModelConfig
from zaya_core.config.reader import Reader, is_absent
from zaya_core.config.rope import DEFAULT_ROPE, FULL, SLIDING, RopeParameters
from zaya_core.errors import ConfigError


def read_original(reader: Reader) -> ModelConfig:
    """Raises ConfigError."""
    layers = _read_half_layers(reader) // 2
    _expect_original_switches(reader)
    window, layer_types = _read_windows(reader, layers)
    both_halves = reader.first_of("ffn_hidden_size_list", "ffn_hidden_size")
    width = reader.same_in_every_layer(both_halves, 4096)
    if width % 2:
        raise ConfigError(f"config.json: {both_halves} is {width}; gate and up are its halves, so it must be even.")
    return ModelConfig(
        layout="original",
        num_hidden_layers=layers,
        num_attention_heads=_read_query_heads(reader),
        num_key_value_heads=reader.same_in_every_layer(
            reader.first_of("num_query_groups_list", "num_query_groups", "num_key_value_heads"), 2
        ),
        head_dim=_read_head_dim(reader),
        num_experts=_read_experts_of_zaya_layers(reader),
        moe_intermediate_size=width // 2,
        router_hidden_size=reader.same_in_every_layer(reader.first_of("zaya_mlp_expansion", "smoe_mlp_expansion"), 256),
        rms_norm_eps=reader.number("norm_epsilon", 1e-5),
        layer_types=layer_types,
        rope_parameters=_read_original_rope(reader),
        sliding_window=window,
        expert_block="smoe_block" if reader.raw.get("smoe_layers") is not None else "zaya_block",
        **read_common(reader, []),
    )


def _read_half_layers(reader: Reader) -> int:
    """Length of the list of layers where there is one: `num_hidden_layers` of such files may say something else.

    Right or wrong, the choice is checked: a wrong number of layers shows as missing or extra tensors.
    """
    name = _expect_one_naming(reader)
    layers = reader.get(name)
    reader.read.add("num_hidden_layers")
    key = "num_hidden_layers" if layers is None else f"length of {name}"
    half_layers = len(layers) if isinstance(layers, list) else reader.integer("num_hidden_layers", 80)
    if not 1 <= half_layers <= 2 * LARGEST["num_hidden_layers"] or half_layers % 2:
        raise ConfigError(
            f"config.json: {key} is {shown(half_layers)}; the original layout alternates attention and experts, "
            f"so an even number from 2 to {2 * LARGEST['num_hidden_layers']:,} is needed."
        )
    return half_layers


def _expect_one_naming(reader: Reader) -> str:
    """The key of the list of layers: names with `zaya_`, or in early files with `smoe_`."""
    if reader.raw.get("zaya_layers") is not None and reader.raw.get("smoe_layers") is not None:
        raise ConfigError("config.json has both zaya_layers and smoe_layers: download the file again.")
    return reader.first_of("zaya_layers", "smoe_layers")


def _read_head_dim(reader: Reader) -> int:
    """Early files leave it out: the width of a head before compression, whose number `num_attention_heads` is there."""
    key = reader.first_of("kv_channels", "head_dim")
    heads = reader.get("num_attention_heads")
    if reader.raw.get(key) is not None or "cca_num_q_heads" not in reader.raw or heads is None:
        return reader.integer(key, 128)
    hidden, count = reader.integer("hidden_size", 2048), reader.integer("num_attention_heads")
    if count < 1 or hidden % count:
        raise ConfigError(
            f"config.json: hidden_size {shown(hidden)} is not a multiple of num_attention_heads {shown(count)}."
        )
    return hidden // count


def _read_original_rope(reader: Reader) -> dict[str, RopeParameters]:
    """One base and share for all layers, and another base for those with a window.

    There is no default for the base: the releases have different ones, and no shape would show a wrong one.
    """
    reader.expect("rope_scaling", None, False)
    reader.expect("use_rope_scaling", None, False)
    reader.expect("rope_parameters", None)
    share = reader.number(reader.first_of("partial_rotary_factor", "rope_pct"), 0.5)
    base = reader.number(reader.first_of("rope_theta", "rotary_base"))
    has_sliding_base = reader.get("swa_rotary_base") is not None
    sliding_base = reader.number("swa_rotary_base") if has_sliding_base else DEFAULT_ROPE[SLIDING]["rope_theta"]
    return {FULL: RopeParameters(base, share), SLIDING: RopeParameters(sliding_base, share)}


def _expect_original_switches(reader: Reader) -> None:
    """The original code has switches for other architectures; all ZAYA releases set them as below."""
    reader.expect("moe_router_topk", 1)
    reader.expect("num_experts_per_tok", 1)
    reader.expect("activation_func", "swiglu")
    reader.expect("hidden_act", "silu")
    reader.expect("normalization", "RMSNorm")
    for key in ("cca", "gated_linear_unit", "scale_residual_merge"):
        reader.expect(key, True)
    for key in ("zaya_use_mod", "zaya_use_eda", "smoe_use_mod", "smoe_use_eda"):
        reader.expect(key, True)
    for key in ("add_bias_linear", "smoe_inhibitory", "use_lora_att"):
        reader.expect(key, False)


def _read_query_heads(reader: Reader) -> int:
    """`num_attention_heads` counts the heads before compression (16 in ZAYA1-base) where `cca_num_q_heads` is given."""
    return reader.same_in_every_layer(reader.first_of("cca_num_q_heads", "num_attention_heads"), 8)


def _read_experts_of_zaya_layers(reader: Reader) -> int:
    """The list of layers alternates "a" (attention) with the number of experts of the half layer after it."""
    name = reader.first_of("zaya_layers", "smoe_layers")
    layers = reader.get(name)
    if layers is None:
        return reader.integer("num_experts", 16)
    reader.read.add("num_experts")
    if not isinstance(layers, list) or any(entry != "a" for entry in layers[::2]):
        raise ConfigError(f"config.json: {name} is {shown(layers)}; 'a' and a number of experts must alternate.")
    counts = sorted({reader.integer_of(name, entry) for entry in layers[1::2]})
    if len(counts) != 1:
        raise ConfigError(f"config.json: {name} gives {shown(counts)} experts; one number for all is supported.")
    return counts[0]


def _read_windows(reader: Reader, layers: int) -> tuple[int | None, tuple[str, ...]]:
    """The window and the type of each layer, from one number (0: sees everything) a layer or a half layer.

    The original counts the earlier positions only; here the window includes the query's own, so one more.
    """
    value = reader.get("swa_layers")
    if value is None:
        reader.expect("sliding_window", None)
        return None, (FULL,) * layers
    reader.read.add("sliding_window")
    if isinstance(value, list) and len(value) in _lengths_of_half_layer_lists(reader):
        value = value[: 2 * layers]
    if not isinstance(value, list) or len(value) not in (layers, 2 * layers):
        raise ConfigError(f"config.json: swa_layers is {shown(value)}; a window for each of {layers} layers is needed.")
    of_attention = value[::2] if len(value) == 2 * layers else value
    windows = [0 if is_absent(entry) else reader.integer_of("swa_layers", entry) for entry in of_attention]
    distinct = sorted(set(windows) - {0})
    if len(distinct) > 1 or any(window < 0 for window in distinct):
        raise ConfigError(f"config.json: swa_layers has windows {shown(distinct)}; one size above 0 is supported.")
    return (distinct[0] + 1 if distinct else None), tuple(SLIDING if window else FULL for window in windows)


def _lengths_of_half_layer_lists(reader: Reader) -> set[int]:
    """Some files fill their lists up to the half layers of a larger model: then several have the same length."""
    keys = (
        "cca_num_q_heads",
        "ffn_hidden_size_list",
        "num_query_groups_list",
        "zaya_mlp_expansion",
        "smoe_mlp_expansion",
    )
    return {len(value) for key in keys if isinstance(value := reader.raw.get(key), list)}
