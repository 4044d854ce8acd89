"""`config.json` of either checkpoint layout, read into one frozen dataclass.

Every key is read with its type; a value that this program does not compute is refused with the key, the
value and what is supported; a key that nobody here knows is collected in `unknown_keys` and reported, never
silently dropped. Names are those of transformers' `ZayaConfig`; `docs/checkpoints.md` lists how the keys of the
original 80-layer layout map to them. Numbers are bounded before anything is built from them.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zaya_core.config.kv_format import KVFormat, bytes_of_head
from zaya_core.config.quantization import Quantization, parse_quantization
from zaya_core.errors import ConfigError, ModelNotFoundError
from zaya_core.files.folder_files import printable, read_json, whole_number

Layout = Literal["native", "original"]

UNFINISHED = "config.json.unfinished"  # what a folder has instead until it is complete
UNFINISHED_FOLDER = ".unfinished"  # how its name ends until then

FULL = "hybrid"
SLIDING = "hybrid_sliding"

# Bounds far above every ZAYA released, so that a damaged number cannot ask for terabytes of tables.
_LARGEST = {
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

# Keys that describe training, other programs' switches or the file itself: known, and without effect here.
_WITHOUT_EFFECT = frozenset(
    [
        "_name_or_path",
        "activation_func_fp8_input_store",
        "apply_rope_fusion",
        "ar_threshold",
        "architectures",
        "attention_dropout",
        "auto_map",
        "bias_activation_fusion",
        "chunk_size",
        "chunk_size_feed_forward",
        "dtype",
        "fused_add_norm",
        "id2label",
        "ignore_mod_in_smoe_block",
        "init_from_megatron_checkpoint",
        "init_from_megatron_checkpoint_path",
        "initializer_range",
        "is_encoder_decoder",
        "label2id",
        "lora_rank",
        "mamba_cache_dtype",
        "mamba_chunk_size",
        "mask_token_id",
        "norm_topk_prob",
        "num_attention_heads_list",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "problem_type",
        "residual_in_fp32",
        "return_dict",
        "smoe_high_prec",
        "smoe_mod_per",
        "smoe_p_switch",
        "smoe_parallel_scan_thres",
        "tokenizer_class",
        "torch_dtype",
        "transformers_version",
        "use_cache",
        "vocab_padding",
        "zaya_high_prec",
    ]
)
_LARGEST_TOKEN_ID = _LARGEST["vocab_size"]
_LARGEST_NUMBER = 1e30
_CONFIG_BYTES = 4_000_000

_DEFAULT_ROPE = {
    FULL: {"rope_theta": 5_000_000.0, "partial_rotary_factor": 0.5},
    SLIDING: {"rope_theta": 10_000.0, "partial_rotary_factor": 0.5},
}


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
    quantization: Quantization | None = None
    unknown_keys: tuple[str, ...] = ()
    expert_block: str = "zaya_block"  # what the original layout calls a half layer's router and experts in names

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

    def kv_bytes_per_token(self, bytes_per_value: int = 2, kv: KVFormat = "auto") -> int:
        """Bytes of K and V of all layers for one position. bytes_per_value: of the model's dtype."""
        return 2 * self.num_hidden_layers * self.num_key_value_heads * bytes_of_head(kv, self.head_dim, bytes_per_value)


def read_config(folder: str | Path) -> ModelConfig:
    """Read `config.json` of a model folder.

    Raises: ModelNotFoundError without folder or file; ConfigError for anything that is not a ZAYA that this program
    computes.
    """
    folder = Path(folder)
    path = folder / "config.json"
    _expect_folder(folder)
    if not os.path.lexists(path):
        raise ModelNotFoundError(_no_config(folder))
    raw = read_json(path, _CONFIG_BYTES, ConfigError)
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} holds a {type(raw).__name__}, not an object of settings: download the file again.")
    return parse_config(raw)


def _expect_folder(folder: Path) -> None:
    """Not only that it is one: without permission to enter it, every file in it would seem to be missing."""
    try:
        os.stat(os.path.join(folder, "."))
    except NotADirectoryError:
        raise ModelNotFoundError(f"{folder} is a file: give the folder of a downloaded ZAYA model.") from None
    except PermissionError as error:
        raise ConfigError(f"{folder} cannot be opened ({error.strerror}): check its permissions.") from None
    except (OSError, ValueError):
        raise ModelNotFoundError(f"There is no folder {folder}: give the folder of a downloaded ZAYA model.") from None


