"""A model that does nothing but read its cache: its logits are a function of all ids that it finds there.

Fast, exact in any batch and chunk, and whatever a pool mixes up, forgets or shares wrongly changes a text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import torch
from torch import Tensor

from zaya_core.cache.cache import Cache
from zaya_core.cache.layout import CacheLayout
from zaya_core.cache.states import TensorStates
from zaya_core.cache.step import CacheStep
from zaya_core.kernels.resolve import resolve_sampling
from zaya_core.sampling.draw import Drawn, RowDraw, draw_rows

_MODULUS = 65_521  # sums stay exact in float32
_BANK = 997


class ReadingModel:
    """In place of `ZayaModel`. K holds the ids, V their positions, `delayed` a checksum of all that came before."""

    def __init__(self, vocab_size: int, context: int = 4096):
        self.config = SimpleNamespace(vocab_size=vocab_size, max_position_embeddings=context)
        self.device = torch.device("cpu")
        self.layout = CacheLayout(1, 1, 2, 1, 1, torch.float32, self.device)
        self.steps = self  # its own
        self._bank = torch.randn(_BANK, vocab_size, generator=torch.Generator().manual_seed(0))
        self.passes = 0

    def states(self, max_rows: int | None = None, max_blocks: int | None = None) -> TensorStates:
        return TensorStates(self.layout, torch.zeros(1, 1), max_blocks)

    def draw(self, logits: Tensor, rows: Sequence[RowDraw]) -> list[Drawn | Exception]:
        return draw_rows(resolve_sampling(self.device), logits, rows)

    def __call__(
        self,
        ids: Tensor,
        cache: Cache,
        last_only: bool = False,
        should_stop: Callable[[], bool] | None = None,
        is_prompt: bool = False,
        visit: Callable[[int, Tensor], None] | None = None,
    ) -> Tensor:
        self.passes += 1
        with CacheStep.begin(cache, ids.shape[1]) as step:
            positions = step.positions.expand(ids.shape)
            keys, values = (x[:, :, None, None].expand(-1, -1, 1, 2).float() for x in (ids, positions))
            step.store(0, keys, values)
            keys, values = step.gather(0, slice(0, len(ids)))
            new = [*zip(step.delayed(0)[:, 0], ids, positions, strict=True)]
            checksums = [_checksum(int(old), *row) for old, *row in new]
            if visit is not None:
                old, *row = new[0]
                for column in range(ids.shape[1]):
                    checksum = _checksum(int(old), *(one[: column + 1] for one in row))
                    total = step.totals[0] - ids.shape[1] + column + 1
                    visit(column, self._read(keys[0], values[0], total, checksum)[None, None])
            logits = [self._read(*found) for found in zip(keys, values, step.totals, checksums, strict=True)]
            step.replace_state(ids[:, -1:, None].float(), torch.tensor(checksums, dtype=torch.float32)[:, None])
            return torch.stack(logits)[:, None]

    def _read(self, keys: Tensor, values: Tensor, total: int, checksum: int) -> Tensor:
        """Logits (V) of a row: of its ids, whether their positions are right, and whether its state is theirs."""
        found, places = keys[:total, 0, 0].long(), values[:total, 0, 0].long()
        is_whole = torch.equal(places, torch.arange(total)) and _checksum(0, found, places) == checksum
        return self._bank[checksum % _BANK if is_whole else 0]


def _checksum(start: int, ids: Tensor, positions: Tensor) -> int:
    return (start + int(((ids + 1) * (7 * positions + 13)).sum())) % _MODULUS
