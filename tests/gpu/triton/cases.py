"""Launches at the sizes of ZAYA1-8B, to be compiled for cards that are not here. Each group of kernels adds a function.

Tensors are of the device "meta": they have a type and a size, and no memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import torch

from quant.formats import stored_tensors
from quant.kernels.triton import choice
from quant.kernels.triton.launch import Launch
from quant.kernels.triton.product import down, gate_up, product
from quant.kernels.triton.weights import CardMatrix, card_matrix, card_stack
from tests.gpu.triton.layer_cases import layer_steps

D, QKV, WIDTH, EXPERTS, VOCABULARY = 2048, 1536, 2048, 16, 262_272
META = torch.device("meta")


def launches(target: str) -> Iterator[tuple[str, Launch]]:
    """All cases by name, as they are launched on a card of this kind."""
    with mock.patch.object(choice, "architecture", lambda device: target):
        for group in (products, layers):
            yield from group()


def products() -> Iterator[tuple[str, Launch]]:
    """Attention's input, the head and experts, of one row, 16 rows and a prompt."""
    for format in ("int4", "int8", "bf16"):
        for rows in (1, 16, 1024):
            if format != "bf16" or rows <= 16:
                yield f"product {format} {rows}", product(floats(rows, D), matrix(format, QKV, D), floats(rows, QKV))
            up, down_ = (card_stack([matrix(format, *shape)] * EXPERTS) for shape in ((2 * WIDTH, D), (D, WIDTH)))
            dtype = torch.float32 if rows <= 16 else torch.bfloat16
            x, middle, chosen = floats(rows, D, dtype=dtype), floats(rows, WIDTH, dtype=dtype), numbers(rows)
            yield f"gate_up {format} {rows}", gate_up(x, chosen, up, middle)
            yield f"down {format} {rows}", down(middle, chosen, floats(rows), down_, floats(rows, D))
        head = matrix(format, VOCABULARY, D)
        for rows in (1, 16):
            yield f"head {format} {rows}", product(floats(rows, D), head, floats(rows, VOCABULARY))


def layers() -> Iterator[tuple[str, Launch]]:
    """The steps of a layer."""
    yield from layer_steps({format: matrix(format, VOCABULARY, D) for format in ("int4", "int8", "bf16")})


def floats(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A tensor without memory."""
    return torch.empty(shape, dtype=dtype, device=META)


def numbers(*shape: int) -> torch.Tensor:
    """The same, of int32."""
    return torch.empty(shape, dtype=torch.int32, device=META)


def matrix(format: str, n: int, k: int) -> CardMatrix:
    """A matrix without memory: int4, int8, bf16 or float32."""
    if format in ("bf16", "float32"):
        codes = floats(n, k, dtype=torch.bfloat16 if format == "bf16" else torch.float32)
        return card_matrix("float", codes, None, (n, k))
    stored = stored_tensors(format, (n, k))
    tensors = {suffix: torch.empty(one.shape, dtype=one.dtypes[0], device=META) for suffix, one in stored.items()}
    return card_matrix(format, tensors["codes"], tensors["scales"], (n, k))
