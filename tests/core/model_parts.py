"""The parts of a checkpoint, as those who compute a model are given them."""

from __future__ import annotations

from zaya_core.checkpoint.checkpoint import open_checkpoint
from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.load import ModelParts
from zaya_core.machine.device import choose_placement


def parts_of(folder, dtype="auto", kv="auto", device="cpu"):
    opened = ModelFolder(folder)
    checkpoint = open_checkpoint(opened)
    return ModelParts(opened.config, checkpoint, choose_placement(device, dtype, checkpoint.dtype), kv)


def layers_of(parts):
    return [parts.layer(number) for number in range(parts.config.num_hidden_layers)]
