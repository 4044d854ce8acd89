"""The router: which expert a token goes to, with a state that is handed from layer to layer.

The state belongs to one token and flows through the layers of one forward pass. It never enters the cache.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from zaya_core.model.norm import RMSNorm


class Router:
    """Top-1 choice among E experts and a skip class (reference: `ZayaRouter`, `ZayaRouterMLP`).

    The choice is argmax(softmax + balancing_biases); the weight is the softmax entry without the bias, not
    renormalised.
    Dtype: float32 throughout, since a rounded probability can flip the choice and with it the whole layer.
    """

    def __init__(self, tensors: dict[str, Tensor], rms_norm_eps: float):
        """tensors: the names below `mlp.gate.`; `router_states_scale` is absent in the first layer."""
        float32 = {name: tensor.float() for name, tensor in tensors.items()}
        self.down_proj = float32["down_proj.weight"], float32["down_proj.bias"]
        self.router_states_scale = float32.get("router_states_scale")
        self.norm = RMSNorm(float32["router_mlp.norm.weight"], rms_norm_eps)
        self.fc1 = float32["router_mlp.fc1.weight"], float32["router_mlp.fc1.bias"]
        self.fc2 = float32["router_mlp.fc2.weight"], float32["router_mlp.fc2.bias"]
        self.out_proj = float32["router_mlp.out_proj.weight"]
        self.balancing_biases = float32["balancing_biases"]
        self.num_experts = len(self.balancing_biases) - 1
        self.can_skip = skip_can_win(self.balancing_biases)
        self.nbytes = sum(tensor.nbytes for tensor in float32.values())

    def __call__(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Choose an expert for each row.

        Shapes: x (N, D), state (N, R) of the layer before or None -> choice (N) with E meaning skip, weight (N),
        state (N, R).
        """
        state = self._next_state(x, state)
        hidden = F.gelu(F.linear(self.norm(state), *self.fc1))  # exact (erf), not the tanh approximation
        hidden = F.gelu(F.linear(hidden, *self.fc2))
        probabilities = torch.softmax(F.linear(hidden, self.out_proj), dim=-1)  # (N, E + 1)
        choice = (probabilities + self.balancing_biases).argmax(dim=-1)
        weight = probabilities.gather(1, choice[:, None])[:, 0]
        return choice, weight, state

    def _next_state(self, x: Tensor, state: Tensor | None) -> Tensor:
        own = F.linear(x, *self.down_proj)
        if self.router_states_scale is None or state is None:
            return own
        return torch.addcmul(own, state, self.router_states_scale)


def skip_can_win(balancing_biases: Tensor) -> bool:
    """Whether the skip class (the last one) can be the choice for any probabilities.

    p_skip <= 1, so with a bias <= -1 it reaches at most 0, which an expert with a bias >= 0 always matches, and argmax
    takes the first of equals.
    """
    return not (balancing_biases[-1] <= -1.0 and balancing_biases[:-1].max() >= 0.0)