def _no_config(folder: Path) -> str:
    if os.path.isfile(folder / UNFINISHED):
        return f"{folder} is an unfinished quantization: run its `zaya quantize` again to go on."
    names = sorted(os.listdir(folder)) if os.access(folder, os.R_OK) else []
    gguf = [printable(name) for name in names if name.lower().endswith(".gguf")]
    found = f" ({gguf[0]} is of llama.cpp, which this program does not read)" if gguf else ""
    return f"{folder} has no config.json{found}: give the folder of a downloaded ZAYA model."


def parse_config(raw: Mapping[str, Any]) -> ModelConfig:
    """Typed reads from the settings of either layout. See `read_config`."""
    reader = _Reader(raw)
    _expect_zaya_text_model(reader)
    config = _read_native(reader) if _layout_of(raw) == "native" else _read_original(reader)
    _check_sizes(config)
    return config


def _expect_zaya_text_model(reader: _Reader) -> None:
    model_type = reader.get("model_type")
    _expect_next_token_model(reader.raw)
    if model_type == "smoe" and "smoe_layers" in reader.raw:  # what its makers called it first
        return
    if model_type == "zaya1_vl":
        raise ConfigError("config.json describes a vision model (zaya1_vl); only the text models (zaya) are computed.")
    if model_type != "zaya":
        raise ConfigError(f"config.json: model_type is {_shown(model_type)}; this program computes 'zaya' only.")


def _expect_next_token_model(raw: Mapping[str, Any]) -> None:
    """Not the twin that fills masked blocks (TiDAR): same tensors, trained for another attention and decoding.

    The keys of such a file are known from its relatives only, so that all that speaks of masks or diffusion counts.
    """
    architectures = raw.get("architectures")
    names = [name for name in architectures if isinstance(name, str)] if isinstance(architectures, list) else []
    signs = [f"architectures has {_shown(name)}" for name in names if _names_diffusion(name)]
    signs += [f"{printable(key)} is {_shown(raw[key])}" for key in sorted(raw) if _names_diffusion(key) and raw[key]]
    if raw.get("mask_token_id") is not None:
        signs.append(f"mask_token_id is {_shown(raw['mask_token_id'])}")
    if signs:
        raise ConfigError(
            f"config.json describes a model that fills in masked blocks by diffusion ({signs[0]}); this program "
            "computes those that choose one token after the other, such as Zyphra/ZAYA1-8B."
        )


def _names_diffusion(name: str) -> bool:
    return "tidar" in name.lower() or "diffusion" in name.lower()


def _layout_of(raw: Mapping[str, Any]) -> Layout:
    """`layer_types` marks the native layout; where it is left out, the native name of the experts' width does."""
    if raw.get("layer_types") is not None:
        return "native"
    is_original = any(key in raw for key in ("ffn_hidden_size", "ffn_hidden_size_list", "zaya_layers", "smoe_layers"))
    return "native" if "moe_intermediate_size" in raw and not is_original else "original"


