"""ZAYA1-8B's sizes with random weights, made in memory: speed and memory of a machine before anything is downloaded.

The answers are noise; tokens spread over the experts as in a trained model, since the router's weights are random too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quant.formats import FORMAT_VERSION, GROUP
from quant.large_pages import prefer_large_pages, zeros_in_large_pages
from zaya_core.checkpoint.accounting import TensorInfo
from zaya_core.checkpoint.checkpoint import Checkpoint
from zaya_core.checkpoint.dtypes import NAMES
from zaya_core.checkpoint.names import expected_tensors
from zaya_core.config.kv_format import KVFormat
from zaya_core.config.parse import parse_config
from zaya_core.config.weight_formats import DEFAULT_DENSE, DEFAULT_EXPERTS, FLOAT
from zaya_core.load import build_model
from zaya_core.machine.device import choose_placement
from zaya_core.model.model import ZayaModel

VOCABULARY = 262_272
_NOISE = 1 << 24
_SHARD = "random"


def full_size_config(
    layers: int = 40, experts: str = FLOAT, dense: str = FLOAT, vocabulary: int = VOCABULARY
) -> dict[str, Any]:
    """`config.json` as the Hub has it for Zyphra/ZAYA1-8B, or as `zaya quantize` leaves it."""
    rope = {"rope_type": "default", "rope_theta": 5_000_000, "partial_rotary_factor": 0.5}
    quantization = {"format_version": FORMAT_VERSION, "format": experts, "dense": dense, "group_size": GROUP}
    return {
        "architectures": ["ZayaForCausalLM"],
        "model_type": "zaya",
        "dtype": "bfloat16",
        "vocab_size": vocabulary,
        "num_hidden_layers": layers,
        "layer_types": ["hybrid"] * layers,
        "rope_parameters": {"hybrid": rope, "rope_type": "default"},
        "bos_token_id": 2,
        "eos_token_id": 106,
        "pad_token_id": 0,
        **({} if experts == FLOAT else {"quantization": quantization | {"dtype": "bfloat16"}}),
    }


class RandomTensors:
    """Tensors by name and shape; large ones are slices of one noise, at random offsets. Calls with a seed repeat."""

    def __init__(self, seed: int = 0):
        self._generator = torch.Generator().manual_seed(seed)
        self._noise = torch.randn(_NOISE, generator=self._generator)
        self._blocks: dict[tuple[torch.dtype, float], Tensor] = {}

    def draw(self, name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.bfloat16) -> Tensor:
        """A tensor such as a checkpoint has under this name."""
        if name.endswith(("_scale", "norm.weight", "temp")):
            return torch.ones(shape, dtype=dtype)
        if name.endswith("balancing_biases"):
            return torch.tensor([0.0] * (shape[0] - 1) + [-1.0])
        if name.endswith(".scales"):
            return zeros_in_large_pages(shape, dtype, torch.device("cpu")).fill_(_SCALES[dtype])
        if len(shape) == 1:
            return torch.zeros(shape, dtype=dtype)
        return self._repeated(torch.Size(shape).numel(), self._block(name, shape, dtype)).view(shape)

    def _block(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        factor = next((factor for part, factor in _ROUTER_SPREADS if part in name), 1.0)
        key = (dtype, factor * shape[-1] ** -0.5 if dtype.is_floating_point else 1.0)
        if key not in self._blocks:
            is_float = dtype.is_floating_point
            self._blocks[key] = (self._noise * key[1]).to(dtype) if is_float else _as_codes(self._noise, dtype)
        return self._blocks[key]

    def _repeated(self, count: int, block: Tensor) -> Tensor:
        offset = int(torch.randint(0, _NOISE, (1,), generator=self._generator))
        values = prefer_large_pages(torch.empty(count, dtype=block.dtype))
        for part in values[: _NOISE - offset], *values[_NOISE - offset :].split(_NOISE):
            part.copy_(block[offset : offset + len(part)])
            offset = 0
        return values


# Small before the GELUs, where they are nearly odd functions, and large behind: otherwise what they add to every token
# alike outweighs the token, and all tokens go to the same experts.
_ROUTER_SPREADS = (("router_mlp.fc1", 0.05), ("router_mlp.out_proj", 100.0))
_CODES = {torch.int8: 40.0, torch.uint8: 3.0}  # spread of int8 and of int4 codes; both have a mean of zero, see above
_SCALES = {torch.float32: 0.022 / 40, torch.float16: 0.022 / 3}  # weights of spread 1 / sqrt(2048)


def _as_codes(noise: Tensor, dtype: torch.dtype) -> Tensor:
    """int8 codes, or bytes of two int4 codes each."""
    if dtype == torch.int8:
        return (noise * _CODES[dtype]).round_().clamp_(-127, 127).to(torch.int8)
    low = (noise * _CODES[dtype]).round_().clamp_(-7, 7).add_(8).to(torch.uint8)
    return low | low.roll(len(low) // 3) << 4


class _RandomShard:
    """Stands for an open weight file."""

    def __init__(self, expected: dict[str, tuple[tuple[int, ...], torch.dtype]], on_tensor: Callable[[str], None]):
        self._expected = expected
        self._random = RandomTensors()
        self._on_tensor = on_tensor

    def get_tensor(self, name: str) -> Tensor:
        self._on_tensor(name)
        return self._random.draw(name, *self._expected[name])


def dummy_model(
    experts: str = DEFAULT_EXPERTS,
    dense: str = DEFAULT_DENSE,
    layers: int = 40,
    device: str = "cpu",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    kv: KVFormat = "auto",
    vocabulary: int = VOCABULARY,
    cpu_experts: int = 0,
) -> ZayaModel:
    """A model of the real sizes in a format that `zaya quantize` writes, or bf16.

    on_progress: (tensors made, of how many). cpu_experts: see `load_model`. Raises: ConfigError for a format that is
    not offered.
    """
    config = parse_config(full_size_config(layers, experts, dense, vocabulary))
    expected = {name: (one.shape, one.dtypes[0]) for name, one in expected_tensors(config, ()).items()}
    infos = {name: TensorInfo(_SHARD, shape, NAMES[dtype]) for name, (shape, dtype) in expected.items()}
    made: set[str] = set()

    def count(name: str) -> None:
        made.add(name)
        on_progress(len(made), len(expected))

    checkpoint = Checkpoint(Path(_SHARD), config, {_SHARD: _RandomShard(expected, count)}, infos)
    return build_model(config, checkpoint, choose_placement(device, "auto", checkpoint.dtype), kv, cpu_experts)
