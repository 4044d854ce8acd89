"""Which experts a model chooses, seen from the side while it computes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from zaya_core.model.forward_pass import ForwardPass
from zaya_core.model.steps import Steps


class ChoiceRecorder:
    """Steps that note what the routers chose. State: `choices`, of each pass and layer (N), E meaning skip."""

    def __init__(self, steps: Steps):
        self._steps = steps
        self.choices: list[Tensor] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._steps, name)

    def mix(
        self, layer: int, attended: Tensor, residual: Tensor, router_state: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `Steps`."""
        mixed = self._steps.mix(layer, attended, residual, router_state)
        self.choices.append(mixed[2])
        return mixed

    def decode(self, ids: Tensor, pass_: ForwardPass) -> tuple[Tensor, Tensor] | None:
        """See `Steps`."""
        decoded = self._steps.decode(ids, pass_)
        if decoded is not None:
            self.choices += decoded[1]
        return decoded

    @property
    def distinct_experts(self) -> float:
        """The mean over layers and passes."""
        return sum(len(one.unique()) for one in self.choices) / len(self.choices) if self.choices else 0.0