class _Reader:
    """Typed access to the settings; remembers which keys were asked for."""

    def __init__(self, raw: Mapping[str, Any]):
        self.raw = raw
        self.read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return self.raw.get(key, default)

    def all_of(self, *keys: str) -> dict[str, Any]:
        """These settings as they are."""
        return {key: self.get(key) for key in keys}

    def first_of(self, *keys: str) -> str:
        """Of several names for one setting, the first that has a value, else the first; all count as read."""
        self.read.update(keys)
        return next((key for key in keys if self.raw.get(key) is not None), keys[0])

    def integer(self, key: str, default: int | None = None) -> int:
        return self.integer_of(key, self.get(key, default))

    def integer_of(self, key: str, value: Any) -> int:
        number = whole_number(value)
        if isinstance(number, bool) or not isinstance(number, int):
            raise ConfigError(f"config.json: {key} is {_shown(value)}; a whole number is needed.")
        return number

    def same_in_every_layer(self, key: str, default: int | None = None) -> int:
        """A number, or ZAYA1-base's list of one number a half layer (0 or null where the half has no such part)."""
        value = self.get(key, default)
        if not isinstance(value, list):
            return self.integer_of(key, value)
        distinct = sorted({self.integer_of(key, entry) for entry in value if not _is_absent(entry)})
        if len(distinct) != 1:
            raise ConfigError(
                f"config.json: {key} has {_shown(distinct)} in its layers; one value for all of them is supported."
            )
        return distinct[0]

    def number(self, key: str, default: float | None = None) -> float:
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _LARGEST_NUMBER:
            raise ConfigError(f"config.json: {key} is {_shown(value)}; a finite number is needed.")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise ConfigError(f"config.json: {key} is {_shown(value)}; true or false is needed.")
        return value

    def expect(self, key: str, *supported: Any) -> None:
        """Refuse a value that would change the maths."""
        if key not in self.raw:
            return
        value = self.get(key)
        if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in supported):
            choices = " or ".join(repr(one) for one in supported)
            raise ConfigError(f"config.json: {key} is {_shown(value)}; this program computes {choices} only.")

    def token_id(self, key: str) -> int | None:
        ids = self.token_ids(key)
        if len(ids) > 1:
            raise ConfigError(f"config.json: {key} is {_shown(list(ids))}; one token id is needed.")
        return ids[0] if ids else None

    def token_ids(self, key: str) -> tuple[int, ...]:
        value = self.get(key)
        entries = value if isinstance(value, list) else [] if value is None else [value]
        ids = tuple(self.integer_of(key, entry) for entry in entries)
        if not all(0 <= id_ < _LARGEST_TOKEN_ID for id_ in ids):
            raise ConfigError(f"config.json: {key} is {_shown(value)}; token ids from 0 are needed.")
        return ids

    def unknown(self) -> list[str]:
        """Keys that nobody asked for, fit for a terminal."""
        return sorted(printable(key) for key in set(self.raw) - self.read - _WITHOUT_EFFECT)


def _shown(value: Any) -> str:
    """A value from the file for a message: cut, escaped, however deep."""
    return reprlib.repr(value)


def _is_absent(entry: Any) -> bool:
    return entry is None or (entry == 0 and not isinstance(entry, bool))


def _read_native(reader: _Reader) -> ModelConfig:
    layers = _checked("num_hidden_layers", reader.integer("num_hidden_layers", 40))
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
        **_read_common(reader, unknown_rope_keys),
    )


def _read_native_window(reader: _Reader) -> int | None:
    window = reader.get("sliding_window")
    return None if window is None else reader.integer_of("sliding_window", window)


def _read_original(reader: _Reader) -> ModelConfig:
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
        **_read_common(reader, []),
    )


def _read_common(reader: _Reader, unknown_keys: list[str]) -> dict[str, Any]:
    """What both layouts call the same. Comes last: what has not been read by then is unknown."""
    reader.expect("clamp_temp", False)
    reader.expect("rope_type", "default", None)
    values: dict[str, Any] = {
        "vocab_size": reader.integer("vocab_size", 262_272),
        "hidden_size": reader.integer("hidden_size", 2048),
        "cca_time0": reader.integer("cca_time0", 2),
        "cca_time1": reader.integer("cca_time1", 2),
        "max_position_embeddings": reader.integer("max_position_embeddings", 131_072),
        "attention_bias": reader.flag("attention_bias", False),
        "lm_head_bias": reader.flag("lm_head_bias", False),
        "tie_word_embeddings": reader.flag("tie_word_embeddings", True),
        "bos_token_id": reader.token_id("bos_token_id"),
        "eos_token_ids": reader.token_ids("eos_token_id"),
        "pad_token_id": reader.token_id("pad_token_id"),
        "quantization": parse_quantization(reader.all_of("quantization", "quantization_config")),
    }
    values["unknown_keys"] = (*reader.unknown(), *unknown_keys)
    return values


