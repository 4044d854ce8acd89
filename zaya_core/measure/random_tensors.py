"""Random weights with the spread of trained ones, floats and codes, made fast: large ones are slices of one noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from quant.formats import Format
from quant.large_pages import prefer_large_pages, zeros_in_large_pages

_NOISE = 1 << 24


class RandomTensors:
    """Tensors by name and shape; large ones are slices of one noise, at random offsets. Calls with a seed repeat.

    device: where they are made; small ones are on the CPU.
    """

    def __init__(self, seed: int = 0, device: torch.device | None = None):
        self._device = torch.device("cpu") if device is None else device
        self._generator = torch.Generator().manual_seed(seed)
        self._noise = torch.randn(_NOISE, generator=self._generator).to(self._device)
        self._blocks: dict[tuple[Any, ...], Tensor] = {}

    def draw(self, name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.bfloat16) -> Tensor:
        """A tensor of floats such as a checkpoint has under this name."""
        if name.endswith(("_scale", "norm.weight", "temp")):
            return torch.ones(shape, dtype=dtype)
        if name.endswith("balancing_biases"):
            return torch.tensor([0.0] * (shape[0] - 1) + [-1.0])
        if len(shape) == 1:
            return torch.zeros(shape, dtype=dtype)
        factor = next((factor for part, factor in _ROUTER_SPREADS if part in name), 1.0)
        spread = factor * shape[-1] ** -0.5
        return self._repeated(shape, (dtype, spread), lambda noise: (noise * spread).to(dtype))

    def draw_packed(self, kind: Format, suffix: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Codes or scales of weights of the same spread."""
        to_codes, scale = _PACKED[kind]
        if suffix == "scales":
            return zeros_in_large_pages(shape, dtype, self._device).fill_(scale)
        return self._repeated(shape, (kind,), to_codes)

    def _repeated(self, shape: tuple[int, ...], key: tuple[Any, ...], make: Callable[[Tensor], Tensor]) -> Tensor:
        """What is made of the noise, as often as the shape takes; made once for each key."""
        if key not in self._blocks:
            self._blocks[key] = make(self._noise)
        block, count = self._blocks[key], torch.Size(shape).numel()
        offset = int(torch.randint(0, _NOISE, (1,), generator=self._generator))
        values = prefer_large_pages(torch.empty(count, dtype=block.dtype, device=self._device))
        for part in values[: _NOISE - offset], *values[_NOISE - offset :].split(_NOISE):
            part.copy_(block[offset : offset + len(part)])
            offset = 0
        return values.view(shape)


# Small before the GELUs, where they are nearly odd functions, and large behind: otherwise what they add to every token
# alike outweighs the token, and all tokens go to the same experts.
_ROUTER_SPREADS = (("router_mlp.fc1", 0.05), ("router_mlp.out_proj", 100.0))


def _int8_codes(noise: Tensor) -> Tensor:
    return (noise * 40.0).round_().clamp_(-127, 127).to(torch.int8)


def _nibbles(noise: Tensor) -> Tensor:
    """Bytes of two numbers of 0..15 each, around 8."""
    low = (noise * 3.0).round_().clamp_(-7, 7).add_(8).to(torch.uint8)
    return low | low.roll(len(low) // 3) << 4


def _any_bytes(noise: Tensor) -> Tensor:
    return (noise * 1e4).round_().remainder_(256).to(torch.uint8)


_SPREAD = 0.022  # of weights: 1 / sqrt(2048)
# How codes are made, all with a mean of zero (see above), and the stored scale that gives weights that spread.
_PACKED: dict[Format, tuple[Callable[[Tensor], Tensor], float]] = {
    "int8": (_int8_codes, _SPREAD / 40),
    "int4": (_nibbles, _SPREAD / 3),
    "nf4": (_nibbles, _SPREAD / 0.33),
    "fp8": (lambda noise: noise.to(torch.float8_e4m3fn), _SPREAD),
    "mxfp4": (_any_bytes, 127 - 7),  # an exponent of two; codes spread by 2.9
}
