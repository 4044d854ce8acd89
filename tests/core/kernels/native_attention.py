"""Attention of one layer by itself (callers reach it by `zaya_decode`), storage, and what must come out."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from quant.kernels.native import supported_instruction_sets
from zaya_core.kernels.abi import DecodeAttention, Layer, steps_of
from zaya_core.kernels.key_values import KeyValues
from zaya_core.kernels.layer import NativeLayer, has_prompt_attention

BLOCK, BLOCKS = 256, 12


def attend(layer, query, key, value, cache, slots, begin, end):
    """query, key, value: (B, 1, ...); the rest as in `abi.h` -> (B, 1, H*K)."""
    out = torch.empty_like(query)
    arguments = DecodeAttention(
        torch.get_num_threads(), len(query), *map(Tensor.data_ptr, (query, key, value)),
        cache.pointers(len(query), layer.key_heads, layer.head_dim), *map(Tensor.data_ptr, (slots, begin, end, out)),
    )  # fmt: skip
    layer.library.zaya_decode_attention(layer.index, ctypes.c_void_p(layer.address), ctypes.byref(arguments))
    return out


def laid_out(storage):
    """Keys and values (blocks, BLOCK, G, K), maybe scales (blocks, BLOCK, G), laid out as in `paged_cache.h`."""
    keys, values, *scales = storage
    each = 4 // keys.dtype.itemsize
    keys = keys.unflatten(1, (-1, 16)).unflatten(-1, (-1, each)).permute(0, 3, 1, 4, 2, 5)
    values = values.unflatten(1, (-1, each)).unflatten(-1, (-1, 16)).permute(0, 3, 4, 1, 5, 2)
    return [tensor.contiguous() for tensor in (keys, values, *(one.transpose(1, 2) for one in scales))]


def by_position(storage):
    """The way back."""
    keys, values, *scales = storage
    keys = keys.permute(0, 2, 4, 1, 3, 5).flatten(-2).flatten(1, 2)
    values = values.permute(0, 3, 5, 1, 2, 4).flatten(-2).flatten(1, 2)
    return [keys, values, *(one.transpose(1, 2) for one in scales)]


def layer_of(name, heads, key_heads, head_dim):
    products = supported_instruction_sets()[name]
    layer = Layer(query_heads=heads, key_heads=key_heads, head_dim=head_dim)
    made = NativeLayer.__new__(NativeLayer)  # of these sizes, without weights
    made.__dict__ |= {
        "library": steps_of(products),
        "index": products.index,
        "has_prompt_attention": has_prompt_attention(products),
        "head_dim": head_dim,
        "key_heads": key_heads,
        "query_width": heads * head_dim,
        "key_width": key_heads * head_dim,
        "address": ctypes.addressof(layer),
        "kept": layer,
    }
    return made


def noise(heads, key_heads, head_dim, dtype, past, columns, seed=0):
    """query, key, value (B, T, ...), and a cache with tables (B, 5) of blocks that are not in order."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (BLOCKS, BLOCK, key_heads)
    if dtype == torch.int8:
        storage = [torch.randint(-127, 128, (*sizes, head_dim), generator=generator).to(dtype) for _ in range(2)]
        storage += [torch.rand(sizes, generator=generator) / 50 for _ in range(2)]
    else:
        storage = [torch.randn(*sizes, head_dim, generator=generator).to(dtype) for _ in range(2)]
    order = torch.randperm(BLOCKS, generator=generator)
    tables = order[: 5 * len(past)].view(len(past), 5).contiguous()
    qkv = [
        torch.randn(len(past), columns, count * head_dim, generator=generator)
        for count in (heads, key_heads, key_heads)
    ]
    return qkv, KeyValues(laid_out(storage), tables, BLOCK)


def expected(qkv, cache, past, lengths, window, head_dim):
    """The new keys and values must be in the cache, rounded."""
    (query, *new), tables = qkv, cache.tables
    keys, values, *scales = (x.double() for x in by_position(cache.storage))
    if scales:
        keys, values = keys * scales[0][..., None], values * scales[1][..., None]
    out = torch.zeros_like(query, dtype=torch.float64)
    for row, (before, length) in enumerate(zip(past.tolist(), lengths.tolist(), strict=True)):
        own_keys, own_values = (x[tables[row]].flatten(0, 1).transpose(0, 1) for x in (keys, values))  # (G, S, K)
        for own, given in zip((own_keys, own_values), new, strict=True):
            stored = own[:, before : before + length].transpose(0, 1).flatten(1)
            near(stored, given[row, :length], 2**-8 if not scales else 0.51 / 127)
        for column in range(length):
            end = before + column + 1
            begin = max(0, end - window) if window else 0
            queries = query[row, column].double().view(len(own_keys), -1, head_dim)
            weights = (queries @ own_keys[:, begin:end].transpose(1, 2) / head_dim**0.5).softmax(-1)
            out[row, column] = (weights @ own_values[:, begin:end]).flatten()
    return out.float()


def near(actual, target, tolerance):
    assert (actual - target).abs().max() < tolerance * target.abs().max()