def _read_layer_types(reader: _Reader, layers: int) -> tuple[str, ...]:
    value = reader.get("layer_types")
    if value is None:
        return (FULL,) * layers
    if not isinstance(value, list) or len(value) != layers:
        count = f"{len(value)} entries" if isinstance(value, list) else _shown(value)
        raise ConfigError(
            f"config.json: layer_types is {count} for num_hidden_layers {layers}; one for each is needed."
        )
    strange = sorted({_shown(entry) for entry in value if entry not in (FULL, SLIDING)})
    if strange:
        raise ConfigError(
            f"config.json: layer_types holds {', '.join(strange[:5])}; {FULL!r} and {SLIDING!r} are computed."
        )
    return tuple(value)


def _read_rope(reader: _Reader, layer_types: Sequence[str]) -> tuple[dict[str, RopeParameters], list[str]]:
    """The table nested by layer type, and its unknown keys.

    The Hub's file carries a stray `rope_type` beside the types, and a copy of `partial_rotary_factor` beside the table.
    """
    table = reader.get("rope_parameters")
    if table is None:
        table = _DEFAULT_ROPE
    if not isinstance(table, dict):
        raise ConfigError(f"config.json: rope_parameters is {_shown(table)}; a table by layer type is needed.")
    outer = _Reader(table)
    outer.expect("rope_type", "default", None)
    outer.read.update((FULL, SLIDING))
    unknown = [f"rope_parameters.{key}" for key in outer.unknown()]
    found: dict[str, RopeParameters] = {}
    for layer_type in sorted(set(layer_types)):
        entry = table.get(layer_type)
        if not isinstance(entry, dict):
            raise ConfigError(f"config.json: rope_parameters has no table for layer type {layer_type!r}.")
        inner = _Reader(entry)
        inner.expect("rope_type", "default", None)
        found[layer_type] = RopeParameters(inner.number("rope_theta"), inner.number("partial_rotary_factor", 1.0))
        unknown += [f"rope_parameters.{layer_type}.{key}" for key in inner.unknown()]
    _expect_copies(reader, found)
    return found, unknown


def _expect_copies(reader: _Reader, rope: Mapping[str, RopeParameters]) -> None:
    """A rope setting repeated beside the table must be one of the table's: nobody could say which of the two holds."""
    for key in ("rope_theta", "partial_rotary_factor"):
        in_table = sorted({getattr(entry, key) for entry in rope.values()})
        if reader.get(key) is not None and reader.number(key) not in in_table:
            raise ConfigError(
                f"config.json: {key} is {_shown(reader.raw[key])}, but rope_parameters has {in_table}: "
                "they must agree; download the file again."
            )


def _read_half_layers(reader: _Reader) -> int:
    """Length of the list of layers where there is one: `num_hidden_layers` of such files may say something else.

    Right or wrong, the choice is checked: a wrong number of layers shows as missing or extra tensors.
    """
    name = _expect_one_naming(reader)
    layers = reader.get(name)
    reader.read.add("num_hidden_layers")
    key = "num_hidden_layers" if layers is None else f"length of {name}"
    half_layers = len(layers) if isinstance(layers, list) else reader.integer("num_hidden_layers", 80)
    if not 1 <= half_layers <= 2 * _LARGEST["num_hidden_layers"] or half_layers % 2:
        raise ConfigError(
            f"config.json: {key} is {_shown(half_layers)}; the original layout alternates attention and experts, "
            f"so an even number from 2 to {2 * _LARGEST['num_hidden_layers']:,} is needed."
        )
    return half_layers


def _expect_one_naming(reader: _Reader) -> str:
    """The key of the list of layers: names with `zaya_`, or in early files with `smoe_`."""
    if reader.raw.get("zaya_layers") is not None and reader.raw.get("smoe_layers") is not None:
        raise ConfigError("config.json has both zaya_layers and smoe_layers: download the file again.")
    return reader.first_of("zaya_layers", "smoe_layers")


def _read_head_dim(reader: _Reader) -> int:
    """Early files leave it out: the width of a head before compression, whose number `num_attention_heads` is there."""
    key = reader.first_of("kv_channels", "head_dim")
    heads = reader.get("num_attention_heads")
    if reader.raw.get(key) is not None or "cca_num_q_heads" not in reader.raw or heads is None:
        return reader.integer(key, 128)
    hidden, count = reader.integer("hidden_size", 2048), reader.integer("num_attention_heads")
    if count < 1 or hidden % count:
        raise ConfigError(
            f"config.json: hidden_size {_shown(hidden)} is not a multiple of num_attention_heads {_shown(count)}."
        )
    return hidden // count


