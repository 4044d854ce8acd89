"""Whether a model fits into memory: the bytes of its weights in each format, of keys and values, and of the work.

Computed from `config.json` alone, so that it can be said before anything is downloaded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from zaya_core.checkpoint.names import Parameter, parameters
from zaya_core.config.kv_format import KVFormat
from zaya_core.config.model_config import ModelConfig
from zaya_core.config.quantization import Quantization
from zaya_core.config.weight_formats import DEFAULT_DENSE, FAST_FORMATS, FLOAT, LARGEST_FIRST, DenseFormat, bits_of

Verdict = Literal["fits", "tight", "does not fit"]

# What the experts of a whole model may be on this machine, the largest first; and with the model as published.
SMALLER: tuple[DenseFormat, ...] = tuple(name for name in LARGEST_FIRST if name in FAST_FORMATS)
REPORTED: tuple[DenseFormat, ...] = (FLOAT, *SMALLER)
USUAL_CONTEXT = 16_384  # tokens; room for a long thought
WORKSPACE_BYTES = 700_000_000  # the interpreter, torch's libraries, and the rows of one prefill chunk: about
_MATRICES = Quantization(DEFAULT_DENSE, DEFAULT_DENSE, None, is_ours=True)  # whatever can be packed


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a model needs, by what they are for."""

    weights: int
    keys_and_values: int
    workspace: int = WORKSPACE_BYTES

    @property
    def total(self) -> int:
        return self.weights + self.keys_and_values + self.workspace

    def verdict(self, total: int, free: int) -> Verdict:
        """Against `total` bytes of memory, `free` of them unused now. "tight": others would have to give some back."""
        return "fits" if self.total <= free else "tight" if self.total <= total else "does not fit"


def memory_need(
    config: ModelConfig, weight_bytes: int, context: int = USUAL_CONTEXT, kv: KVFormat = "auto"
) -> MemoryNeed:
    """For one conversation of `context` tokens, at most what the model has. Keys and values are in bf16, or int8."""
    per_token = config.kv_bytes_per_token(kv=kv)
    return MemoryNeed(weight_bytes, per_token * min(context, config.max_position_embeddings))


def weight_bytes(config: ModelConfig, format: DenseFormat, dense: DenseFormat = DEFAULT_DENSE) -> int:
    """Bytes of the weights in memory: experts in `format`, projections and embedding in `dense`; all in bf16 for that.

    What is never quantized (router, norms, convolutions, scales, biases) is float32 in memory.
    """
    return loaded_bytes(packed_as(config, format, dense))


def packed_as(config: ModelConfig, format: DenseFormat, dense: DenseFormat = DEFAULT_DENSE) -> ModelConfig:
    """The same model with its weights in other formats; see `weight_bytes`."""
    packing = None if format == FLOAT else Quantization(format, None if dense == FLOAT else dense, None, is_ours=True)
    return replace(config, quantization=packing)


def loaded_bytes(config: ModelConfig, bytes_per_value: int = 2) -> int:
    """Bytes of the weights in memory, packed as the configuration says. bytes_per_value: of matrices that are not."""
    return int(sum(_bits(config, parameter, bytes_per_value) for parameter in parameters(config)) / 8)


def expert_bytes(config: ModelConfig, bytes_per_value: int = 2) -> int:
    """Bytes of the experts of one layer; all layers have the same. See `loaded_bytes`."""
    first = [one for one in parameters(config) if one.name.startswith("model.layers.0.mlp.experts.")]
    return int(sum(_bits(config, parameter, bytes_per_value) for parameter in first) / 8)


def _bits(config: ModelConfig, parameter: Parameter, bytes_per_value: int) -> float:
    packed = config.quantization and config.quantization.format_of(parameter.name)
    as_float = 8 * bytes_per_value if _MATRICES.format_of(parameter.name) else 32
    return math.prod(parameter.shape) * (bits_of(packed) if packed else as_float)


def longest_context(config: ModelConfig, weight_bytes: int, memory: int, kv: KVFormat = "auto") -> int:
    """Tokens whose keys and values fit into `memory` bytes beside the weights, in steps of 1,024; 0 for none."""
    left = memory - weight_bytes - WORKSPACE_BYTES
    tokens = max(0, left) // config.kv_bytes_per_token(kv=kv) // 1024 * 1024
    return min(tokens, config.max_position_embeddings)
