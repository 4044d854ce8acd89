"""The numbers that differ from step to step, in one buffer on the device that one copy fills."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

_IN_FLIGHT = 2  # steps that the host may be ahead of the device
_ALIGNED = 4  # numbers: each part begins at a multiple of 16 bytes


class RowInput(NamedTuple):
    """Of one row: its token, the token's position, the slots of its state before and behind the step, its blocks."""

    id: int
    position: int
    slot_in: int
    slot_out: int
    blocks: Sequence[int]


_PADDING = RowInput(0, -1, 0, 0, ())
_FIELDS = 4  # before the blocks


class StepInputs:
    """`ids`, `positions`, `slot_in`, `slot_out` (B) and `table` (B, blocks), int32, at fixed addresses.

    A row with the position -1 is there to fill the batch up. In `table` only a row's own blocks count.
    """

    def __init__(self, rows: int, blocks: int, device: torch.device):
        self.rows, self._blocks = rows, blocks
        self._stride = max(rows, _ALIGNED)
        size = _FIELDS * self._stride + rows * blocks
        self._numbers = torch.zeros(size, dtype=torch.int32, device=device)
        self.ids, self.positions, self.slot_in, self.slot_out = self._fields(self._numbers)
        self.table = self._numbers[_FIELDS * self._stride :].view(rows, blocks)
        self._staged = [_Staged(size, device) for _ in range(_IN_FLIGHT)]
        self._turn = 0

    def _fields(self, numbers: Tensor) -> list[Tensor]:
        starts = range(0, _FIELDS * self._stride, self._stride)
        return [numbers[start : start + self.rows] for start in starts]

    def upload(self, rows: Sequence[RowInput]) -> None:
        """Before the launches that read them, on the same stream. Raises ValueError for too many rows or blocks."""
        if len(rows) > self.rows or any(len(row.blocks) > self._blocks for row in rows):
            most = max((len(row.blocks) for row in rows), default=0)
            raise ValueError(f"{len(rows)} rows of up to {most} blocks do not fit {self.rows} of {self._blocks}")
        self._turn = (self._turn + 1) % len(self._staged)
        staged = self._staged[self._turn]
        staged.wait()
        filled = [*rows, *[_PADDING] * (self.rows - len(rows))]
        for place, numbers in enumerate(zip(*(row[:_FIELDS] for row in filled), strict=True)):
            staged.numbers[place * self._stride :][: self.rows] = numbers
        for row, blocks in enumerate(row.blocks for row in filled):
            start = _FIELDS * self._stride + row * self._blocks
            staged.numbers[start : start + len(blocks)] = blocks
        staged.copy_to(self._numbers)


class _Staged:
    """Host memory that a copy to the device may still be reading when the next step is prepared."""

    def __init__(self, size: int, device: torch.device):
        is_pinned = device.type == "cuda"
        self._tensor = torch.zeros(size, dtype=torch.int32, pin_memory=is_pinned)
        self.numbers: Any = self._tensor.numpy()
        self._copied: Any = torch.cuda.Event() if is_pinned else None

    def wait(self) -> None:
        """Until the last copy has been made."""
        if self._copied is not None:
            self._copied.synchronize()

    def copy_to(self, target: Tensor) -> None:
        """On the current stream of the target's device."""
        target.copy_(self._tensor, non_blocking=self._copied is not None)
        if self._copied is not None:
            self._copied.record(torch.cuda.current_stream(target.device))
