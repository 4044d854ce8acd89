"""Tiny random ZAYA models made by the reference implementation, saved in both checkpoint layouts.

Every parameter is drawn at random so that nothing is an identity: scales away from one, biases away from zero, a
temperature that differs between heads, balancing biases that decide. The rewrite to the original layout is
written here a second time, independent of `zaya_core/checkpoint/names.py`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

BASE: dict[str, Any] = {
    "vocab_size": 131,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_experts": 4,
    "moe_intermediate_size": 24,
    "router_hidden_size": 12,
    "max_position_embeddings": 512,
    "rope_parameters": {
        "hybrid": {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5},
        "hybrid_sliding": {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5},
    },
}

# Each differs from BASE in what its name says.
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "one_key_head_odd_vocab": {"num_key_value_heads": 1, "vocab_size": 97},
    "equal_heads": {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 4},
    "attention_bias": {"attention_bias": True},
    "untied_head_with_bias": {"lm_head_bias": True, "tie_word_embeddings": False},
    "tied_head_with_bias": {"lm_head_bias": True},
    "one_sliding_layer": {"layer_types": ["hybrid", "hybrid_sliding", "hybrid"], "sliding_window": 5},
    "all_sliding": {"layer_types": ["hybrid_sliding"] * 2, "num_hidden_layers": 2, "sliding_window": 3},
    "many_experts_wide_router": {"num_experts": 16, "router_hidden_size": 40},
    "longer_convolutions": {"cca_time0": 3, "cca_time1": 4},
    "whole_head_rotated": {
        "rope_parameters": {"hybrid": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 1.0}}
    },
    "one_layer": {"num_hidden_layers": 1},
}


def reference_model(
    variant: str, seed: int = 0, skip_bias: float = -1.0, dtype: torch.dtype = torch.float32, **sizes: Any
) -> Any:
    """transformers' ZayaForCausalLM of a variant with random parameters."""
    from transformers import ZayaConfig, ZayaForCausalLM

    torch.manual_seed(seed)
    model = ZayaForCausalLM(ZayaConfig(**{**BASE, **VARIANTS[variant], **sizes})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _randomise(name, parameter)
        for layer in model.model.layers:
            layer.mlp.gate.balancing_biases.uniform_(-0.05, 0.1)
            layer.mlp.gate.balancing_biases[0] = 0.05
            layer.mlp.gate.balancing_biases[-1] = skip_bias
    biases = [layer.mlp.gate.balancing_biases.clone() for layer in model.model.layers]
    model = model.to(dtype)
    for layer, bias in zip(model.model.layers, biases, strict=True):
        layer.mlp.gate.balancing_biases = bias  # float32 in every load dtype
    return model


def _randomise(name: str, parameter: Tensor) -> None:
    if name.endswith("temp"):
        parameter.uniform_(0.5, 3.0)
    elif name.endswith(("_scale", "norm.weight", "layernorm.weight")):
        parameter.uniform_(0.6, 1.6)
    elif parameter.ndim == 1:
        parameter.normal_(0, 0.1)
    elif "out_proj" in name:
        parameter.normal_(0, 1.0)
    else:
        parameter.normal_(0, parameter.shape[-1] ** -0.5)


def save_native(model: Any, folder: Path, **config_changes: Any) -> Path:
    """Write the model as a folder in the native layout."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**model.config.to_dict(), **config_changes}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(native_tensors(model), folder / "model.safetensors")
    return folder


def native_tensors(model: Any) -> dict[str, Tensor]:
    state = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items() if "inv_freq" not in name}
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    return state


def save_original(model: Any, folder: Path, shards: int = 1) -> Path:
    """Write the same weights as a folder in the original layout of alternating half layers."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(original_config(model.config)))
    tensors: dict[str, Tensor] = {}
    for name, tensor in native_tensors(model).items():
        for original, part in _to_original(name, tensor, model.config.num_hidden_layers):
            tensors[original] = part.contiguous().clone()
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    save_shards(tensors, folder, shards)
    return folder


def save_shards(tensors: dict[str, Tensor], folder: Path, shards: int) -> None:
    names = sorted(tensors)
    weight_map = {name: f"model-{i % shards + 1:05d}-of-{shards:05d}.safetensors" for i, name in enumerate(names)}
    for shard in sorted(set(weight_map.values())):
        save_file({name: tensors[name] for name in names if weight_map[name] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def original_config(config: Any) -> dict[str, Any]:
    sliding = [kind == "hybrid_sliding" for kind in config.layer_types]
    windows = [config.sliding_window - 1 if slides else 0 for slides in sliding for _ in range(2)]
    rope = config.rope_parameters
    base = rope.get("hybrid", next(iter(rope.values())))
    return {
        "model_type": "zaya",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": 2 * config.num_hidden_layers,
        "num_attention_heads": 2 * config.num_attention_heads,
        "cca_num_q_heads": config.num_attention_heads,
        "num_query_groups": config.num_key_value_heads,
        "kv_channels": config.head_dim,
        "ffn_hidden_size": 2 * config.moe_intermediate_size,
        "num_experts": config.num_experts,
        "zaya_mlp_expansion": config.router_hidden_size,
        "moe_router_topk": 1,
        "norm_epsilon": config.rms_norm_eps,
        "max_position_embeddings": config.max_position_embeddings,
        "cca_time0": config.cca_time0,
        "cca_time1": config.cca_time1,
        "attention_bias": config.attention_bias,
        "lm_head_bias": config.lm_head_bias,
        "tie_word_embeddings": config.tie_word_embeddings,
        "rope_theta": base["rope_theta"],
        "partial_rotary_factor": base["partial_rotary_factor"],
        "rope_scaling": False,
        "swa_layers": windows,
        "swa_rotary_base": rope.get("hybrid_sliding", {}).get("rope_theta", 10_000.0),
        "activation_func": "swiglu",
        "normalization": "RMSNorm",
        "residual_in_fp32": True,
        "zaya_high_prec": True,
        "eos_token_id": config.eos_token_id,
        "bos_token_id": config.bos_token_id,
    }


def _to_original(name: str, tensor: Tensor, layers: int) -> list[tuple[str, Tensor]]:
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", name)
    if match is None:
        return [(_original_top(name), tensor)]
    layer, rest = int(match[1]), match[2]
    attention, experts = f"model.layers.{2 * layer}.", f"model.layers.{2 * layer + 1}."
    if rest.startswith("mlp.experts."):
        linear = {"gate_up_proj": "linear_fc1", "down_proj": "linear_fc2"}[rest.split(".")[2]]
        local = experts + "zaya_block.experts.local_experts."
        return [(f"{local}{e}.{linear}.weight", part) for e, part in enumerate(tensor)]
    if rest.startswith("post_mlp_residual_scale."):
        home = "model." if layer == layers - 1 else f"model.layers.{2 * layer + 2}."
        return [(home + "res_scale." + rest.split(".")[1], tensor)]
    if rest.startswith("post_attention_residual_scale."):
        return [(experts + "res_scale." + rest.split(".")[1], tensor)]
    if rest == "post_attention_layernorm.weight":
        return [(experts + "input_norm.weight", tensor)]
    if rest.startswith("mlp.gate."):
        return [(experts + "zaya_block.router." + _original_router(rest.removeprefix("mlp.gate.")), tensor)]
    return [(attention + _original_attention(rest), tensor)]


def _original_top(name: str) -> str:
    if name == "model.norm.weight":
        return "model.final_norm.weight"
    return re.sub(r"^model\.input_hidden_states_", "model.layers.0.res_scale.hidden_states_", name)


def _original_router(rest: str) -> str:
    places = {"norm": "rmsnorm_eda", "fc1": "router_mlp.0", "fc2": "router_mlp.2", "out_proj": "router_mlp.4"}
    match = re.fullmatch(r"router_mlp\.(\w+)\.(\w+)", rest)
    return f"{places[match[1]]}.{match[2]}" if match else rest


def _original_attention(rest: str) -> str:
    for new, old in (
        ("input_layernorm", "input_norm"),
        ("qk_norm.temp", "qkv.temp"),
        ("qkv_proj.q_proj", "qkv.linear_q"),
        ("qkv_proj.k_proj", "qkv.linear_k"),
        ("qkv_proj.v_proj_current", "qkv.val_proj1"),
        ("qkv_proj.v_proj_delayed", "qkv.val_proj2"),
        ("qkv_proj.conv_qk_depthwise", "qkv.conv_qk.0"),
        ("qkv_proj.conv_qk_grouped", "qkv.conv_qk.1"),
    ):
        rest = rest.replace(new, old)
    return rest


def let_skip_pass_the_input(model: Any) -> None:
    """Patch the reference to the original layout's skip class: weight * normed block input instead of zero."""
    from types import MethodType

    def forward(self: Any, hidden_states: Tensor, prev_router_hidden_states: Tensor | None = None) -> Any:
        logits, _, _, _ = self.gate(hidden_states, router_states=prev_router_hidden_states)
        _, probs, indices, state = self.gate(hidden_states, router_states=prev_router_hidden_states)
        flat = hidden_states.reshape(-1, hidden_states.shape[-1])
        out = self.experts(flat, indices, probs)
        full = torch.softmax(logits, dim=-1)
        skipped = (full + self.gate.balancing_biases).argmax(-1) == self.gate.num_experts
        out = torch.where(skipped[:, None], full[:, -1:] * flat, out)
        return out.view_as(hidden_states), state

    for layer in model.model.layers:
        layer.mlp.forward = MethodType(forward, layer.mlp)
