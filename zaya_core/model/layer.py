"""One decoder layer (reference: `ZayaDecoderLayer`), cut where a device may compute it by other means.

project: norm, CCA, q/k norm, rotary; attend: over the cache's keys and values; mix: o_proj, merges, router, experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quant.matrix import Matrix
from zaya_core.model.attention import attend_to_cache
from zaya_core.model.cca import CCAProjection
from zaya_core.model.experts import Experts
from zaya_core.model.forward_pass import ForwardPass
from zaya_core.model.norm import QKNorm, RMSNorm
from zaya_core.model.residual import ResidualScaling
from zaya_core.model.rope import rotate
from zaya_core.model.router import Router
from zaya_core.model.steps import Qkv


@dataclass(frozen=True)
class DecoderLayer:
    """The parts of a layer, and the layer spelled out with them. `number`: whose part of the cache is this layer's.

    dtype: that of activations, K and V; residual stream, norms and router are float32.
    """

    number: int
    layer_type: str
    dtype: torch.dtype
    input_layernorm: RMSNorm
    qkv_proj: CCAProjection
    qk_norm: QKNorm
    o_proj: Matrix
    post_attention_residual_scale: ResidualScaling
    post_attention_layernorm: RMSNorm
    router: Router
    experts: Experts
    post_mlp_residual_scale: ResidualScaling

    def project(self, residual: Tensor, pass_: ForwardPass) -> Qkv:
        """See `Steps.project`."""
        x = self.input_layernorm(residual).to(self.dtype)
        qk, value = self.qkv_proj(x, pass_.step, self.number)
        qk = rotate(self.qk_norm(qk), *pass_.inputs(self.number).angles).to(self.dtype)
        heads = self.qkv_proj.num_attention_heads
        return Qkv(qk[:, :, :heads], qk[:, :, heads:], value)

    def attend(self, qkv: Qkv, pass_: ForwardPass) -> Tensor:
        """See `Steps.attend`."""
        pass_.step.store(self.number, qkv.key, qkv.value)
        return attend_to_cache(qkv.query, pass_, self.number).flatten(2)

    def mix(self, attended: Tensor, residual: Tensor, router_state: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """See `Steps.mix`."""
        residual = self.post_attention_residual_scale(self.o_proj.matmul(attended), residual)
        normed = self.post_attention_layernorm(residual).flatten(0, 1)  # (N, D) float32
        choice, weight, router_state = self.router(normed, router_state)
        branch = self.experts(normed.to(self.dtype), choice, weight, self.router.can_skip)
        return self.post_mlp_residual_scale(branch.view_as(residual), residual), router_state, choice

    def __call__(
        self, residual: Tensor, router_state: Tensor | None, pass_: ForwardPass
    ) -> tuple[Tensor, Tensor, Tensor]:
        """residual: (B, T, D) float32, router_state: (N, R) of the layer before -> both after this one, choice (N)."""
        return self.mix(self.attend(self.project(residual, pass_), pass_), residual, router_state)

    @property
    def fixed_nbytes(self) -> int:
        """Bytes of the large weights that every pass reads; norms, vectors and experts are not among them."""
        cca = self.qkv_proj
        matrices = (*cca.matrices, self.o_proj)
        return sum(matrix.nbytes for matrix in matrices) + cca.convolutions.nbytes + self.router.nbytes
