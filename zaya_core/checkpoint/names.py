"""Parameter names and shapes of both checkpoint layouts, as data.

The names of transformers' `ZayaForCausalLM` (the native layout, one entry a decoder layer) are the names of this
program. The original layout of 2L alternating half layers (even: attention, odd: experts, one tensor for each expert)
is a table of renames.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

from quant.formats import FORMATS, Format, StoredTensor, stored_tensors
from zaya_core.config.model_config import Layout, ModelConfig

RESIDUAL_PARTS = ("hidden_states_scale", "hidden_states_bias", "residual_scale", "residual_bias")

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
_EXPERT_STACKS = {"mlp.experts.gate_up_proj": "linear_fc1", "mlp.experts.down_proj": "linear_fc2"}


@dataclass(frozen=True)
class Parameter:
    """One parameter of the model and where the checkpoint keeps it.

    `shape` is the native one. `sources` are the checkpoint's names, each of `source_shape`: one name with the native
    shape, or for a stack of experts in the original layout one matrix for each expert.
    """

    name: str
    shape: tuple[int, ...]
    sources: tuple[str, ...]
    source_shape: tuple[int, ...]


@dataclass(frozen=True)
class PackedParameter:
    """One parameter that is stored packed: its format, and by suffix the name and shape of each tensor."""

    name: str
    shape: tuple[int, ...]
    kind: Format
    sources: Mapping[str, str]
    stored: Mapping[str, StoredTensor]


def packed_parameters(config: ModelConfig, names: Container[str]) -> dict[str, PackedParameter]:
    """The parameters that are stored packed, by name. names: those in the files, to find out how they are spelled.

    Raises ValueError where a matrix has a number of inputs that the format cannot group.
    """
    found = {}
    for name, shape in _native_shapes(config):
        kind = None if config.quantization is None else config.quantization.format_of(name)
        if kind is not None:
            stored = stored_tensors(kind, shape)
            sources = {suffix: _spelling(name, kind, suffix, names) for suffix in stored}
            found[name] = PackedParameter(name, shape, kind, sources, stored)
    return found


def _spelling(name: str, kind: Format, suffix: str, names: Container[str]) -> str:
    """The first spelling that is in the files, else the usual one. Only other programs spell in several ways."""
    patterns = FORMATS[kind].spellings.get(suffix, (f"{{}}.{suffix}",))
    spellings = [pattern.format(name) for pattern in patterns]
    return next((spelling for spelling in spellings if spelling in names), spellings[0])


def expected_tensors(config: ModelConfig, names: Container[str]) -> dict[str, StoredTensor]:
    """Every tensor that the files must hold, by its name there."""
    import torch  # here, because the names and shapes alone do not need it

    floats = (torch.bfloat16, torch.float32)
    packed = packed_parameters(config, names)
    found = {}
    for parameter in parameters(config):
        if parameter.name in packed:
            one = packed[parameter.name]
            found.update({one.sources[suffix]: stored for suffix, stored in one.stored.items()})
        else:
            found.update({source: StoredTensor(parameter.source_shape, floats) for source in parameter.sources})
    return found


def parameters(config: ModelConfig) -> list[Parameter]:
    """All parameters of the model, with the names that a checkpoint of floats has.

    A quantized folder has native names, whatever the layout of its source was.
    """
    has_native_names = config.layout == "native" or config.quantization is not None
    found = []
    for name, shape in _native_shapes(config):
        if has_native_names:
            found.append(Parameter(name, shape, (name,), shape))
        else:
            one_each = name.endswith(tuple(_EXPERT_STACKS))
            found.append(Parameter(name, shape, _original_names(name, config), shape[1:] if one_each else shape))
    return found


def layout_of_names(names: Container[str]) -> Layout | None:
    """Which layout a checkpoint's names are of, by a name that only one of them has; None for neither or both."""
    is_native, is_original = "model.norm.weight" in names, "model.final_norm.weight" in names
    if is_native == is_original:
        return None
    return "native" if is_native else "original"


def _native_shapes(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
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


def _original_names(name: str, config: ModelConfig) -> tuple[str, ...]:
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
    if rest in _EXPERT_STACKS:
        experts = f"model.layers.{2 * layer + 1}.{config.expert_block}.experts.local_experts"
        return tuple(f"{experts}.{e}.{_EXPERT_STACKS[rest]}.weight" for e in range(config.num_experts))
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
