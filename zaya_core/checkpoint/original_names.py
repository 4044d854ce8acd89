"""The names of Zyphra's first layout: a table of renames.

It has 2L alternating half layers (even: attention, odd: experts) and one tensor for each expert.
"""

from __future__ import annotations

from collections.abc import Container

from zaya_core.config.model_config import Layout, ModelConfig

# Left: inside `layers.L.` of the native layout. Right: inside the half layer of the original one, `block` being
# `ModelConfig.expert_block`.
_ATTENTION_RENAMES = (
    ("input_layernorm.", "input_norm."),
    ("self_attn.qkv_proj.q_proj.", "self_attn.qkv.linear_q."),
    ("self_attn.qkv_proj.k_proj.", "self_attn.qkv.linear_k."),
    ("self_attn.qkv_proj.v_proj_current.", "self_attn.qkv.val_proj1."),
    ("self_attn.qkv_proj.v_proj_delayed.", "self_attn.qkv.val_proj2."),
    ("self_attn.qkv_proj.conv_qk_depthwise.", "self_attn.qkv.conv_qk.0."),
    ("self_attn.qkv_proj.conv_qk_grouped.", "self_attn.qkv.conv_qk.1."),
    ("self_attn.qk_norm.temp", "self_attn.qkv.temp"),
    ("self_attn.o_proj.", "self_attn.o_proj."),
)
_EXPERTS_RENAMES = (
    ("post_attention_layernorm.", "input_norm."),
    ("post_attention_residual_scale.", "res_scale."),
    ("mlp.gate.router_mlp.norm.", "{block}.router.rmsnorm_eda."),
    ("mlp.gate.router_mlp.fc1.", "{block}.router.router_mlp.0."),
    ("mlp.gate.router_mlp.fc2.", "{block}.router.router_mlp.2."),
    ("mlp.gate.router_mlp.out_proj.", "{block}.router.router_mlp.4."),
    ("mlp.gate.", "{block}.router."),
)
EXPERT_STACKS = {"mlp.experts.gate_up_proj": "linear_fc1", "mlp.experts.down_proj": "linear_fc2"}


def layout_of_names(names: Container[str]) -> Layout | None:
    """Which layout a checkpoint's names are of, by a name that only one of them has; None for neither or both."""
    is_native, is_original = "model.norm.weight" in names, "model.final_norm.weight" in names
    if is_native == is_original:
        return None
    return "native" if is_native else "original"


def original_names(name: str, config: ModelConfig) -> tuple[str, ...]:
    """Names in the original layout.

    Example, 40 layers: `model.layers.3.post_mlp_residual_scale.residual_bias` is the merge *before* half layer 8, so
    `model.layers.8.res_scale.residual_bias`; that of layer 39 is `model.res_scale.residual_bias`.
    """
    if name.startswith("model.input_hidden_states_"):
        return (name.replace("model.input_", "model.layers.0.res_scale."),)
    if name.startswith("model.norm."):
        return (name.replace("model.norm.", "model.final_norm."),)
    if not name.startswith("model.layers."):
        return (name,)
    layer, rest = name.removeprefix("model.layers.").split(".", 1)
    return _original_layer_names(int(layer), rest, config)


def _original_layer_names(layer: int, rest: str, config: ModelConfig) -> tuple[str, ...]:
    if rest in EXPERT_STACKS:
        experts = f"model.layers.{2 * layer + 1}.{config.expert_block}.experts.local_experts"
        return tuple(f"{experts}.{e}.{EXPERT_STACKS[rest]}.weight" for e in range(config.num_experts))
    if rest.startswith("post_mlp_residual_scale."):
        part = rest.removeprefix("post_mlp_residual_scale.")
        last = layer == config.num_hidden_layers - 1
        return ("model.res_scale." + part if last else f"model.layers.{2 * layer + 2}.res_scale.{part}",)
    for native, original in _ATTENTION_RENAMES:
        if rest.startswith(native):
            return (f"model.layers.{2 * layer}.{rest.replace(native, original, 1)}",)
    for native, original in _EXPERTS_RENAMES:
        if rest.startswith(native):
            renamed = rest.replace(native, original.format(block=config.expert_block), 1)
            return (f"model.layers.{2 * layer + 1}.{renamed}",)
    raise AssertionError(f"no original name for {rest}")
