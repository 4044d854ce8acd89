"""Calibration: what the inputs of each matrix look like, measured on a text, one layer at a time.

The hidden states and router states of all tokens are carried from layer to layer, so that only one layer's weights are
needed at once. For the inputs X of each expert the matrix X^T X is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from quant.compensation import InputStatistics
from quant.dense import products_of
from quant.matrix import Matrix, Stack
from zaya_core.cache.cache import Cache
from zaya_core.cache.states import TensorStates
from zaya_core.cache.step import CacheStep
from zaya_core.checkpoint.checkpoint import Checkpoint
from zaya_core.config.model_config import ModelConfig
from zaya_core.errors import UsageError
from zaya_core.files.atomic_file import replacing
from zaya_core.load import ModelParts
from zaya_core.machine.device import Placement
from zaya_core.model.forward_pass import ForwardPass
from zaya_core.model.rope import RotaryEmbedding

BEGINS_WITH = ("model.embed_tokens.weight", "model.input_hidden_states_scale", "model.input_hidden_states_bias")
_ROWS_AT_ONCE = 4


class RecordingMatrix:
    """A matrix that notes its inputs; see `quant.matrix.Matrix`."""

    def __init__(self, matrix: Matrix, inputs: InputStatistics):
        self.matrix = matrix
        self.inputs = inputs
        self.bias = matrix.bias

    def __getattr__(self, name: str) -> object:
        return getattr(self.matrix, name)

    def matmul(self, x: Tensor) -> Tensor:
        """As the matrix itself."""
        self.inputs.add(x)
        return self.matrix.matmul(x)


class RecordingStack(Stack[Matrix]):
    """A stack that notes each expert's inputs."""

    def __init__(self, matrices: Sequence[Matrix], inputs: Sequence[InputStatistics]):
        super().__init__([RecordingMatrix(*one) for one in zip(matrices, inputs, strict=True)])  # type: ignore[misc]


class RecordingParts(ModelParts):
    """Layers whose large matrices note their inputs. `inputs`: by parameter name, one for each expert of a stack."""

    def __init__(self, config: ModelConfig, checkpoint: Checkpoint, placement: Placement, with_dense: bool):
        super().__init__(config, checkpoint, placement)
        self.with_dense = with_dense
        self.inputs: dict[str, list[InputStatistics]] = {}

    def matrix(self, name: str) -> Matrix:
        """As in `ModelParts`."""
        matrix = super().matrix(name)
        if not self.with_dense:
            return matrix
        inputs = InputStatistics(self.checkpoint.parameters[f"{name}.weight"].shape[-1])
        self.inputs[f"{name}.weight"] = [inputs]
        return RecordingMatrix(matrix, inputs)  # type: ignore[return-value]

    def stack(self, name: str, device: torch.device | None = None) -> Stack[Matrix]:
        """As in `ModelParts`."""
        stack = super().stack(name, device)
        k = self.checkpoint.parameters[name].shape[-1]
        self.inputs[name] = [InputStatistics(k) for _ in stack.matrices]
        return RecordingStack(stack.matrices, self.inputs[name])


class CalibrationRun:
    """Hidden states of the calibration text after so many layers.

    residual: (rows, T, D) float32; router_states: (rows * T, R) or None before the first layer.
    """

    def __init__(self, config: ModelConfig, residual: Tensor, router_states: Tensor | None, layers_done: int):
        self.config = config
        self.residual = residual
        self.router_states = router_states
        self.layers_done = layers_done

    @classmethod
    def begin(cls, config: ModelConfig, checkpoint: Checkpoint, ids: Tensor) -> CalibrationRun:
        """At the embedding."""
        parts = ModelParts(config, checkpoint, _placement(checkpoint))
        return cls(config, parts.embedding()(ids), None, 0)

    @classmethod
    def resume(cls, config: ModelConfig, path: Path) -> CalibrationRun:
        """From what `save` wrote."""
        tensors = load_file(path)
        return cls(config, tensors["residual"], tensors["router_states"], int(tensors["layers_done"]))

    @staticmethod
    def layers_in(path: Path) -> int | None:
        """After how many layers the state was saved; None if it was not."""
        if not path.is_file():
            return None
        with safe_open(path, framework="pt") as state:
            return int(state.get_tensor("layers_done"))

    def save(self, path: Path) -> None:
        """Write the state, as a whole or not at all."""
        assert self.router_states is not None
        states = {"residual": self.residual, "router_states": self.router_states}
        with replacing(path) as new:  # safetensors' own way leaves a file of a random name when it is killed
            new.write_bytes(save({**states, "layers_done": torch.tensor(self.layers_done)}))

    @torch.inference_mode()
    def advance(self, checkpoint: Checkpoint, with_dense: bool) -> dict[str, list[InputStatistics]]:
        """Compute one more layer; returns the inputs of its matrices. Raises UsageError where states overflow."""
        layer = self.layers_done
        parts = RecordingParts(self.config, checkpoint, _placement(checkpoint), with_dense)
        one = replace(parts.layer(layer), number=0)  # its cache holds this layer alone
        one_layer = replace(self.config, num_hidden_layers=1, layer_types=(one.layer_type,))
        layout = replace(parts.layout, num_layers=1)
        rope = RotaryEmbedding(self.config.rope_parameters[one.layer_type], self.config.head_dim, layout.device)
        router_states = []
        per_row = self.residual.shape[1]
        for start in range(0, len(self.residual), _ROWS_AT_ONCE):
            rows = self.residual[start : start + _ROWS_AT_ONCE]
            cache = Cache.empty(TensorStates(layout, parts.empty_delayed(one)[None]), len(rows))
            state = self.router_states
            state = None if state is None else state[start * per_row : (start + len(rows)) * per_row]
            with products_of(rows[..., 0].numel()), CacheStep.begin(cache, per_row) as step:
                residual, state, _ = one(rows, state, ForwardPass(one_layer, {one.layer_type: rope}, step))
            self.residual[start : start + len(rows)] = residual
            router_states.append(state)
        self.router_states = torch.cat(router_states)
        self.layers_done += 1
        if not torch.isfinite(self.residual).all():
            raise UsageError(
                f"Calibration: the hidden states after layer {layer} are not finite; use --calibrate none."
            )
        return parts.inputs

    def head_inputs(self, checkpoint: Checkpoint) -> InputStatistics:
        """The inputs of the head, after the last layer."""
        parts = ModelParts(self.config, checkpoint, _placement(checkpoint))
        inputs = InputStatistics(self.config.hidden_size)
        inputs.add(parts.rms_norm("model.norm")(self.residual))
        return inputs


def _placement(checkpoint: Checkpoint) -> Placement:
    return Placement(torch.device("cpu"), checkpoint.dtype, "calibration")
