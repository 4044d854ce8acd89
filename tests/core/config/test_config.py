"""`config.json` of every ZAYA release is read as it is on the Hub; what would change the maths is refused by name."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zaya_core.config.parse import parse_config, read_config
from zaya_core.config.rope import RopeParameters
from zaya_core.errors import ConfigError, ModelNotFoundError, ZayaError

ROPE = {"rope_type": "default", "partial_rotary_factor": 0.5}

# Zyphra/ZAYA1-8B, revision 67d34da5, with its stray `rope_type` and its copy of `partial_rotary_factor`.
NATIVE_8B: dict[str, Any] = {
    "architectures": ["ZayaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 2,
    "cca_time0": 2,
    "cca_time1": 2,
    "dtype": "bfloat16",
    "eos_token_id": 106,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "layer_types": ["hybrid"] * 40,
    "lm_head_bias": False,
    "max_position_embeddings": 131072,
    "model_type": "zaya",
    "moe_intermediate_size": 2048,
    "num_attention_heads": 8,
    "num_experts": 16,
    "num_experts_per_tok": 1,
    "num_hidden_layers": 40,
    "num_key_value_heads": 2,
    "output_router_logits": False,
    "pad_token_id": 0,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1e-05,
    "rope_parameters": {
        "hybrid": {**ROPE, "rope_theta": 5000000},
        "hybrid_sliding": {**ROPE, "rope_theta": 10000.0},
        "rope_type": "default",
    },
    "router_hidden_size": 256,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "transformers_version": "5.13.0",
    "use_cache": True,
    "vocab_size": 262272,
}

# Zyphra/ZAYA1-8B-legacy, revision 1bef1fb5.
LEGACY_8B: dict[str, Any] = {
    "activation_func": "swiglu",
    "activation_func_fp8_input_store": False,
    "add_bias_linear": False,
    "architectures": ["ZayaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bias_activation_fusion": True,
    "bos_token_id": 2,
    "cca": True,
    "dtype": "bfloat16",
    "eos_token_id": 106,
    "ffn_hidden_size": 4096,
    "gated_linear_unit": True,
    "head_dim": 128,
    "hidden_size": 2048,
    "kv_channels": 128,
    "lm_head_bias": False,
    "mamba_cache_dtype": "float32",
    "max_position_embeddings": 131072,
    "model_type": "zaya",
    "moe_router_topk": 1,
    "norm_epsilon": 1e-05,
    "normalization": "RMSNorm",
    "num_attention_heads": 8,
    "num_experts": 16,
    "num_hidden_layers": 80,
    "num_key_value_heads": 2,
    "num_query_groups": 2,
    "pad_token_id": 0,
    "partial_rotary_factor": 0.5,
    "residual_in_fp32": True,
    "rope_scaling": False,
    "rope_theta": 5000000,
    "scale_residual_merge": True,
    "sliding_window": None,
    "use_cache": True,
    "vocab_size": 262272,
    "zaya_high_prec": True,
    "zaya_mlp_expansion": 256,
    "zaya_use_eda": True,
    "zaya_use_mod": True,
}

# Zyphra/ZAYA1-base: a list over half layers for what the later files have as one number.
BASE: dict[str, Any] = {
    **{
        key: value
        for key, value in LEGACY_8B.items()
        if key not in ("num_query_groups", "ffn_hidden_size", "kv_channels", "head_dim", "num_experts")
    },
    "zaya_layers": ["a", 16] * 40,
    "cca_num_q_heads": [8, 0] * 40,
    "num_query_groups_list": [2, 0] * 40,
    "ffn_hidden_size_list": [0, 4096] * 40,
    "zaya_mlp_expansion": [0, 256] * 40,
    "num_attention_heads": 16,
    "rope_theta": 1000000,
    "max_position_embeddings": 32768,
    "eos_token_id": 1,
    "residual_in_fp32": False,
}

# Zyphra/ZAYA1-74B-preview; hidden size and expert width are inferred.
NATIVE_74B: dict[str, Any] = {
    **NATIVE_8B,
    "hidden_size": 4096,
    "num_hidden_layers": 60,
    "layer_types": ["hybrid_sliding", "hybrid"] * 30,
    "num_attention_heads": 16,
    "num_experts": 24,
    "moe_intermediate_size": 4096,
    "sliding_window": 4097,
    "max_position_embeddings": 262144,
}
LEGACY_74B: dict[str, Any] = {
    **LEGACY_8B,
    "hidden_size": 4096,
    "num_hidden_layers": 120,
    "num_attention_heads": 32,
    "cca_num_q_heads": [16, 0] * 60,
    "num_experts": 24,
    "ffn_hidden_size": None,
    "ffn_hidden_size_list": [0, 8192] * 80,  # longer than the model, as a relative of it is known to have
    "swa_layers": [4096, 0, 0, 0] * 30,
    "swa_rotary_base": 10000,
    "max_position_embeddings": 262144,
}
# The naming before these, with lists filled up to a larger model and what its files leave out.
SMOE_74B: dict[str, Any] = {
    **{
        key: value
        for key, value in LEGACY_74B.items()
        if not key.startswith("zaya_") and key not in ("kv_channels", "head_dim", "rope_theta", "num_experts")
    },
    "smoe_layers": ["a", 24] * 60,
    "smoe_mlp_expansion": [0, 256] * 80,
    "smoe_use_mod": True,
    "smoe_use_eda": True,
    "smoe_high_prec": True,
    "smoe_mod_per": 0.0,
    "smoe_inhibitory": False,
    "use_lora_att": False,
    "ar_threshold": 1,
    "cca_num_q_heads": [16, 0] * 80,
    "ffn_hidden_size_list": [0, 8192] * 80,
    "swa_layers": [4096, 0, 0, 0] * 40,
    "num_hidden_layers": 160,
    "rotary_base": 5000000,
}
RELEASES = {
    "8B": NATIVE_8B,
    "8B-legacy": LEGACY_8B,
    "base": BASE,
    "74B": NATIVE_74B,
    "74B-legacy": LEGACY_74B,
    "74B-smoe": SMOE_74B,
}


def changed(raw, **changes):
    return {key: value for key, value in {**raw, **changes}.items() if value is not ...}


@pytest.mark.parametrize("name", RELEASES)
def test_every_release_is_read_without_an_unknown_key(name):
    assert parse_config(RELEASES[name]).unknown_keys == ()


def test_the_8b():
    config = parse_config(NATIVE_8B)
    assert config.layout == "native"
    assert (config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads) == (40, 8, 2)
    assert (config.hidden_size, config.head_dim, config.vocab_size) == (2048, 128, 262_272)
    assert (config.num_experts, config.moe_intermediate_size, config.router_hidden_size) == (16, 2048, 256)
    assert (config.cca_channels, config.conv_tail, config.delayed_width) == (1280, 2, 128)
    assert config.rope_parameters == {"hybrid": RopeParameters(5e6, 0.5)}
    assert (config.sliding_window, config.layer_types) == (None, ("hybrid",) * 40)
    assert (config.bos_token_id, config.eos_token_ids, config.pad_token_id) == (2, (106,), 0)
    assert (config.rms_norm_eps, config.max_position_embeddings, config.tie_word_embeddings) == (1e-5, 131_072, True)
    assert config.kv_bytes_per_token() == 40_960


@pytest.mark.parametrize(("native", "legacy"), [(NATIVE_8B, LEGACY_8B), (NATIVE_74B, LEGACY_74B)], ids=["8B", "74B"])
def test_the_legacy_twin_is_the_same_model(native, legacy):
    ours, twin = parse_config(native), parse_config(legacy)
    rope = {kind: twin.rope_parameters[kind] for kind in ours.rope_parameters}
    assert twin.layout == "original"
    assert replace(twin, layout="native", rope_parameters=rope) == ours


def test_the_base_model_has_lists_and_its_own_base():
    config = parse_config(BASE)
    expected = parse_config(LEGACY_8B)
    rope = {**expected.rope_parameters, "hybrid": RopeParameters(1e6, 0.5)}
    assert config == replace(expected, rope_parameters=rope, max_position_embeddings=32_768, eos_token_ids=(1,))


def test_the_74b_has_windows_that_include_the_query():
    config = parse_config(LEGACY_74B)
    assert (config.sliding_window, config.num_experts, config.num_attention_heads) == (4097, 24, 16)
    assert config.layer_types == ("hybrid_sliding", "hybrid") * 30
    assert config.rope_parameters["hybrid_sliding"] == RopeParameters(1e4, 0.5)


@pytest.mark.parametrize("changes", [{}, {"model_type": "smoe"}, {"swa_layers": [4096, 0, 0, 0] * 30}])
def test_the_first_naming_is_the_same_model(changes):
    config = parse_config(changed(SMOE_74B, **changes))
    assert replace(config, expert_block="zaya_block") == parse_config(LEGACY_74B)
    assert config.expert_block == "smoe_block"


@pytest.mark.parametrize(("heads", "width"), [(16, 128), (32, 64)])
def test_a_head_is_as_wide_as_one_before_compression_where_nothing_says_so(heads, width):
    config = changed(BASE, num_attention_heads=heads)
    assert parse_config(config).head_dim == width


@pytest.mark.parametrize("tokens", [50.0, [50.0, 106]])
def test_whole_numbers_may_be_written_as_fractions(tokens):
    config = parse_config(changed(NATIVE_8B, hidden_size=2048.0, eos_token_id=tokens))
    assert (config.hidden_size, config.eos_token_ids[0]) == (2048, 50)
    assert all(type(number) is int for number in (config.hidden_size, *config.eos_token_ids))


@pytest.mark.parametrize("raw", [NATIVE_8B, LEGACY_8B])
@pytest.mark.parametrize(
    "changes",
    [
        {"mask_token_id": 262143},
        {"mask_token_id": 0},
        {"architectures": ["ZayaTiDARForCausalLM"]},
        {"tidar_block_size": 16},
        {"diffusion_config": {"block_size": 16}},
        {"model_type": "zaya_diffusion", "is_diffusion": True},
    ],
)
def test_the_diffusion_twin_is_recognised_and_refused(raw, changes):
    with pytest.raises(ConfigError, match=r"masked blocks by diffusion \(.*one token after the other"):
        parse_config(changed(raw, **changes))


def test_no_mask_token_is_no_sign_of_diffusion():
    assert parse_config(changed(NATIVE_8B, mask_token_id=None)).unknown_keys == ()


def test_windows_may_be_listed_by_layer():
    config = parse_config(changed(LEGACY_74B, swa_layers=[4096, None] * 30))
    assert (config.sliding_window, config.layer_types) == (4097, ("hybrid_sliding", "hybrid") * 30)


def test_null_and_zero_mean_absent_in_lists():
    nulls = changed(BASE, cca_num_q_heads=[8, None] * 40, ffn_hidden_size_list=[None, 4096] * 40)
    assert parse_config(nulls) == parse_config(BASE)


@pytest.mark.parametrize("said", [40, 80, 2, ...])
def test_zaya_layers_decides_how_many_layers_there_are(said):
    assert parse_config(changed(BASE, num_hidden_layers=said)).num_hidden_layers == 40


@pytest.mark.parametrize("theta_and_factor", [(..., 0.5), (5000000, 0.5), (10000, ...)])
def test_copies_of_rope_settings_beside_the_table_may_agree(theta_and_factor):
    theta, factor = theta_and_factor
    copied = parse_config(changed(NATIVE_74B, rope_theta=theta, partial_rotary_factor=factor))
    assert copied == parse_config(NATIVE_74B)


def test_without_layer_types_every_layer_sees_all():
    assert parse_config(changed(NATIVE_8B, layer_types=...)) == parse_config(NATIVE_8B)


def test_what_a_native_file_leaves_out_is_as_in_transformers():
    transformers = pytest.importorskip("transformers")
    reference = transformers.ZayaConfig()
    assert parse_config(changed(NATIVE_8B, rope_parameters=None)).rope_parameters["hybrid"] == RopeParameters(
        reference.rope_parameters["hybrid"]["rope_theta"], reference.rope_parameters["hybrid"]["partial_rotary_factor"]
    )
    ids = {"bos_token_id": 2, "pad_token_id": 0}
    config = parse_config({"model_type": "zaya", "layer_types": ["hybrid"] * 40, **ids})
    for key in set(NATIVE_8B) & {field.name for field in fields(config)} - {"rope_parameters", "layer_types"}:
        assert getattr(config, key) == getattr(reference, key), key


def test_a_config_that_transformers_saves_is_read(tmp_path):
    transformers = pytest.importorskip("transformers")
    transformers.ZayaConfig().save_pretrained(tmp_path)
    assert read_config(tmp_path).unknown_keys == ()


def test_unknown_keys_are_collected_in_a_form_fit_for_a_terminal():
    rope = {**NATIVE_8B["rope_parameters"], "hybrid": {**ROPE, "rope_theta": 5e6, "factor": 2}, "strange": {}}
    config = parse_config(changed(NATIVE_8B, future_switch=1, **{"\x1b[2J": 0}, rope_parameters=rope))
    assert config.unknown_keys == (
        "'\\x1b[2J'",
        "future_switch",
        "rope_parameters.strange",
        "rope_parameters.hybrid.factor",
    )


def test_the_config_is_frozen():
    with pytest.raises(FrozenInstanceError):
        parse_config(NATIVE_8B).hidden_size = 1  # type: ignore[misc]


OURS = {"format": "int4", "dense": "int8", "group_size": 64, "format_version": 1, "dtype": "bfloat16"}
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    # What this program does not compute
    "top-2": (NATIVE_8B, {"num_experts_per_tok": 2}, "num_experts_per_tok is 2; this program computes 1 only"),
    "top-2, original": (LEGACY_8B, {"moe_router_topk": 2}, "moe_router_topk is 2; this program computes 1 only"),
    "activation": (NATIVE_8B, {"hidden_act": "gelu"}, "hidden_act is 'gelu'; this program computes 'silu' only"),
    "activation, original": (LEGACY_8B, {"activation_func": "gelu"}, "activation_func is 'gelu'"),
    "normalization": (LEGACY_8B, {"normalization": "LayerNorm"}, "normalization is 'LayerNorm'"),
    "no CCA": (LEGACY_8B, {"cca": False}, "cca is False; this program computes True only"),
    "one is not true": (LEGACY_8B, {"cca": 1}, "cca is 1;"),
    "no gate": (LEGACY_8B, {"gated_linear_unit": False}, "gated_linear_unit"),
    "no residual scaling": (LEGACY_8B, {"scale_residual_merge": False}, "scale_residual_merge"),
    "no skip class": (LEGACY_8B, {"zaya_use_mod": False}, "zaya_use_mod"),
    "no router state": (LEGACY_8B, {"zaya_use_eda": False}, "zaya_use_eda"),
    "biases": (LEGACY_8B, {"add_bias_linear": True}, "add_bias_linear"),
    "clamped temperature": (LEGACY_8B, {"clamp_temp": True}, "clamp_temp"),
    "rope type": (
        NATIVE_8B,
        {"rope_parameters": {"hybrid": {"rope_type": "yarn", "rope_theta": 1e4}}},
        "rope_type is 'yarn'; this program computes 'default'",
    ),
    "stray rope type": (
        NATIVE_8B,
        {"rope_parameters": {"hybrid": {"rope_theta": 1e4}, "rope_type": "yarn"}},
        "rope_type is 'yarn'",
    ),
    "rope type beside": (NATIVE_8B, {"rope_type": "yarn"}, "rope_type is 'yarn'"),
    "rope scaling": (NATIVE_8B, {"rope_scaling": {"type": "linear"}}, "rope_scaling is {'type': 'linear'}"),
    "rope scaling, original": (LEGACY_8B, {"rope_scaling": True}, "rope_scaling is True"),
    "rope scaling switch": (LEGACY_8B, {"use_rope_scaling": True}, "use_rope_scaling"),
    "flat rope table": (NATIVE_8B, {"rope_parameters": {"rope_theta": 1e4}}, "no table for layer type 'hybrid'"),
    "rope table in the original": (LEGACY_8B, {"rope_parameters": {"rope_theta": 1e4}}, "rope_parameters is"),
    "no table for a type": (
        NATIVE_74B,
        {"rope_parameters": {"hybrid": {"rope_theta": 1e4}}, "partial_rotary_factor": ...},
        "no table for layer type 'hybrid_sliding'",
    ),
    "two bases": (NATIVE_8B, {"rope_theta": 1e6}, "rope_theta is 1000000.0, but rope_parameters has"),
    "two shares": (NATIVE_8B, {"partial_rotary_factor": 0.25}, "partial_rotary_factor is 0.25, but rope_parameters"),
    "no base": (LEGACY_8B, {"rope_theta": ...}, "rope_theta is None; a finite number"),
    "layer type": (NATIVE_8B, {"layer_types": ["mamba"] * 40}, "layer_types holds 'mamba'; 'hybrid'"),
    "layer types too few": (NATIVE_8B, {"layer_types": ["hybrid"] * 39}, "layer_types is 39 entries .* 40"),
    "layer types a text": (NATIVE_8B, {"layer_types": "hybrid"}, "layer_types is 'hybrid'"),
    "window missing": (NATIVE_74B, {"sliding_window": None}, "sliding_window is None"),
    "window zero": (NATIVE_74B, {"sliding_window": 0}, "sliding_window is 0"),
    "window gigantic": (NATIVE_74B, {"sliding_window": 10**18}, "sliding_window is 10+"),
    "window for nothing": (LEGACY_8B, {"sliding_window": 4096}, "sliding_window is 4096"),
    "two windows": (LEGACY_74B, {"swa_layers": [4096, 1024] * 30}, r"swa_layers has windows \[1024, 4096\]"),
    "negative window": (LEGACY_74B, {"swa_layers": [-1, 0] * 30}, r"swa_layers has windows \[-1\]"),
    "windows for other layers": (LEGACY_74B, {"swa_layers": [4096] * 7}, "swa_layers is .* 60 layers"),
    "heads that differ": (BASE, {"cca_num_q_heads": [8, 0, 4, 0] * 20}, r"cca_num_q_heads has \[4, 8\]"),
    "heads all absent": (BASE, {"cca_num_q_heads": [0, 0] * 40}, r"cca_num_q_heads has \[\]"),
    "heads false": (BASE, {"cca_num_q_heads": [8, False] * 40}, "cca_num_q_heads is False"),
    "experts that differ": (BASE, {"zaya_layers": ["a", 16, "a", 8] * 20}, r"zaya_layers gives \[8, 16\] experts"),
    "layers out of turn": (BASE, {"zaya_layers": [16, "a"] * 40}, "'a' and a number of experts must alternate"),
    "layers a text": (BASE, {"zaya_layers": "aaaa"}, "zaya_layers is 'aaaa'"),
    "two namings": (BASE, {"smoe_layers": ["a", 16] * 40}, "has both zaya_layers and smoe_layers"),
    "inhibition": (SMOE_74B, {"smoe_inhibitory": True}, "smoe_inhibitory is True; this program computes False only"),
    "layers of the first naming": (SMOE_74B, {"smoe_layers": ["a", 24, 24]}, "length of smoe_layers is 3"),
    "experts of the first naming": (SMOE_74B, {"smoe_layers": ["a", 24, "a", 8]}, r"smoe_layers gives \[8, 24\]"),
    "windows filled up otherwise": (SMOE_74B, {"swa_layers": [4096, 0] * 70}, "swa_layers is .* 60 layers"),
    "heads that do not divide": (BASE, {"num_attention_heads": 7}, "2048 is not a multiple of num_attention_heads 7"),
    "layers odd": (BASE, {"zaya_layers": ["a", 16, "a"]}, "length of zaya_layers is 3; .*even"),
    "half layers odd": (LEGACY_8B, {"num_hidden_layers": 81}, "num_hidden_layers is 81"),
    "gate and up of odd width": (LEGACY_8B, {"ffn_hidden_size": 4095}, "ffn_hidden_size is 4095"),
    "key heads do not divide": (NATIVE_8B, {"num_key_value_heads": 3}, "num_attention_heads 8 is not a multiple"),
    "V of odd width": (NATIVE_8B, {"num_key_value_heads": 1, "head_dim": 127}, "is odd"),
    "odd rotation": (NATIVE_8B, {"head_dim": 126}, "rotates 63 of 126"),
    "another model": (NATIVE_8B, {"model_type": "llama"}, "model_type is 'llama'; this program computes 'zaya' only"),
    "no model type": (NATIVE_8B, {"model_type": ...}, "model_type is None"),
    "vision": (NATIVE_8B, {"model_type": "zaya1_vl"}, "vision model"),
    "compressed-tensors without a scheme": (
        NATIVE_8B,
        {"quantization_config": {"quant_method": "compressed-tensors"}},
        "quantization_config has 0 kinds of weights",
    ),
    "compressed-tensors of integers": (
        NATIVE_8B,
        {
            "quantization_config": {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 128}}},
            }
        },
        "weights of type 'int', 4 bits.*group 128.*unquantized",
    ),
    "our own, unknown format": (
        NATIVE_8B,
        {"quantization": {**OURS, "format": "int2"}},
        "quantization.format is 'int2'",
    ),
    "our own, unknown version": (NATIVE_8B, {"quantization": {**OURS, "format_version": 2}}, "format_version is 2"),
    "our own, true for a version": (NATIVE_8B, {"quantization": {**OURS, "format_version": True}}, "_version is True"),
    "our own, another group": (NATIVE_8B, {"quantization": {**OURS, "group_size": 128}}, "group_size is 128"),
    "our own, float16": (NATIVE_8B, {"quantization": {**OURS, "dtype": "float16"}}, "quantization.dtype is 'float16'"),
    "our own, a list": (NATIVE_8B, {"quantization": []}, r"quantization is \[\]; an object"),
    "quantized twice": (NATIVE_8B, {"quantization": OURS, "quantization_config": {}}, "has both quantization and"),
    "quantized somehow": (NATIVE_8B, {"quantization_config": True}, "quantization_config says that the weights are"),
    "quantized by gptq": (NATIVE_8B, {"quantization_config": {"quant_method": "gptq"}}, "by 'gptq'.*unquantized"),
    # Damaged values
    "text": (NATIVE_8B, {"hidden_size": "2048"}, "hidden_size is '2048'; a whole number is needed"),
    "true": (NATIVE_8B, {"num_experts": True}, "num_experts is True; a whole number"),
    "fraction": (NATIVE_8B, {"head_dim": 128.5}, "head_dim is 128.5; a whole number"),
    "null": (NATIVE_8B, {"vocab_size": None}, "vocab_size is None; a whole number"),
    "zero": (NATIVE_8B, {"hidden_size": 0}, "hidden_size is 0; it must lie between 1 and 65,536"),
    "negative": (NATIVE_8B, {"num_hidden_layers": -40}, "num_hidden_layers is -40"),
    "negative, original": (LEGACY_8B, {"num_hidden_layers": -80}, "num_hidden_layers is -80"),
    "gigantic layers": (NATIVE_8B, {"num_hidden_layers": 10**15, "layer_types": ...}, "num_hidden_layers is 10+"),
    "gigantic layers, original": (LEGACY_8B, {"num_hidden_layers": 10**15}, "num_hidden_layers is 10+"),
    "gigantic": (NATIVE_8B, {"vocab_size": 10**400}, r"vocab_size is 10+\.\.\.0+; it must lie"),
    "gigantic fraction": (NATIVE_8B, {"rms_norm_eps": 10**400}, "rms_norm_eps is 10.*finite"),
    "NaN": (NATIVE_8B, {"rms_norm_eps": float("nan")}, "rms_norm_eps is nan; a finite number"),
    "infinite base": (LEGACY_8B, {"rope_theta": float("inf")}, "rope_theta is inf"),
    "no base at all": (LEGACY_8B, {"rope_theta": 0}, "rope_theta is 0.0; a positive"),
    "share above one": (LEGACY_8B, {"partial_rotary_factor": 1.5}, "partial_rotary_factor is 1.5"),
    "share NaN": (LEGACY_8B, {"partial_rotary_factor": float("nan")}, "partial_rotary_factor is nan"),
    "epsilon": (NATIVE_8B, {"rms_norm_eps": 0}, "rms_norm_eps is 0.0"),
    "flag": (NATIVE_8B, {"tie_word_embeddings": "no"}, "tie_word_embeddings is 'no'; true or false"),
    "eos": (NATIVE_8B, {"eos_token_id": [106, "1"]}, "eos_token_id is '1'; a whole number"),
    "negative eos": (NATIVE_8B, {"eos_token_id": -1}, "eos_token_id is -1; token ids from 0"),
    "two bos": (NATIVE_8B, {"bos_token_id": [1, 2]}, r"bos_token_id is \[1, 2\]; one token id"),
    "a long text": (NATIVE_8B, {"hidden_act": "x" * 10**6}, r"hidden_act is 'x+\.\.\.x+'"),
    "a steering text": (NATIVE_8B, {"hidden_act": "\x1b[2J\n"}, r"hidden_act is '\\x1b\[2J\\n'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_computed_is_refused_by_key_and_value(name):
    raw, changes, says = REFUSED[name]
    with pytest.raises(ConfigError, match=says) as caught:
        parse_config(changed(raw, **changes))
    assert str(caught.value).startswith("config.json")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_no_config_file_is_no_model(tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"has no config\.json"):
        read_config(tmp_path)


KEYS = sorted({*NATIVE_8B, *LEGACY_8B, *BASE, *LEGACY_74B, *SMOE_74B})
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from([10**400, -(10**30), "a", "hybrid"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(release=st.sampled_from(list(RELEASES)), changes=st.dictionaries(st.sampled_from(KEYS), anything, max_size=3))
def test_any_value_for_any_key_is_read_or_refused(release, changes):
    raw = json.loads(json.dumps({**RELEASES[release], **changes}))
    try:
        config = parse_config(raw)
    except ZayaError as error:
        message = str(error)
    else:
        assert len(config.layer_types) == config.num_hidden_layers
        return
    assert message.startswith("config.json")
    assert message.isprintable()


@settings(max_examples=200, deadline=None)
@given(raw=anything)
def test_any_json_at_all_is_refused(raw, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    (folder / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(ConfigError):
        read_config(folder)
