"""The reference over rows' state in slots at fixed addresses; what decodes writes the new state into the spare ones."""

from __future__ import annotations

import torch

from zaya_core.cache.slots import SlotStates
from zaya_core.kernels.reference import ReferenceSteps


class SlotSteps(ReferenceSteps):
    """See `Steps`."""

    def states(self, max_rows=None, max_blocks=None):
        return SlotStates(self._layout, self.empty_delayed, max_rows, max_blocks)


class WritingSteps(SlotSteps):
    """See `Steps`. A token's pass is computed as others are, and leaves its state where a card's program would."""

    def decode(self, ids, pass_):
        step = pass_.step
        if ids.shape[1] > 1 or step.is_padded:
            return None
        residual, router_state, choices = self.embed(ids), None, []
        for layer in range(len(self._layers)):
            attended = self.attend(layer, self.project(layer, residual, pass_), pass_)
            residual, router_state, choice = self.mix(layer, attended, residual, router_state)
            choices.append(choice)
        states, spare = step.cache.states, step.cache.cca.spare
        states.tail[:, spare], states.delayed[:, spare] = torch.stack(step._tails), torch.stack(step._delayed)
        step._tails, step._delayed = [], []  # a program notes none
        step.states_are_written()
        return self.logits(residual), torch.stack(choices)
