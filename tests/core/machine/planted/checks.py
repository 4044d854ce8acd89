"""`zaya_core.measure.card_check` with one planted kernel, which ZAYA_PLANTED names."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import torch

from zaya_core.measure.card_check import __main__ as program
from zaya_core.measure.card_check.check import Check, largest_difference


def right(device: torch.device) -> float:
    x = torch.arange(1.0, 5.0, device=device)
    return largest_difference(x * 1.001, x)


def planted(device: torch.device) -> float:
    fault = os.environ["ZAYA_PLANTED"]
    if fault == "wrong":
        return 0.31
    if fault == "nan":
        return largest_difference(torch.tensor([1.0, torch.nan]), torch.ones(2))
    if fault == "raises":
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nhints")
    if fault == "crashes":
        sys.stderr.write("LLVM ERROR: Cannot select\n\n")
        sys.stderr.flush()
        os.abort()
    if fault == "full":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nhints")
    if fault == "full for the driver":
        raise RuntimeError("Triton Error [CUDA]: out of memory")
    if fault == "full disk":
        raise OSError(errno.ENOSPC, "No space left on device")
    return 0.0


def checks(folder: Path) -> list[Check]:
    return [Check("a product", right, 0.01), Check("the planted one", planted, 0.02)]


if __name__ == "__main__":
    program._checks = checks
    program.main(["--device", "cpu", *sys.argv[3:]])
