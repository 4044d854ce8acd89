"""A GGUF file of ZAYA1-8B's matrix shapes with random weights, as the nearest architecture that llama.cpp computes.

`qwen3moe` has one expert in a token where `expert_used_count` is 1, grouped queries and norms of queries and keys. What
ZAYA has beside that (convolutions, delayed values, a router of several layers, scaled residuals) is missing, which is
in llama.cpp's favour. All matrices are Q4_0 and the head is the embedding. Needs the package `gguf`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zaya_core.files.private_file import write_atomically

_WEIGHTS, _BYTES = 32, 18  # of one Q4_0 block: a float16 scale, then 32 codes of 4 bits
_NOISE_BLOCKS = 1 << 20


@dataclass(frozen=True)
class Sizes:
    """Of the model in the file."""

    layers: int = 40
    hidden: int = 2048
    experts: int = 16
    expert_width: int = 2048
    query_heads: int = 8
    key_heads: int = 2
    head_dim: int = 128
    vocabulary: int = 262_272
    context: int = 131_072


def write_random_gguf(path: Path, sizes: Sizes) -> None:
    """Write the file atomically; 4.95 GB at full size. Raises OSError, and ImportError without `gguf`."""
    write_atomically(path, lambda temporary: _write(temporary, sizes))


def _write(path: Path, sizes: Sizes) -> None:
    import gguf

    writer = gguf.GGUFWriter(path, "qwen3moe")
    _add_settings(writer, sizes)
    shapes = dict(_tensors(sizes))
    q4_0 = gguf.GGMLQuantizationType.Q4_0
    for name, shape in shapes.items():
        if _is_packed(name):
            packed = (*shape[:-1], shape[-1] // _WEIGHTS * _BYTES)
            writer.add_tensor_info(name, packed, np.dtype(np.uint8), int(np.prod(packed)), q4_0)
        else:
            writer.add_tensor_info(name, shape, np.dtype(np.float32), 4 * int(np.prod(shape)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    random = np.random.default_rng(0)
    noise = _noise(random, sizes.hidden)
    for name, shape in shapes.items():
        writer.write_tensor_data(_values(name, shape, noise, random))
    writer.close()


def _add_settings(writer: Any, sizes: Sizes) -> None:
    writer.add_name("random weights")
    writer.add_block_count(sizes.layers)
    writer.add_context_length(sizes.context)
    writer.add_embedding_length(sizes.hidden)
    writer.add_feed_forward_length(sizes.expert_width)
    writer.add_expert_feed_forward_length(sizes.expert_width)
    writer.add_expert_count(sizes.experts)
    writer.add_expert_used_count(1)
    writer.add_head_count(sizes.query_heads)
    writer.add_head_count_kv(sizes.key_heads)
    writer.add_key_length(sizes.head_dim)
    writer.add_value_length(sizes.head_dim)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(5e6)
    writer.add_vocab_size(sizes.vocabulary)
    writer.add_tokenizer_model("none")  # ids go in, logits come out


def _tensors(sizes: Sizes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape, rows first. No `output.weight`: llama.cpp then takes the embedding for the head."""
    queries, keys = sizes.query_heads * sizes.head_dim, sizes.key_heads * sizes.head_dim
    experts = (sizes.experts, sizes.expert_width, sizes.hidden)
    yield "token_embd.weight", (sizes.vocabulary, sizes.hidden)
    yield "output_norm.weight", (sizes.hidden,)
    for layer in range(sizes.layers):
        prefix = f"blk.{layer}."
        yield prefix + "attn_norm.weight", (sizes.hidden,)
        yield prefix + "attn_q.weight", (queries, sizes.hidden)
        yield prefix + "attn_k.weight", (keys, sizes.hidden)
        yield prefix + "attn_v.weight", (keys, sizes.hidden)
        yield prefix + "attn_output.weight", (sizes.hidden, queries)
        yield prefix + "attn_q_norm.weight", (sizes.head_dim,)
        yield prefix + "attn_k_norm.weight", (sizes.head_dim,)
        yield prefix + "ffn_norm.weight", (sizes.hidden,)
        yield prefix + "ffn_gate_inp.weight", (sizes.experts, sizes.hidden)
        yield prefix + "ffn_gate_exps.weight", experts
        yield prefix + "ffn_up_exps.weight", experts
        yield prefix + "ffn_down_exps.weight", (sizes.experts, sizes.hidden, sizes.expert_width)


def _is_packed(name: str) -> bool:
    """llama.cpp's own quantization leaves norms and the router in float32, too."""
    return "norm" not in name and "ffn_gate_inp" not in name


def _noise(random: np.random.Generator, hidden: int) -> np.ndarray[Any, Any]:
    """Q4_0 blocks (n, 18) of weights of spread 1 / sqrt(hidden).

    The codes are -7..7: with -8 the mean would not be zero, and what all weights have in common would outweigh the
    token and send all tokens to the same experts.
    """
    codes = random.integers(1, 16, (_NOISE_BLOCKS, _WEIGHTS), dtype=np.uint8)
    blocks = np.empty((_NOISE_BLOCKS, _BYTES), np.uint8)
    spread = float(np.std(np.arange(-7, 8)))
    blocks[:, :2] = np.array([hidden**-0.5 / spread], np.float16).view(np.uint8)
    blocks[:, 2:] = codes[:, :16] | codes[:, 16:] << 4
    return blocks


def _values(
    name: str, shape: tuple[int, ...], noise: np.ndarray[Any, Any], random: np.random.Generator
) -> np.ndarray[Any, Any]:
    if "norm" in name:
        return np.ones(shape, np.float32)
    if not _is_packed(name):
        return random.standard_normal(shape, np.float32) * np.float32(shape[-1] ** -0.5)
    count = int(np.prod(shape)) // _WEIGHTS
    first = int(random.integers(len(noise)))
    return noise[np.arange(first, first + count) % len(noise)].reshape(*shape[:-1], -1)
