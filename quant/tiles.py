"""The byte layout of int4 and int8 codes and scales (format version 1).

A *tile* is 16 consecutive rows, a *group* 64 consecutive columns. Rows are padded with zeros to a multiple of 16.

    int4 codes  (N/16, K/64, 8, 16, 4) uint8: [tile t][group g][line c][row r][i] holds weight (16t + r, 64g + 8c + i)
                in its low four bits and (16t + r, 64g + 8c + 4 + i) in its high four bits, both as value + 8
    int4 scales (N/16, K/64, 16) float16: [tile t][group g][row r]
    int8 codes  (N/16, K/4, 16, 4) int8: [tile t][k / 4][row r][k % 4]
    int8 scales (N) float32

Why: 16 output rows lie in the 16 lanes of a vector register, so that one row of x or forty go through the same loop,
sums need no shuffles, a row's bits do not depend on the other rows, and memory is read strictly in sequence.

Four neighbouring codes are moved as one int32 below: a permutation of words is several times faster than one of bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from quant.formats import GROUP, TILE

_LOW = 0x0F0F0F0F
_CHUNK = 1 << 20  # weights: 4 MB in float32, the fastest size on two cores


def padded_rows(n: int) -> int:
    """N rounded up to whole tiles."""
    return -(-n // TILE) * TILE


def chunks_of_tiles(n: int, k: int) -> Iterator[tuple[int, int]]:
    """Rows (start, stop) of whole tiles, about as many as are fastest to round at once."""
    step = max(1, _CHUNK // (k * TILE)) * TILE
    for start in range(0, n, step):
        yield start, min(start + step, n)


def pack_int4(codes: Tensor) -> Tensor:
    """codes: (N, K) int8 in -8..7 -> (N/16, K/64, 8, 16, 4) uint8."""
    biased = _pad_rows(codes).add(8).view(torch.int32)  # (N, K/4): words of four codes
    words = biased.view(-1, TILE, codes.shape[1] // GROUP, GROUP // 8, 2)  # (tile, row, group, line, half)
    packed = words[..., 0] | words[..., 1] << 4
    return packed.permute(0, 2, 3, 1).contiguous().view(torch.uint8).unflatten(-1, (TILE, 4))


def unpack_int4(tiles: Tensor, dtype: torch.dtype = torch.int8) -> Tensor:
    """tiles: (N/16, K/64, 8, 16, 4) uint8 -> (N, K) in -8..7, padding rows included."""
    count, groups, lines, _, _ = tiles.shape
    words = tiles.flatten(-2).view(torch.int32).permute(0, 3, 1, 2)  # (tile, row, group, line)
    biased = torch.stack([words, words >> 4], dim=-1).bitwise_and_(_LOW).view(torch.int8)
    codes = torch.empty(biased.shape, dtype=dtype, device=tiles.device)
    return torch.sub(biased, 8, out=codes).view(count * TILE, groups * lines * 8)


def int4_rows(tiles: Tensor, index: Tensor) -> Tensor:
    """The rows `index` (n) -> (n, K) int8."""
    words = tiles[index // TILE, :, :, index % TILE].contiguous().view(torch.int32)  # (n, group, line, 1)
    return torch.cat([words & _LOW, words >> 4 & _LOW], dim=-1).view(torch.int8).flatten(1).sub_(8)


def pack_int4_scales(scales: Tensor) -> Tensor:
    """scales: (N, K/64) float16 -> (N/16, K/64, 16)."""
    return _pad_rows(scales).view(-1, TILE, scales.shape[1]).transpose(1, 2).contiguous()


def pack_int8(codes: Tensor) -> Tensor:
    """codes: (N, K) int8 -> (N/16, K/4, 16, 4) int8."""
    words = _pad_rows(codes).view(torch.int32).view(-1, TILE, codes.shape[1] // 4)
    return words.transpose(1, 2).contiguous().view(torch.int8).unflatten(-1, (TILE, 4))


def unpack_int8(tiles: Tensor) -> Tensor:
    """tiles: (N/16, K/4, 16, 4) int8 -> (N, K) int8, padding rows included."""
    words = tiles.flatten(-2).view(torch.int32).transpose(1, 2).contiguous()  # (tile, row, K/4)
    return words.view(torch.int8).flatten(0, 1)


def int8_rows(tiles: Tensor, index: Tensor) -> Tensor:
    """The rows `index` (n) -> (n, K) int8."""
    return tiles[index // TILE, :, index % TILE].flatten(1)


def _pad_rows(rows: Tensor) -> Tensor:
    return F.pad(rows, (0, 0, 0, padded_rows(len(rows)) - len(rows))).contiguous()
