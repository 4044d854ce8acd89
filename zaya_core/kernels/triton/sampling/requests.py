"""What rows ask for when their tokens are chosen, as numbers that one upload brings to a card."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from quant.kernels.pointers import described
from zaya_core.kernels.triton.sampling.buffers import DrawBuffers
from zaya_core.sampling.draw import RowDraw
from zaya_core.sampling.params import LEAST_TEMPERATURE

# Lines of the requests (lines, R) float64. `WANTED`: the forced id, or one of the two below. From UNIFORM on, a random
# number for each round, and one more for the token that the last round proposes.
TEMPERATURE, TOP_P, TOP_K, MIN_P, WANTED, UNIFORM = range(6)
LIKELIEST, SAMPLED = -1, -2


def request_of(row: RowDraw, vocabulary: int, numbers: int) -> list[float]:
    """A column of the requests, with its first random numbers if any are needed. Raises UsageError for its step."""
    params = row.params
    if row.forced is not None or params.is_greedy:
        return undrawn(vocabulary, numbers, LIKELIEST if row.forced is None else row.forced)
    temperature = max(params.temperature, LEAST_TEMPERATURE)
    top_p = params.top_p if params.top_p < 1 else math.inf
    top_k = min(params.top_k or vocabulary, vocabulary)
    uniforms = (row.key.uniform(row.step, number) for number in range(numbers))
    return [temperature, top_p, top_k, params.min_p, SAMPLED, *uniforms]


def undrawn(vocabulary: int, numbers: int, wanted: int = LIKELIEST) -> list[float]:
    """A column for the likeliest token or a forced id."""
    return [1.0, math.inf, vocabulary, 0.0, wanted, *[0.0] * numbers]


def requests_of(columns: Sequence[Sequence[float]], buffers: DrawBuffers) -> Tensor:
    """(lines, R) float64 on the card. columns: one for each row, of one length."""
    requests = torch.zeros((lines_of(buffers), buffers.room), dtype=torch.float64)
    requests[: len(columns[0]), : len(columns)] = torch.tensor(columns, dtype=torch.float64).T
    return uploaded(requests, buffers.device)


def lines_of(buffers: DrawBuffers) -> int:
    """Of requests."""
    return UNIFORM + buffers.rounds + 1


def uploaded(tensor: Tensor, device: torch.device) -> Tensor:
    """The same numbers on a card, without waiting for it: torch keeps the pinned copy until the card has read it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def expect_requests(logits: Tensor, changed: Tensor | None, requests: Tensor, buffers: DrawBuffers) -> None:
    """Raises ValueError unless logits, what rows made of them (B or more rows) and requests fit the buffers."""
    buffers.expect(logits)
    if changed is not None:
        buffers.expect(changed)
        if len(changed) < len(logits):
            raise ValueError(f"{len(changed)} changed rows cannot stand for {len(logits)} rows of logits")
    lines = lines_of(buffers)
    if not (
        requests.shape == (lines, buffers.room)
        and requests.dtype == torch.float64
        and requests.is_contiguous()
        and requests.device == buffers.device
    ):
        raise ValueError(f"requests must be ({lines}, {buffers.room}) float64; they are {described(requests)}")
