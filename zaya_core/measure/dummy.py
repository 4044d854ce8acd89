"""ZAYA1-8B's sizes with random weights, made in memory: speed and memory of a machine before anything is downloaded.

The answers are noise; tokens spread over the experts as in a trained model, since the router's weights are random too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quant.formats import FORMAT_VERSION, FORMATS, GROUP, WeightFormat
from zaya_core.checkpoint.accounting import TensorInfo
from zaya_core.checkpoint.checkpoint import Checkpoint
from zaya_core.checkpoint.dtypes import NAMES
from zaya_core.checkpoint.names import expected_tensors, packed_parameters
from zaya_core.config.graphs import Graphs
from zaya_core.config.kv_format import KVFormat
from zaya_core.config.model_config import ModelConfig
from zaya_core.config.parse import parse_config
from zaya_core.config.weight_formats import DEFAULT_DENSE, DEFAULT_EXPERTS, FLOAT, AnyFormat, DenseFormat
from zaya_core.errors import ConfigError
from zaya_core.load import build_model
from zaya_core.machine.device import choose_placement
from zaya_core.machine.format_library import expect_library
from zaya_core.measure.random_tensors import RandomTensors
from zaya_core.model.model import ZayaModel

VOCABULARY = 262_272
_SHARD = "random"


def full_size_config(
    layers: int = 40, experts: AnyFormat = FLOAT, dense: DenseFormat = FLOAT, vocabulary: int = VOCABULARY
) -> dict[str, Any]:
    """`config.json` as the Hub has it for Zyphra/ZAYA1-8B, or as `zaya quantize` or compressed-tensors leave it."""
    rope = {"rope_type": "default", "rope_theta": 5_000_000, "partial_rotary_factor": 0.5}
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
        **({} if experts == FLOAT else _quantization(FORMATS[experts], dense)),
    }


def _quantization(format: WeightFormat, dense: str) -> dict[str, Any]:
    """The block that says it, ours or that of compressed-tensors, which leaves all but the experts as floats."""
    if format.scheme is None:
        ours = {"format_version": FORMAT_VERSION, "format": format.name, "dense": dense, "group_size": GROUP}
        return {"quantization": {**ours, "dtype": "bfloat16"}}
    if dense != FLOAT:
        raise ConfigError(f"{format.name} is a format of experts whose attention, embedding and head are {FLOAT}.")
    weights = {"num_bits": format.scheme.bits, "type": "float", "group_size": format.scheme.group}
    weights |= {"strategy": format.scheme.strategies[0], "symmetric": True}
    groups = {"group_0": {"weights": weights}}
    return {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": groups}}


class _RandomShard:
    """Stands for an open weight file."""

    def __init__(self, config: ModelConfig, device: torch.device, on_progress: Callable[[int, int], None]):
        """device: where weights are made. on_progress: (tensors made, of how many)."""
        self.expected = {name: (one.shape, one.dtypes[0]) for name, one in expected_tensors(config, ()).items()}
        self._packed = {
            source: (one.kind, suffix)
            for one in packed_parameters(config, ()).values()
            for suffix, source in one.sources.items()
        }
        self._random = RandomTensors(device=device)
        self._made: set[str] = set()
        self._on_progress = on_progress

    def get_tensor(self, name: str) -> Tensor:
        self._made.add(name)
        self._on_progress(len(self._made), len(self.expected))
        if name in self._packed:
            return self._random.draw_packed(*self._packed[name], *self.expected[name])
        return self._random.draw(name, *self.expected[name])


def dummy_model(
    experts: AnyFormat = DEFAULT_EXPERTS,
    dense: DenseFormat = DEFAULT_DENSE,
    layers: int = 40,
    device: str = "cpu",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    kv: KVFormat = "auto",
    vocabulary: int = VOCABULARY,
    cpu_experts: int = 0,
    graphs: Graphs = "auto",
) -> ZayaModel:
    """A model of the real sizes in any format.

    on_progress: (tensors made, of how many). cpu_experts, graphs: see `load_model`. Raises: ConfigError for formats
    that do not go together; DeviceError for one whose library is missing.
    """
    config = parse_config(full_size_config(layers, experts, dense, vocabulary))
    if experts != FLOAT:
        expect_library(experts)
    placement = choose_placement(device, "auto", torch.bfloat16)
    # Experts that stay in main memory would go there and back.
    made_on = torch.device("cpu") if cpu_experts else placement.device
    checkpoint = random_checkpoint(config, made_on, on_progress)
    return build_model(config, checkpoint, placement, kv, cpu_experts, graphs)


def random_checkpoint(
    config: ModelConfig, device: torch.device, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> Checkpoint:
    """Tensors that are made when they are asked for, on a device. on_progress: (tensors made, of how many)."""
    shard = _RandomShard(config, device, on_progress)
    infos = {name: TensorInfo(_SHARD, shape, NAMES[dtype]) for name, (shape, dtype) in shard.expected.items()}
    return Checkpoint(Path(_SHARD), config, {_SHARD: shard}, infos)
