"""The steps of ZAYA1-8B's layers as launches that are compiled for cards that are not here; see `cases.py`."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from quant.kernels.triton import choice
from quant.kernels.triton.launch import Launch
from quant.kernels.triton.weights import CardMatrix
from zaya_core.cache.arrangement import BLOCK
from zaya_core.kernels.triton.angles import angles
from zaya_core.kernels.triton.attention_step import Parts, attention_shape, attention_step
from zaya_core.kernels.triton.cca import CCAState, CCAWeights, cca
from zaya_core.kernels.triton.embedding import embedding
from zaya_core.kernels.triton.merge_norm import merge_norm
from zaya_core.kernels.triton.paged_cache import LayerKV
from zaya_core.kernels.triton.prompt_attention import prompt_launch, prompt_shape
from zaya_core.kernels.triton.router import RouterWeights, router_choice, router_down
from zaya_core.model.norm import RMSNorm
from zaya_core.model.residual import ResidualScaling

D, H, G, K, R, CLASSES, ROTATED = 2048, 8, 2, 128, 256, 17, 64
C = (H + G) * K
BLOCKS, OF_A_ROW, SLOTS = 4096, 512, 71
META = torch.device("meta")
FLOATS = (torch.float32, torch.bfloat16)


def floats(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A tensor without memory."""
    return torch.empty(shape, dtype=dtype, device=META)


def whole(*shape: int) -> torch.Tensor:
    """The same, of int32."""
    return floats(*shape, dtype=torch.int32)


def cache(kv: torch.dtype) -> LayerKV:
    """Of one layer, in float32, bfloat16 or int8."""
    shape = (BLOCKS, G, BLOCK, K)
    scales = (floats(*shape[:3]), floats(*shape[:3])) if kv == torch.int8 else ()
    return LayerKV(floats(*shape, dtype=kv), floats(*shape, dtype=kv), *scales)


def merging() -> tuple[ResidualScaling, RMSNorm]:
    """A merge and the norm behind it."""
    return ResidualScaling(*(floats(D) for _ in range(4))), RMSNorm(floats(D), 1e-5)


def layer_steps(matrix_of: dict[str, CardMatrix], rows: int = 1) -> Iterator[tuple[str, Launch]]:
    """matrix_of: embeddings by format."""
    for format, table in matrix_of.items():
        yield f"embedding {format}", embedding(whole(rows), whole(rows), table, floats(D), floats(D), floats(rows, D))
    yield "angles", angles(whole(rows), floats(ROTATED), floats(rows, ROTATED), floats(rows, ROTATED))
    yield "merge_norm", merge_norm(floats(rows, D), floats(rows, D), *merging(), floats(rows, D), floats(rows, D))
    for dtype in FLOATS:
        yield from _cca_steps(rows, dtype)
        yield from _router_steps(rows, dtype)
    for kv in (*FLOATS, torch.int8):
        yield from _attention_steps(rows, kv)
        yield f"prompt_attention {kv}", _prompt_attention(1024, kv)


def _cca_steps(rows: int, dtype: torch.dtype) -> Iterator[tuple[str, Launch]]:
    weights = CCAWeights(floats(2, C), floats(C), floats(H + G, 2 * K, K, dtype=dtype), floats(C), floats(H + G), 1e-7)
    state = CCAState(floats(SLOTS, 2, C, dtype=dtype), floats(SLOTS, K, dtype=dtype), whole(rows), whole(rows))
    row_angles = floats(rows, ROTATED), floats(rows, ROTATED)
    for kv in (dtype, torch.int8):
        launch = cca(
            floats(rows, C + G * K),
            weights,
            row_angles,
            whole(rows),
            whole(rows, OF_A_ROW),
            state,
            cache(kv),
            floats(rows, H * K),
        )
        yield f"cca {dtype} {kv}", launch


def _router_steps(rows: int, dtype: torch.dtype) -> Iterator[tuple[str, Launch]]:
    square = floats(R, R, dtype=dtype)
    out_proj, vector = floats(R, CLASSES, dtype=dtype), floats(R)
    weights = RouterWeights(
        floats(R, D, dtype=dtype),
        vector,
        vector,
        RMSNorm(vector, 1e-5),
        square,
        vector,
        square,
        vector,
        out_proj,
        floats(CLASSES),
    )
    branch, residual, merged, normed = (floats(rows, D) for _ in range(4))
    scaling, norm = merging()
    down = router_down(branch, residual, scaling, norm, weights, merged, normed, floats(rows, R))
    yield f"router_down {dtype}", down
    buffers = floats(rows, R), floats(rows, 3, R), whole(rows), floats(rows)
    chosen = router_choice(floats(rows, R), floats(rows, R), weights, whole(rows), *buffers)
    yield f"router_choice {dtype}", chosen


def _attention_steps(rows: int, kv: torch.dtype) -> Iterator[tuple[str, Launch]]:
    shape = attention_shape(choice.architecture(META), rows, kv)
    parts = Parts.empty(rows, H, K, shape.splits, META)
    query, table = floats(rows, H * K), whole(rows, OF_A_ROW)
    attend, combine = attention_step(query, cache(kv), whole(rows), table, 4096, parts, floats(rows, H * K), shape)
    yield f"attend_split {kv}", attend
    yield f"combine_splits {kv}", combine


def _prompt_attention(columns: int, kv: torch.dtype) -> Launch:
    """Of a chunk of one row."""
    dtype = torch.bfloat16 if kv == torch.int8 else kv
    query, out = (floats(1, columns, H, K, dtype=dtype) for _ in range(2))
    table, numbers = floats(1, OF_A_ROW, dtype=torch.int64), floats(1, dtype=torch.int64)
    shape = prompt_shape(choice.architecture(META), kv)
    return prompt_launch(query, cache(kv), table, numbers, numbers, 4096, out, shape)
