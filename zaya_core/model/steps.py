"""What a device must offer to compute a ZAYA. This file knows no device.

`DecoderLayer` spells the steps of a layer out; `kernels/` has an implementation for each way of computing them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from zaya_core.cache.states import RowStates
from zaya_core.model.forward_pass import ForwardPass
from zaya_core.sampling.draw import Drawn, RowDraw


class Qkv(NamedTuple):
    """Normalised and rotated queries and keys, and values, of the new tokens: (B, T, H, K), twice (B, T, G, K)."""

    query: Tensor
    key: Tensor
    value: Tensor


class Declined(Exception):
    """An implementation cannot compute a model; the message says why."""


class Steps(Protocol):
    """The model in steps. `name`: who computes; `reason`: why this one, or why others declined.

    N = B * T. Activations are float32 or the model's dtype; residual stream, router and logits are float32.
    """

    name: str

    @property
    def reason(self) -> str:
        """As it is now."""

    def embed(self, ids: Tensor) -> Tensor:
        """ids (B, T) int64, of the host as a rule -> residual (B, T, D) float32. Raises IndexError for no row's id."""

    def project(self, layer: int, residual: Tensor, pass_: ForwardPass) -> Qkv:
        """Norm, CCA, q/k norm and rotary. residual: (B, T, D). State: notes the layer's new CCA state in the pass."""

    def attend(self, layer: int, qkv: Qkv, pass_: ForwardPass) -> Tensor:
        """Attention over the cache -> (B, T, H*K). State: appends the new keys and values."""

    def mix(
        self, layer: int, attended: Tensor, residual: Tensor, router_state: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Output projection, both merges, router and experts.

        attended: (B, T, H*K); router_state: (N, R) of the layer before, None in the first -> residual, router_state,
        choice (N) with E meaning skip. May change residual and router_state in place.
        """

    def logits(self, residual: Tensor) -> Tensor:
        """The last norm and the head. residual: (B, T, D) -> (B, T, V) float32."""

    def decode(self, ids: Tensor, pass_: ForwardPass) -> tuple[Tensor, Tensor] | None:
        """All of it at once for a pass of one token a row: logits (B, 1, V) and choices (L, B), the CCA state noted.

        None where this cannot be; nothing has been written then, and the other steps compute the pass.
        """

    def draw(self, logits: Tensor, rows: Sequence[RowDraw]) -> list[Drawn | Exception]:
        """The next token of each row, or why it has none. logits: (B, V) float32; see `zaya_core.sampling.draw`."""

    def states(self, max_rows: int | None = None, max_blocks: int | None = None) -> RowStates:
        """A new owner of rows' state.

        max_rows: most rows of one pass; snapshots, and copies that are made of a row while it runs, come on top.
        max_blocks: most blocks of keys and values. None: no bound.
        """

    def step_bytes(self, distinct_experts: float) -> float:
        """Bytes of the weights on the device that a pass reads which uses so many distinct experts in each layer."""

    def host_step_bytes(self, distinct_experts: float) -> float:
        """Likewise of weights that are in host memory although the model is on a card."""
