"""One launch of a kernel on fixed tensors: made once, run as often as one likes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# The interpreter computes on a CPU with the numbers of tensors there.
IS_INTERPRETED: bool = triton.knobs.runtime.interpret
# What tl.dot multiplies. The interpreter has no bfloat16 arithmetic; of rounded numbers the products are the same.
DOT = tl.float32 if IS_INTERPRETED else tl.bfloat16

_watchers: list[Callable[[str], None]] = []


@contextmanager
def watched(note: Callable[[str], None]) -> Iterator[None]:
    """Meanwhile `note` is told the name of each kernel that the host launches, and of each graph that it replays."""
    _watchers.append(note)
    try:
        yield
    finally:
        _watchers.remove(note)


def tell(name: str) -> None:
    """Whoever watches."""
    for note in _watchers:
        note(name)


@dataclass(frozen=True)
class Launch:
    """A kernel, how many programs, its arguments in order, and its constants and options (`num_warps`) by name."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple[Tensor | int | float, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def run(self) -> None:
        """On the current device and stream. Sums are fused whatever the version of Triton takes for its default."""
        tell(self.name)
        self.kernel[self.grid](*self.arguments, **self.options, enable_fp_fusion=True)

    @property
    def name(self) -> str:
        """Of the kernel."""
        return str(self.kernel.__name__)


def run_all(launches: Iterable[Launch], device: torch.device) -> None:
    """One after the other on a device, whichever is the current one."""
    if device.type == "cpu":
        for launch in launches:
            launch.run()
        return
    with torch.cuda.device(device):
        for launch in launches:
            launch.run()


def power_of_two(number: int) -> int:
    """The least that is not below a number from 1: Triton's ranges have such lengths."""
    return int(1 << (number - 1).bit_length())
