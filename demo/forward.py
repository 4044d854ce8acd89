"""The training forward of ZAYA: what transformers' ZayaForCausalLM computes, several times faster on a CPU.

Why a second forward: with a few million parameters transformers' modules spend most of a step in small element-wise
operations, in convolutions of width two and in a loop over experts. Here the convolutions are two shifted products,
tokens are sorted by expert once, and torch.compile fuses the element-wise chains where there is a C++ compiler.
The parameters stay those of transformers' class, so checkpoints need no conversion; tests/demo/test_forward.py compares
the two. Rows are right-padded: everything in ZAYA is causal, so padding behind a row cannot reach it and needs no mask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import ZayaForCausalLM

LayerWeights = dict[str, Tensor]


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Normalise in float32, as every norm of the model does."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def rotary_tables(length: int, config: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotated part of a head, (T, K * partial_rotary_factor)."""
    rope = config.rope_parameters["hybrid"]
    width = int(config.head_dim * rope["partial_rotary_factor"])
    frequencies = 1.0 / rope["rope_theta"] ** (torch.arange(0, width, 2, device=device).float() / width)
    angles = torch.outer(torch.arange(length, device=device).float(), frequencies)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first part of each head, (B, H, T, K); the rest passes unrotated."""
    width = cos.shape[-1]
    turned, passed = x[..., :width], x[..., width:]
    first, second = turned.chunk(2, dim=-1)
    turned = turned * cos + torch.cat([-second, first], dim=-1) * sin
    return torch.cat([turned, passed], dim=-1)


def shift(x: Tensor) -> Tensor:
    """The previous position's value at each position, zero before the first; x: (B, T, ...)."""
    return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)


def convolve(qk: Tensor, w: LayerWeights, head_dim: int, dtype: torch.dtype) -> Tensor:
    """Both width-two causal convolutions of CCA as products with the current and the previous column; qk: (B, T, C).

    The model pads once on the left, before the first convolution, so the first one's output at position -1 is its bias
    alone: that is what the second one sees before the first token.
    """
    depthwise, bias = w["conv_qk_depthwise.weight"][:, 0], w["conv_qk_depthwise.bias"]
    mixed = shift(qk) * depthwise[:, 0] + qk * depthwise[:, 1] + bias
    before = torch.cat([bias.expand(qk.shape[0], 1, -1), mixed[:, :-1]], dim=1)
    heads = qk.shape[-1] // head_dim
    kernel = w["conv_qk_grouped.weight"].view(heads, head_dim, head_dim, 2)
    kernel = torch.cat([kernel[..., 0], kernel[..., 1]], dim=-1).transpose(1, 2)  # (H+G, 2K, K)
    pair = torch.cat([before.view(*qk.shape[:2], heads, head_dim), mixed.view(*qk.shape[:2], heads, head_dim)], dim=-1)
    flat = pair.flatten(0, 1).transpose(0, 1).to(dtype)  # (H+G, N, 2K)
    out = torch.bmm(flat, kernel.to(dtype)).float()
    return out.transpose(0, 1).reshape(qk.shape) + w["conv_qk_grouped.bias"]


def unit_length(x: Tensor) -> Tensor:
    """L2-normalise each head to sqrt(K)."""
    return x * (x.shape[-1] ** 0.5 * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-12))


