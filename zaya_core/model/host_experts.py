"""Experts that stay in host memory, for a card that is too small for all of them."""

from __future__ import annotations

import torch
from torch import Tensor

from zaya_core.model.experts import Experts


class HostExperts(Experts):
    """As `Experts`, whose inputs and outputs are on a card and whose weights are not; the products are the CPU's own.

    Inputs, choices and weights come in one copy, for which the host waits; another brings the outputs back.
    """

    def __call__(self, x: Tensor, choice: Tensor, weight: Tensor, can_skip: bool) -> Tensor:
        """See `Experts`."""
        together = torch.cat([x.float(), choice[:, None], weight[:, None]], dim=1).cpu()  # exact: bf16 and few experts
        inputs = together[:, :-2].to(x.dtype).contiguous()
        return super().__call__(inputs, together[:, -2].long(), together[:, -1], can_skip).to(x.device)
