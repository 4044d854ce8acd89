"""The small steps of a layer, with the weights of a layer of the bundled demo and at the sizes of ZAYA1-8B."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import SimpleNamespace

import torch
from torch import Tensor

from quant.kernels.triton.launch import run_all
from quant.kernels.triton.weights import card_matrix
from zaya_core.cache.arrangement import BLOCK
from zaya_core.checkpoint.checkpoint import open_checkpoint
from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.config.parse import parse_config
from zaya_core.kernels.triton.angles import angles
from zaya_core.kernels.triton.cca import CCAState, CCAWeights, cca
from zaya_core.kernels.triton.embedding import embedding
from zaya_core.kernels.triton.merge_norm import first_norm, merge_norm
from zaya_core.kernels.triton.paged_cache import LayerKV
from zaya_core.kernels.triton.router import RouterWeights, router_choice, router_down
from zaya_core.load import ModelParts
from zaya_core.machine.device import Placement
from zaya_core.measure.card_check.check import Check, largest_difference, random, whole
from zaya_core.measure.card_check.tokens import DEMO
from zaya_core.measure.dummy import full_size_config, random_checkpoint
from zaya_core.model.layer import DecoderLayer
from zaya_core.model.rope import RotaryEmbedding, rotate

_TOLERANCE = 1e-3  # these steps multiply in float32
_NUMBER = 1  # the first layer has no router state before it
_POSITIONS = (BLOCK - 1, 0, BLOCK)
_VOCABULARY = 1024  # of the full size, whose embedding is as wide with fewer rows


def layer_checks() -> list[Check]:
    """Each step that is a kernel of its own, or two, with the demo's weights."""
    return _checks("", lambda device: _demo(device))


def full_size_layer_checks() -> list[Check]:
    """Likewise at the sizes of ZAYA1-8B: other constants are another kernel."""
    return _checks(" of full size", lambda device: _full_size(device))


def _checks(words: str, parts_on: Callable[[torch.device], ModelParts]) -> list[Check]:
    differences = {
        "embedding": _embedding,
        "merge and norm": _merge_and_norm,
        "rotary angles": _angles,
        "router": _router,
        "CCA of a token": _cca,
    }
    return [
        Check(name + words, lambda device, find=find: find(parts_on(device), device), _TOLERANCE)  # type: ignore[misc]
        for name, find in differences.items()
    ]


@cache
def _demo(device: torch.device) -> ModelParts:
    folder = ModelFolder(DEMO)
    return ModelParts(folder.config, open_checkpoint(folder), Placement(device, torch.float32, "the check"))


@cache
def _full_size(device: torch.device) -> ModelParts:
    config = parse_config(full_size_config(_NUMBER + 1, "int4", "int8", _VOCABULARY))
    return ModelParts(config, random_checkpoint(config, device), Placement(device, torch.float32, "the check"))


@cache
def _layer(parts: ModelParts) -> DecoderLayer:
    return parts.layer(_NUMBER)


def _rotary(parts: ModelParts, device: torch.device) -> RotaryEmbedding:
    config = parts.config
    return RotaryEmbedding(config.rope_parameters[config.layer_types[_NUMBER]], config.head_dim, device)


def _embedding(parts: ModelParts, device: torch.device) -> float:
    rows, ids = parts.embedding(), [5, 700, 0]
    weight = rows.embed_tokens.dequantize()
    table = card_matrix("float", weight, None, (weight.shape[0], weight.shape[1]))
    residual = torch.zeros(3, weight.shape[1], device=device)
    bias, scale = rows.bias.contiguous(), rows.scale.contiguous()
    run_all([embedding(whole(ids, device), whole(_POSITIONS, device), table, bias, scale, residual)], device)
    return largest_difference(residual, rows(torch.tensor([ids], device=device))[0])


def _merge_and_norm(parts: ModelParts, device: torch.device) -> float:
    layer, (branch, residual) = _layer(parts), random(2, 3, parts.config.hidden_size, device=device)
    scaling, norm = layer.post_attention_residual_scale, layer.post_attention_layernorm
    merged, normed, first = (torch.zeros_like(branch) for _ in range(3))
    run_all([merge_norm(branch, residual, scaling, norm, merged, normed), first_norm(residual, norm, first)], device)
    expected = scaling(branch, residual)
    pairs = ((merged, expected), (normed, norm(expected)), (first, norm(residual)))
    return max(largest_difference(*pair) for pair in pairs)


