"""The parameters of the model, and the tensors of a checkpoint that each is stored in, as data.

The names of the native layout are the names of this program.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass

from quant.formats import FORMATS, Format, StoredTensor, stored_tensors
from zaya_core.checkpoint.native_shapes import native_shapes
from zaya_core.checkpoint.original_names import EXPERT_STACKS, original_names
from zaya_core.config.model_config import ModelConfig


@dataclass(frozen=True)
class Parameter:
    """One parameter of the model and where the checkpoint keeps it.

    `shape` is the native one. `sources` are the checkpoint's names, each of `source_shape`: one name with the native
    shape, or for a stack of experts in the original layout one matrix for each expert.
    """

    name: str
    shape: tuple[int, ...]
    sources: tuple[str, ...]
    source_shape: tuple[int, ...]


@dataclass(frozen=True)
class PackedParameter:
    """One parameter that is stored packed: its format, and by suffix the name and shape of each tensor."""

    name: str
    shape: tuple[int, ...]
    kind: Format
    sources: Mapping[str, str]
    stored: Mapping[str, StoredTensor]


def packed_parameters(config: ModelConfig, names: Container[str]) -> dict[str, PackedParameter]:
    """The parameters that are stored packed, by name. names: those in the files, to find out how they are spelled.

    Raises ValueError where a matrix has a number of inputs that the format cannot group.
    """
    found = {}
    for name, shape in native_shapes(config):
        kind = None if config.quantization is None else config.quantization.format_of(name)
        if kind is not None:
            stored = stored_tensors(kind, shape)
            sources = {suffix: _spelling(name, kind, suffix, names) for suffix in stored}
            found[name] = PackedParameter(name, shape, kind, sources, stored)
    return found


def _spelling(name: str, kind: Format, suffix: str, names: Container[str]) -> str:
    """The first spelling that is in the files, else the usual one. Only other programs spell in several ways."""
    patterns = FORMATS[kind].spellings.get(suffix, (f"{{}}.{suffix}",))
    spellings = [pattern.format(name) for pattern in patterns]
    return next((spelling for spelling in spellings if spelling in names), spellings[0])


def expected_tensors(config: ModelConfig, names: Container[str]) -> dict[str, StoredTensor]:
    """Every tensor that the files must hold, by its name there."""
    import torch  # here, because the names and shapes alone do not need it

    floats = (torch.bfloat16, torch.float32)
    packed = packed_parameters(config, names)
    found = {}
    for parameter in parameters(config):
        if parameter.name in packed:
            one = packed[parameter.name]
            found.update({one.sources[suffix]: stored for suffix, stored in one.stored.items()})
        else:
            found.update({source: StoredTensor(parameter.source_shape, floats) for source in parameter.sources})
    return found


def parameters(config: ModelConfig) -> list[Parameter]:
    """All parameters of the model, with the names that a checkpoint of floats has.

    A quantized folder has native names, whatever the layout of its source was.
    """
    has_native_names = config.layout == "native" or config.quantization is not None
    found = []
    for name, shape in native_shapes(config):
        if has_native_names:
            found.append(Parameter(name, shape, (name,), shape))
        else:
            one_each = name.endswith(tuple(EXPERT_STACKS))
            found.append(Parameter(name, shape, original_names(name, config), shape[1:] if one_each else shape))
    return found
