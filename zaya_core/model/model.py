"""ZAYA, top down: ids -> embed -> [project, attend, mix] x L around a float32 residual stream -> logits.

Reference: `ZayaForCausalLM`. What each step is, is spelled out in `layer.py`; who computes it, `kernels/` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from quant.kernels.pointers import described
from zaya_core.cache.cache import Cache
from zaya_core.cache.layout import CacheLayout
from zaya_core.cache.states import RowStates
from zaya_core.cache.step import CacheStep
from zaya_core.config.model_config import ModelConfig
from zaya_core.model.forward_pass import ForwardPass
from zaya_core.model.rope import RotaryEmbedding
from zaya_core.model.steps import Steps

# Tokens of a long prompt that are computed together: they share one pass over the weights of all experts. More hardly
# gain and make rows that are being answered wait (docs/lab/2026-11-cpu.md).
PREFILL_CHUNK = 1024
_VISITED = 64  # tokens whose logits are visited at once: of ZAYA1-8B's vocabulary 67 MB


class Cancelled(Exception):
    """A forward pass was asked to stop between two layers; its cache is as before the pass."""


@dataclass(frozen=True)
class ZayaModel:
    """A loaded model. `layout`: of what rows keep; its dtype is that of activations. `steps`: who computes; `states`:
    who keeps what rows have that are not an Engine's; `notes`: what a person should know of the files."""

    config: ModelConfig
    layout: CacheLayout
    rotary: Mapping[str, RotaryEmbedding]
    steps: Steps
    states: RowStates
    placement_reason: str
    notes: tuple[str, ...]

    @property
    def device(self) -> torch.device:
        return self.layout.device

    @property
    def dtype(self) -> torch.dtype:
        return self.layout.dtype

    def new_cache(self, batch_size: int = 1) -> Cache:
        """An empty cache of `batch_size` rows, at least 1, on the model's device. Raises ValueError."""
        return Cache.empty(self.states, batch_size)

    @torch.inference_mode()
    def __call__(
        self,
        ids: Tensor,
        cache: Cache | None = None,
        lengths: Sequence[int] | Tensor | None = None,
        last_only: bool = False,
        should_stop: Callable[[], bool] = lambda: False,
        is_prompt: bool = False,
        visit: Callable[[int, Tensor], None] | None = None,
    ) -> Tensor:
        """Logits of the next token after each of `ids`.

        Shapes: ids (B, T) int64 or int32 -> (B, T, V) float32, or (B, 1, V) with `last_only`: those after each row's
        last real token. lengths (B): rows shorter than T, down to 0 (with `last_only` 1) tokens, are padded on the
        right with any id.
        is_prompt: these are a prompt's tokens. One token a row is otherwise taken for a step of decoding, whose kernels
        round differently: with it, the bits of a prompt do not depend on where it was cut (native kernels).
        visit: is called with a column and the logits (B, n, V) of n columns from there on, for all columns of a prompt
        in turn: few at a time, where those of all would not fit into memory. What it raises, the pass raises.
        State: `cache`, which this model or its Engine made, is moved on by each row's length. Without one this is a
        plain forward pass.
        Raises: ValueError for arguments of other shapes, dtypes or sizes, or the cache of another model; IndexError for
        an id that the vocabulary does not have; Cancelled when `should_stop()` is true between two layers of a prompt,
        or before one token. The cache is then unchanged.
        """
        self._expect_ids(ids)
        cache = cache if cache is not None else self.new_cache(len(ids))
        self._expect_cache(cache, len(ids))
        with CacheStep.begin(cache, ids.shape[1], lengths) as step:
            if last_only and 0 in step.new_lengths:
                raise ValueError("with last_only each row needs a token; lengths has a 0")
            if should_stop():
                raise Cancelled
            ids, pass_ = ids.long(), ForwardPass(self.config, self.rotary, step)
            decoded = None if is_prompt or visit is not None else self.steps.decode(ids, pass_)
            if decoded is not None:
                return decoded[0]
            residual = self._run(ids, pass_, should_stop)
            if visit is not None:
                for column in range(0, ids.shape[1], _VISITED):
                    visit(column, self.steps.logits(residual[:, column : column + _VISITED].contiguous()))
            if last_only:
                residual = residual.flatten(0, 1)[step.last_columns][:, None]
            return self.steps.logits(residual)

    def _run(self, ids: Tensor, pass_: ForwardPass, should_stop: Callable[[], bool]) -> Tensor:
        """ids (B, T) -> the residual stream after the last layer (B, T, D)."""
        residual, router_state = self.steps.embed(ids), None
        for layer in range(self.config.num_hidden_layers):
            if layer and should_stop():
                raise Cancelled
            attended = self.steps.attend(layer, self.steps.project(layer, residual, pass_), pass_)
            residual, router_state, _ = self.steps.mix(layer, attended, residual, router_state)
        return residual

    def _expect_ids(self, ids: Tensor) -> None:
        is_tensor = isinstance(ids, Tensor) and ids.dim() == 2 and ids.numel() > 0 and ids.layout == torch.strided
        if not (is_tensor and ids.dtype in (torch.int64, torch.int32) and ids.device.type in ("cpu", self.device.type)):
            found = described(ids)
            raise ValueError(f"ids must be (B, T) int64 on {self.device}, B and T at least 1; they are {found}")

    def _expect_cache(self, cache: Cache, rows: int) -> None:
        if not isinstance(cache, Cache) or cache.pool.layout is not self.layout:
            raise ValueError("the cache is not one that this model's new_cache made")
        if cache.batch_size != rows:
            raise ValueError(f"ids have {rows} rows; the cache has {cache.batch_size}")
