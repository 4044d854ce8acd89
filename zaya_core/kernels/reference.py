"""The steps as the model spells them out, with torch on any device and the products of its matrices.

In float32 and without native products this is the reference of every other implementation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from quant.dense import products_of
from zaya_core.cache.states import RowStates, TensorStates
from zaya_core.model.experts import Experts
from zaya_core.model.forward_pass import ForwardPass
from zaya_core.model.host_experts import HostExperts
from zaya_core.model.steps import Qkv
from zaya_core.model.weights import ModelWeights
from zaya_core.sampling.draw import Drawn, RowDraw, Sampling, draw_rows
from zaya_core.sampling.sorted import draw_sorted


class ReferenceSteps:
    """See `zaya_core.model.steps.Steps`."""

    def __init__(self, weights: ModelWeights, sampling: Sampling, name: str, reason: str):
        self.name, self.reason = name, reason
        self._layout, self._sampling = weights.layout, sampling
        self._embedding, self._head = weights.embedding(), weights.head()
        self._layers = [weights.layer(number) for number in range(weights.config.num_hidden_layers)]
        self.empty_delayed = torch.stack([weights.empty_delayed(layer) for layer in self._layers])

    def embed(self, ids: Tensor) -> Tensor:
        """See `Steps`."""
        return self._embedding(ids)

    def project(self, layer: int, residual: Tensor, pass_: ForwardPass) -> Qkv:
        """See `Steps`."""
        with products_of(residual[..., 0].numel()):
            return self._layers[layer].project(residual, pass_)

    def attend(self, layer: int, qkv: Qkv, pass_: ForwardPass) -> Tensor:
        """See `Steps`."""
        return self._layers[layer].attend(qkv, pass_)

    def mix(
        self, layer: int, attended: Tensor, residual: Tensor, router_state: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `Steps`."""
        with products_of(residual[..., 0].numel()):
            return self._layers[layer].mix(attended, residual, router_state)

    def logits(self, residual: Tensor) -> Tensor:
        """See `Steps`."""
        with products_of(residual[..., 0].numel()):
            return self._head(residual, self._layout.dtype)

    def decode(self, ids: Tensor, pass_: ForwardPass) -> None:
        """Never: a step is computed as a prompt is."""

    def draw(self, logits: Tensor, rows: Sequence[RowDraw]) -> list[Drawn | Exception]:
        """See `Steps`."""
        return draw_rows(self._sampling, logits, rows) if logits.device.type == "cpu" else draw_sorted(logits, rows)

    def states(self, max_rows: int | None = None, max_blocks: int | None = None) -> RowStates:
        """See `Steps`."""
        return TensorStates(self._layout, self.empty_delayed, max_blocks)

    def step_bytes(self, distinct_experts: float) -> float:
        """See `Steps`."""
        experts = sum(one.nbytes_of_one for one in self._experts if not isinstance(one, HostExperts))
        fixed = sum(layer.fixed_nbytes for layer in self._layers) + self._head.lm_head.nbytes
        return fixed + distinct_experts * experts

    def host_step_bytes(self, distinct_experts: float) -> float:
        """See `Steps`."""
        return distinct_experts * sum(one.nbytes_of_one for one in self._experts if isinstance(one, HostExperts))

    @property
    def _experts(self) -> list[Experts]:
        return [layer.experts for layer in self._layers]
