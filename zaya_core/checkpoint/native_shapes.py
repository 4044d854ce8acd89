"""Names and shapes of all parameters, as transformers' `ZayaForCausalLM` has them, one entry a decoder layer."""

from __future__ import annotations

from collections.abc import Iterator

from zaya_core.config.model_config import ModelConfig

RESIDUAL_PARTS = ("hidden_states_scale", "hidden_states_bias", "residual_scale", "residual_bias")


def native_shapes(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(name, shape), in the order of the model."""
    vocabulary, hidden = config.vocab_size, config.hidden_size
    yield "model.embed_tokens.weight", (vocabulary, hidden)
    yield "model.input_hidden_states_scale", (hidden,)
    yield "model.input_hidden_states_bias", (hidden,)
    yield "model.norm.weight", (hidden,)
    if not config.tie_word_embeddings:
        yield "lm_head.weight", (vocabulary, hidden)
    if config.lm_head_bias:
        yield "lm_head.bias", (vocabulary,)
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (hidden,)
        yield prefix + "post_attention_layernorm.weight", (hidden,)
        for scale in ("post_attention_residual_scale.", "post_mlp_residual_scale."):
            for part in RESIDUAL_PARTS:
                yield prefix + scale + part, (hidden,)
        for name, shape in _attention_shapes(config):
            yield prefix + "self_attn." + name, shape
        for name, shape in _expert_shapes(config, has_router_states_scale=layer > 0):
            yield prefix + "mlp." + name, shape


def _attention_shapes(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, channels = config.hidden_size, config.cca_channels
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    projections = {
        "qkv_proj.q_proj": (queries, hidden),
        "qkv_proj.k_proj": (keys, hidden),
        "qkv_proj.v_proj_current": (config.delayed_width, hidden),
        "qkv_proj.v_proj_delayed": (config.delayed_width, hidden),
        "o_proj": (hidden, queries),
    }
    for name, shape in projections.items():
        yield f"{name}.weight", shape
        if config.attention_bias:
            yield f"{name}.bias", shape[:1]
    yield "qkv_proj.conv_qk_depthwise.weight", (channels, 1, config.cca_time0)
    yield "qkv_proj.conv_qk_depthwise.bias", (channels,)
    yield "qkv_proj.conv_qk_grouped.weight", (channels, config.head_dim, config.cca_time1)
    yield "qkv_proj.conv_qk_grouped.bias", (channels,)
    yield "qk_norm.temp", (config.num_key_value_heads,)


def _expert_shapes(config: ModelConfig, has_router_states_scale: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, router, classes = config.hidden_size, config.router_hidden_size, config.num_experts + 1
    yield "gate.down_proj.weight", (router, hidden)
    yield "gate.down_proj.bias", (router,)
    if has_router_states_scale:
        yield "gate.router_states_scale", (router,)
    yield "gate.balancing_biases", (classes,)
    yield "gate.router_mlp.norm.weight", (router,)
    for layer in ("fc1", "fc2"):
        yield f"gate.router_mlp.{layer}.weight", (router, router)
        yield f"gate.router_mlp.{layer}.bias", (router,)
    yield "gate.router_mlp.out_proj.weight", (classes, router)
    yield "experts.gate_up_proj", (config.num_experts, 2 * config.moe_intermediate_size, hidden)
    yield "experts.down_proj", (config.num_experts, hidden, config.moe_intermediate_size)