def _angles(parts: ModelParts, device: torch.device) -> float:
    positions, rotary = (0, 1, 255, 4_097, 131_071), _rotary(parts, device)
    found = [torch.zeros(len(positions), len(rotary.frequencies), device=device) for _ in range(2)]
    run_all([angles(whole(positions, device), rotary.frequencies, *found)], device)
    expected = rotary(torch.tensor([positions], device=device))
    return max(largest_difference(one, wanted[0, :, 0]) for one, wanted in zip(found, expected, strict=True))


def _router(parts: ModelParts, device: torch.device) -> float:
    layer, rows = _layer(parts), 3
    scaling, norm = layer.post_attention_residual_scale, layer.post_attention_layernorm
    branch, residual = random(2, rows, parts.config.hidden_size, device=device)
    weights = RouterWeights.of(layer.router)
    before, own, state = (random(rows, weights.width, seed=seed, device=device) for seed in (1, 2, 3))
    merged, normed = torch.zeros_like(branch), torch.zeros_like(branch)
    scratch, choice = torch.zeros(rows, 3, weights.width, device=device), whole([0] * rows, device)
    weight = torch.zeros(rows, device=device)
    launches = [
        router_down(branch, residual, scaling, norm, weights, merged, normed, own),
        router_choice(own, before, weights, whole(_POSITIONS, device), state, scratch, choice, weight),
    ]
    run_all(launches, device)
    expected = layer.router(norm(scaling(branch, residual)), before)
    if choice.tolist() != expected[0].tolist():
        return float("inf")
    return max(largest_difference(state, expected[2]), largest_difference(weight, expected[1]))


def _cca(parts: ModelParts, device: torch.device) -> float:
    """Three rows: at the end of a block, at their beginning, and at the begin of a second block."""
    layer, config, rows = _layer(parts), parts.config, len(_POSITIONS)
    groups, head_dim = config.num_key_value_heads, config.head_dim
    channels = (config.num_attention_heads + groups) * head_dim
    tail = random(2 * rows, 2, channels, seed=1, device=device)
    delayed = random(2 * rows, groups * head_dim // 2, seed=2, device=device)
    cos, sin = _rotary(parts, device)(torch.tensor(_POSITIONS, device=device)[:, None])
    x = random(rows, 1, config.hidden_size, seed=3, device=device)
    wanted, kept = _cca_by_torch(layer, x, tail[:rows], delayed[:rows], (cos, sin))
    kv = LayerKV(*torch.zeros(2, 1 + 2 * rows, groups, BLOCK, head_dim, device=device))
    table = 1 + whole(range(2 * rows), device).view(rows, 2)
    query = torch.zeros(rows, channels - groups * head_dim, device=device)
    launch = cca(
        torch.cat([matrix.matmul(x)[:, 0] for matrix in layer.qkv_proj.matrices], dim=1),
        CCAWeights.of(layer.qkv_proj.convolutions, layer.qk_norm),
        (cos[:, 0, 0].contiguous(), sin[:, 0, 0].contiguous()),
        whole(_POSITIONS, device),
        table,
        CCAState(tail, delayed, whole(range(rows), device), whole(range(rows, 2 * rows), device)),
        kv,
        query,
    )
    run_all([launch], device)
    blocks = [int(table[row, at // BLOCK]) for row, at in enumerate(_POSITIONS)]
    stored = [
        torch.stack([one[block, :, at % BLOCK] for block, at in zip(blocks, _POSITIONS, strict=True)])
        for one in (kv.keys, kv.values)
    ]
    found = [query, *stored, tail[rows:], delayed[rows:]]
    return max(largest_difference(*pair) for pair in zip(found, [*wanted, *kept], strict=True))


def _cca_by_torch(
    layer: DecoderLayer, x: Tensor, tail: Tensor, delayed: Tensor, angles: tuple[Tensor, Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Query, key and value of one token of each row, and what the next one finds."""
    kept: list[Tensor] = []
    step = SimpleNamespace(
        conv_tail=lambda layer: tail,
        delayed=lambda layer: delayed,
        keep_state=lambda columns, old: kept.extend((columns[:, 1:], old[:, -1])),
    )
    qk, value = layer.qkv_proj(x, step, _NUMBER)  # type: ignore[arg-type]
    heads = layer.qkv_proj.num_attention_heads
    qk = rotate(layer.qk_norm(qk), *angles)[:, 0]
    return [qk[:, :heads].flatten(1), qk[:, heads:], value[:, 0]], kept