def cca(x: Tensor, w: LayerWeights, config: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (B, T, H, K), keys and values (B, T, G, K) of compressed convolutional attention."""
    heads, groups, width = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    projections = ["q_proj", "k_proj", "v_proj_current", "v_proj_delayed"]
    stacked = torch.cat([w[f"{name}.weight"] for name in projections])
    out = F.linear(x.to(dtype), stacked.to(dtype)).float()
    query, key, current, delayed = out.split([w[f"{name}.weight"].shape[0] for name in projections], dim=-1)
    mixed = convolve(torch.cat([query, key], dim=-1), w, width, dtype)
    by_group = query.unflatten(-1, (groups, heads // groups, width))
    residual = (by_group + key.unflatten(-1, (groups, 1, width))) * 0.5
    query = mixed[..., : query.shape[-1]].unflatten(-1, (heads, width)) + residual.flatten(2, 3)
    key = mixed[..., -key.shape[-1] :].unflatten(-1, (groups, width)) + residual.mean(dim=3)
    value = torch.cat([current, shift(delayed)], dim=-1).unflatten(-1, (groups, width))
    return unit_length(query), unit_length(key) * w["temp"][:, None], value


def attend(query: Tensor, key: Tensor, value: Tensor, cos: Tensor, sin: Tensor, dtype: torch.dtype) -> Tensor:
    """Causal attention over one block; returns (B, T, H * K)."""
    query, key = (rotate(x.transpose(1, 2), cos, sin).to(dtype) for x in (query, key))
    value = value.transpose(1, 2).to(dtype)
    out = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    return out.transpose(1, 2).flatten(2)


def route(x: Tensor, carried: Tensor | None, w: LayerWeights, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Router state, choice of class and the logits of the 17 classes for every token, all in float32."""
    state = F.linear(x, w["down_proj.weight"], w["down_proj.bias"])
    if carried is not None:
        state = state + carried * w["router_states_scale"]
    hidden = rms_norm(state, w["norm.weight"], eps)
    hidden = F.gelu(F.linear(hidden, w["fc1.weight"], w["fc1.bias"]))
    hidden = F.gelu(F.linear(hidden, w["fc2.weight"], w["fc2.bias"]))
    logits = F.linear(hidden, w["out_proj.weight"])
    chosen = (logits.detach().softmax(-1) + w["balancing_biases"]).argmax(-1)
    return state, chosen, logits


def merge(branch: Tensor, stream: Tensor, w: LayerWeights, name: str) -> Tensor:
    """Residual scaling: (branch + bias) * scale + (stream + bias) * scale."""
    branch = (branch + w[f"{name}.hidden_states_bias"]) * w[f"{name}.hidden_states_scale"]
    return branch + (stream + w[f"{name}.residual_bias"]) * w[f"{name}.residual_scale"]


def mixer(
    stream: Tensor,
    carried: Tensor | None,
    w: LayerWeights,
    tables: tuple[Tensor, Tensor],
    config: Any,
    dtype: torch.dtype,
) -> tuple[Tensor, ...]:
    """Everything of a layer but its experts: stream, experts' input, router state, choice, weight and logits."""
    eps = config.rms_norm_eps
    x = rms_norm(stream, w["input_layernorm.weight"], eps)
    query, key, value = cca(x, w, config, dtype)
    out = F.linear(attend(query, key, value, *tables, dtype), w["o_proj.weight"].to(dtype)).float()
    stream = merge(out, stream, w, "post_attention_residual_scale")
    x = rms_norm(stream, w["post_attention_layernorm.weight"], eps)
    state, chosen, logits = route(x, carried, w, eps)
    weight = logits.softmax(-1).gather(-1, chosen[..., None])
    weight = weight.masked_fill((chosen == config.num_experts)[..., None], 0.0)
    return stream, x, state, chosen, weight, logits


def experts(x: Tensor, chosen: Tensor, weight: Tensor, w: LayerWeights, dtype: torch.dtype) -> Tensor:
    """Top-1 experts over tokens sorted by expert: one product for each expert's contiguous rows; x: (N, D)."""
    gate_up, down = w["gate_up_proj"].to(dtype), w["down_proj_experts"].to(dtype)
    count = gate_up.shape[0]
    order = chosen.clamp(max=count - 1).argsort(stable=True)
    loads = torch.bincount(chosen.clamp(max=count - 1), minlength=count).tolist()
    rows = x[order].to(dtype).split(loads)
    hidden = torch.cat([F.linear(row, gate_up[e]) for e, row in enumerate(rows)])
    gate, up = hidden.chunk(2, dim=-1)
    hidden = F.silu(gate) * up
    out = torch.cat([F.linear(row, down[e]) for e, row in enumerate(hidden.split(loads))])
    back = torch.empty_like(order)
    back[order] = torch.arange(order.numel(), device=order.device)
    return out[back].float() * weight


def layer_weights(model: ZayaForCausalLM) -> list[LayerWeights]:
    """Each layer's parameters and buffers under their last names, as the functions above look them up."""
    layers = []
    for layer in model.model.layers:
        weights: LayerWeights = {}
        named = [*layer.named_parameters(), *layer.named_buffers()]
        for name, tensor in named:
            if "experts." in name:
                short = name.rsplit(".", 1)[-1].replace("down_proj", "down_proj_experts")
            elif "residual_scale" in name and "router" not in name:
                short = name
            elif name.endswith(("temp", "router_states_scale", "balancing_biases")):
                short = name.rsplit(".", 1)[-1]
            else:
                short = ".".join(name.split(".")[-2:]).replace("gate.down_proj", "down_proj")
            weights[short] = tensor
        layers.append(weights)
    return layers


class TrainingForward:
    """Callable: ids (B, T) to the last hidden states (B, T, D), and the router's choices and logits of each layer."""

    def __init__(self, model: ZayaForCausalLM, dtype: torch.dtype, is_compiled: bool) -> None:
        self.model = model
        self.dtype = dtype
        self.layers = layer_weights(model)
        self.mixer: Callable[..., tuple[Tensor, ...]] = torch.compile(mixer, dynamic=False) if is_compiled else mixer

    def __call__(self, ids: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        body, config = self.model.model, self.model.config
        tables = rotary_tables(ids.shape[1], config, ids.device)
        stream = (body.embed_tokens(ids) + body.input_hidden_states_bias) * body.input_hidden_states_scale
        carried: Tensor | None = None
        choices, all_logits = [], []
        for w in self.layers:
            stream, x, carried, chosen, weight, logits = self.mixer(stream, carried, w, tables, config, self.dtype)
            out = experts(x.flatten(0, 1), chosen.flatten(), weight.flatten(0, 1), w, self.dtype).view_as(x)
            stream = merge(out, stream, w, "post_mlp_residual_scale")
            choices.append(chosen)
            all_logits.append(logits)
        return rms_norm(stream, body.norm.weight, config.rms_norm_eps), choices, all_logits
