"""Parts of layers at awkward sizes, and states of rows, for tests of kernels."""

from __future__ import annotations

import torch

from quant.dense import DenseMatrix
from quant.int8 import nearest_int8
from tests.gpu.triton.place import PLACE
from zaya_core.cache.arrangement import BLOCK
from zaya_core.kernels.triton.paged_cache import LayerKV
from zaya_core.model.cca import CausalConvolutions, CCAProjection
from zaya_core.model.norm import QKNorm, RMSNorm
from zaya_core.model.residual import ResidualScaling
from zaya_core.model.router import Router


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def placed(*tensors):
    """On the card, if there is one."""
    return [one.to(PLACE) for one in tensors]


def whole(numbers):
    return torch.tensor(numbers, dtype=torch.int32, device=PLACE)


def scaling_of(width, seed=1):
    return ResidualScaling(*placed(*random(4, width, seed=seed)))


def norm_of(width, seed=2):
    return RMSNorm(1 + 0.3 * random(width, seed=seed).to(PLACE), 1e-5)


def router_of(width, hidden, biases, is_first=False, seed=3):
    shapes = {
        "down_proj.weight": (hidden, width),
        "down_proj.bias": (hidden,),
        "router_states_scale": (hidden,),
        "router_mlp.norm.weight": (hidden,),
        "router_mlp.fc1.weight": (hidden, hidden),
        "router_mlp.fc1.bias": (hidden,),
        "router_mlp.fc2.weight": (hidden, hidden),
        "router_mlp.fc2.bias": (hidden,),
        "router_mlp.out_proj.weight": (len(biases), hidden),
    }
    tensors = {
        name: random(*shape, seed=seed + at).to(PLACE) * shape[-1] ** (-0.5 if len(shape) > 1 else 0)
        for at, (name, shape) in enumerate(shapes.items())
        if not (is_first and name == "router_states_scale")
    }
    return Router(tensors | {"balancing_biases": torch.tensor(biases, device=PLACE)}, 1e-5)


def cca_of(heads, groups, head_dim, width, seed=4):
    """The reference's projection, and its norm of queries and keys."""
    channels, half = (heads + groups) * head_dim, groups * head_dim // 2
    taps, (bias, grouped_bias) = random(channels, 1, 2, seed=seed), random(2, channels, seed=seed + 1)
    grouped = random(channels, head_dim, 2, seed=seed + 2) * head_dim**-0.5
    convolutions = CausalConvolutions(placed(taps, bias), placed(grouped, grouped_bias), head_dim)
    rows = (heads * head_dim, groups * head_dim, half, half)
    projections = [
        DenseMatrix(*placed(random(n, width, seed=seed + 3 + n) * width**-0.5, random(n, seed=seed))) for n in rows
    ]
    temperature = 1 + random(groups, seed=seed + 9).abs().to(PLACE)
    return CCAProjection(projections, convolutions, heads, groups), QKNorm(temperature, heads, head_dim)


def cache_of(blocks, groups, head_dim, kv, seed=5):
    """Blocks with random keys and values, and the same numbers in float32: (blocks, G, BLOCK, K) each."""
    keys, values = random(2, blocks, groups, BLOCK, head_dim, seed=seed).to(PLACE)
    if kv != "int8":
        stored = LayerKV(*(one.to(getattr(torch, kv)) for one in (keys, values)))
        return stored, stored.keys.float(), stored.values.float()
    (keys, key_scales), (values, value_scales) = nearest_int8(keys), nearest_int8(values)
    return (
        LayerKV(keys, values, key_scales, value_scales),
        keys * key_scales[..., None],
        values * value_scales[..., None],
    )


def tables_of(rows, blocks, seed=6):
    """Blocks of each row, in any order, none of another row's: (B, blocks) int32, and how many there are in all."""
    count = rows * blocks + 1
    order = 1 + torch.randperm(count - 1, generator=torch.Generator().manual_seed(seed))
    return order.view(rows, blocks).to(torch.int32).to(PLACE), count