def _read_original_rope(reader: _Reader) -> dict[str, RopeParameters]:
    """One base and share for all layers, and another base for those with a window.

    There is no default for the base: the releases have different ones, and no shape would show a wrong one.
    """
    reader.expect("rope_scaling", None, False)
    reader.expect("use_rope_scaling", None, False)
    reader.expect("rope_parameters", None)
    share = reader.number(reader.first_of("partial_rotary_factor", "rope_pct"), 0.5)
    base = reader.number(reader.first_of("rope_theta", "rotary_base"))
    has_sliding_base = reader.get("swa_rotary_base") is not None
    sliding_base = reader.number("swa_rotary_base") if has_sliding_base else _DEFAULT_ROPE[SLIDING]["rope_theta"]
    return {FULL: RopeParameters(base, share), SLIDING: RopeParameters(sliding_base, share)}


def _expect_original_switches(reader: _Reader) -> None:
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


def _read_query_heads(reader: _Reader) -> int:
    """`num_attention_heads` counts the heads before compression (16 in ZAYA1-base) where `cca_num_q_heads` is given."""
    return reader.same_in_every_layer(reader.first_of("cca_num_q_heads", "num_attention_heads"), 8)


def _read_experts_of_zaya_layers(reader: _Reader) -> int:
    """The list of layers alternates "a" (attention) with the number of experts of the half layer after it."""
    name = reader.first_of("zaya_layers", "smoe_layers")
    layers = reader.get(name)
    if layers is None:
        return reader.integer("num_experts", 16)
    reader.read.add("num_experts")
    if not isinstance(layers, list) or any(entry != "a" for entry in layers[::2]):
        raise ConfigError(f"config.json: {name} is {_shown(layers)}; 'a' and a number of experts must alternate.")
    counts = sorted({reader.integer_of(name, entry) for entry in layers[1::2]})
    if len(counts) != 1:
        raise ConfigError(f"config.json: {name} gives {_shown(counts)} experts; one number for all is supported.")
    return counts[0]


def _read_windows(reader: _Reader, layers: int) -> tuple[int | None, tuple[str, ...]]:
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
        raise ConfigError(
            f"config.json: swa_layers is {_shown(value)}; a window for each of {layers} layers is needed."
        )
    of_attention = value[::2] if len(value) == 2 * layers else value
    windows = [0 if _is_absent(entry) else reader.integer_of("swa_layers", entry) for entry in of_attention]
    distinct = sorted(set(windows) - {0})
    if len(distinct) > 1 or any(window < 0 for window in distinct):
        raise ConfigError(f"config.json: swa_layers has windows {_shown(distinct)}; one size above 0 is supported.")
    return (distinct[0] + 1 if distinct else None), tuple(SLIDING if window else FULL for window in windows)


def _lengths_of_half_layer_lists(reader: _Reader) -> set[int]:
    """Some files fill their lists up to the half layers of a larger model: then several have the same length."""
    keys = (
        "cca_num_q_heads",
        "ffn_hidden_size_list",
        "num_query_groups_list",
        "zaya_mlp_expansion",
        "smoe_mlp_expansion",
    )
    return {len(value) for key in keys if isinstance(value := reader.raw.get(key), list)}


def _checked(key: str, value: int) -> int:
    if not 1 <= value <= _LARGEST[key]:
        raise ConfigError(f"config.json: {key} is {_shown(value)}; it must lie between 1 and {_LARGEST[key]:,}.")
    return value


def _check_sizes(config: ModelConfig) -> None:
    for key in _LARGEST:
        _checked(key, getattr(config, key))
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
    window, largest = config.sliding_window, _LARGEST["max_position_embeddings"]
    if window is None and SLIDING in config.layer_types:
        raise ConfigError(f"config.json: sliding_window is None; {SLIDING!r} layers need a size.")
    if window is not None and not 1 <= window <= largest:
        raise ConfigError(f"config.json: sliding_window is {_shown(window)}; it must lie between 1 and {largest:,}.")


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
