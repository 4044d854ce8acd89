"""Weights go to a card one after the other: host memory never holds a second copy, nor more than one of them."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.core.tiny_models import BASE
from zaya_core import load
from zaya_core.checkpoint.accounting import TensorInfo
from zaya_core.checkpoint.checkpoint import Checkpoint
from zaya_core.checkpoint.dtypes import NAMES
from zaya_core.checkpoint.names import expected_tensors
from zaya_core.checkpoint.native_shapes import native_shapes
from zaya_core.config.parse import parse_config
from zaya_core.config.quantization import Quantization
from zaya_core.load import ModelParts, build_model
from zaya_core.machine.device import Placement

SIZES = {"vocab_size": 704, "hidden_size": 64, "head_dim": 16, "moe_intermediate_size": 64, "router_hidden_size": 16}
NATIVE = parse_config({"model_type": "zaya", **BASE, **SIZES, "layer_types": ["hybrid"] * 3, "num_hidden_layers": 3})
CARD = torch.device("meta")  # one that holds no numbers stands for a card
STORED = {
    "bf16": NATIVE,
    "original": replace(NATIVE, layout="original"),
    "int4": replace(NATIVE, quantization=Quantization("int4", "int8", "bfloat16", is_ours=True)),
    "fp8": replace(NATIVE, quantization=Quantization("fp8", None, None, is_ours=False)),
    "mxfp4": replace(NATIVE, quantization=Quantization("mxfp4", None, None, is_ours=False)),
}


class Mapped(bytearray):
    """Memory that a tensor lies in, as in a mapped file."""


class CountingFile:
    """Stands for an open weight file. `alive`: tensors that it gave and somebody still has; `most`: of them at once."""

    def __init__(self, expected):
        self.expected, self.alive, self.most = expected, 0, 0

    def get_tensor(self, name):
        shape, dtype = self.expected[name]
        memory = Mapped(torch.Size(shape).numel() * dtype.itemsize)
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(memory, self._left)
        return torch.frombuffer(memory, dtype=dtype).view(shape)

    def _left(self):
        self.alive -= 1


class HostCopies(TorchDispatchMode):
    """Notes the largest tensor that was made on the host and is no view.

    What goes to a card in another dtype is rounded before, in a copy that the call makes on the host.
    """

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.is_view:
            return out
        is_rounded_before = func is torch.ops.aten._to_copy.default and args[0].device.type == "cpu"
        made = [one for one in tree_leaves(out) if isinstance(one, torch.Tensor)]
        on_host = [
            one.nbytes for one in made if one.device.type == "cpu" or (is_rounded_before and one.dtype != args[0].dtype)
        ]
        self.largest = max([self.largest, *on_host])
        return out


def opened(config):
    expected = {name: (one.shape, one.dtypes[0]) for name, one in expected_tensors(config, ()).items()}
    infos = {name: TensorInfo("file", shape, NAMES[dtype]) for name, (shape, dtype) in expected.items()}
    file = CountingFile(expected)
    return Checkpoint(Path("file"), config, {"file": file}, infos), file


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("stored", STORED)
def test_one_tensor_after_the_other_goes_to_a_card(monkeypatch, stored, dtype):
    monkeypatch.setattr("zaya_core.model.router.skip_can_win", lambda biases: False)  # which reads numbers
    config = STORED[stored]
    checkpoint, file = opened(config)
    parts = ModelParts(config, checkpoint, Placement(CARD, dtype, "a card"))
    with HostCopies() as copies:
        held = [parts.embedding(), parts.head(), *(parts.layer(number) for number in range(3))]
    assert held
    assert (file.most, file.alive) == (1, 0)
    (convolution,) = {shape for name, shape in native_shapes(config) if name.endswith("conv_qk_grouped.weight")}
    small = 4 * torch.Size(convolution).numel()  # the largest that is no matrix
    assert 0 < copies.largest <= small < 2 * NATIVE.vocab_size * NATIVE.hidden_size


@pytest.mark.parametrize(
    ("device", "kept", "words"), [(CARD, 2, "; the experts of 2 of 3 layers on the CPU"), ("cpu", 0, "")]
)
def test_experts_that_stay_in_main_memory_are_handed_on_and_said(monkeypatch, device, kept, words):
    seen: list[int] = []

    def resolve_steps(parts):
        seen.append(parts.cpu_experts)
        return SimpleNamespace(states=lambda: None)

    monkeypatch.setattr(load, "resolve_steps", resolve_steps)
    placement = Placement(torch.device(device), torch.bfloat16, "there")
    model = build_model(NATIVE, opened(NATIVE)[0], placement, cpu_experts=2)
    assert (seen, model.placement_reason) == ([kept], f"there{words}")


@pytest.mark.parametrize("wanted", [-1, 4, 1.5, True, "auto"])
def test_experts_of_layers_that_a_model_does_not_have_are_refused(wanted):
    with pytest.raises(ValueError, match="cpu_experts must be a whole number from 0 to 3"):
        ModelParts(NATIVE, opened(NATIVE)[0], Placement(CARD, torch.bfloat16, ""), cpu_experts=wanted)
