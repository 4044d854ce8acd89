"""Launches at the sizes of ZAYA1-8B, to be compiled for cards that are not here. Each group of kernels adds a function.

Tensors are of the device "meta": they have a type and a size, and no memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args
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
Kind = Literal["int4", "int8", "bf16", "float32"]
FORMATS: tuple[Kind, ...] = get_args(Kind)
RARE = ("int8", "float32")  # words of cases that are compiled for all cards in the long test, and else for none


def is_usual(case: str) -> bool:
    """Whether a case is compiled in every run of the tests."""
    return not any(word in case for word in RARE)


def launches(target: str) -> Iterator[tuple[str, Launch]]:
    """All cases by name, as they are launched on a card of this kind."""
    with mock.patch.object(choice, "architecture", return_value=target):
        for group in (products, layers):
            yield from group()


def products() -> Iterator[tuple[str, Launch]]:
    """Attention's input, the head and experts, of one row, 16 rows and a prompt."""
    for kind in FORMATS:
        for rows in (1, 16, 1024):
            x, middle = (floats(rows, width, dtype=dtype_of(kind, rows)) for width in (D, WIDTH))
            up, down_ = (card_stack([matrix(kind, *shape)] * EXPERTS) for shape in ((2 * WIDTH, D), (D, WIDTH)))
            yield f"gate_up {kind} {rows}", gate_up(x, numbers(rows), up, middle)
            if kind == "float32":
                continue
            yield f"down {kind} {rows}", down(middle, numbers(rows), floats(rows), down_, floats(rows, D))
            if kind != "bf16" or rows <= 16:
                yield f"product {kind} {rows}", product(x, matrix(kind, QKV, D), floats(rows, QKV))
    head = matrix("int4", VOCABULARY, D)
    yield "head int4 16", product(floats(16, D), head, floats(16, VOCABULARY))
    stack = card_stack([matrix("int4", 2 * WIDTH, D)] * EXPERTS)
    yield "gate_up of float32 int4 1024", gate_up(floats(1024, D), numbers(1024), stack, floats(1024, WIDTH))


def dtype_of(kind: str, rows: int) -> torch.dtype:
    """Of activations: a decode step's are float32, and a prompt's those of the model."""
    return torch.float32 if rows <= 16 or kind == "float32" else torch.bfloat16


def layers() -> Iterator[tuple[str, Launch]]:
    """The steps of a layer."""
    yield from layer_steps({format: matrix(format, VOCABULARY, D) for format in ("int4", "int8", "bf16")})


def floats(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A tensor without memory."""
    return torch.empty(shape, dtype=dtype, device=META)


def numbers(*shape: int) -> torch.Tensor:
    """The same, of int32."""
    return torch.empty(shape, dtype=torch.int32, device=META)


def matrix(kind: Kind, n: int, k: int) -> CardMatrix:
    """A matrix without memory."""
    if kind == "bf16" or kind == "float32":
        codes = floats(n, k, dtype=torch.bfloat16 if kind == "bf16" else torch.float32)
        return card_matrix("float", codes, None, (n, k))
    stored = stored_tensors(kind, (n, k))
    tensors = {suffix: torch.empty(one.shape, dtype=one.dtypes[0], device=META) for suffix, one in stored.items()}
    return card_matrix(kind, tensors["codes"], tensors["scales"], (n, k))
