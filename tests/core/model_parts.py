"""The parts of a checkpoint, as those who compute a model are given them."""

from __future__ import annotations

from zaya_core.checkpoint.checkpoint import open_checkpoint
from zaya_core.config.model_config import read_config
from zaya_core.load import ModelParts
from zaya_core.machine.device import choose_placement


def parts_of(folder, dtype="auto", kv="auto"):
    checkpoint = open_checkpoint(folder, config := read_config(folder))
    return ModelParts(config, checkpoint, choose_placement("cpu", dtype, checkpoint.dtype), kv)


def layers_of(parts):
    return [parts.layer(number) for number in range(parts.config.num_hidden_layers)]
