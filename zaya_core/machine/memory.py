"""How much memory this process uses and may use."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

import psutil
import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


def keep_freed_memory() -> None:
    """Tell glibc's allocator to keep what is freed instead of giving it back to the system after every token.

    A row of logits (1 MB) is otherwise fetched and cleared page by page each time: choosing a token from it took 1.0 ms
    instead of 1.7 to 2.1 ms (`benchmarks/sampling.py`). Does nothing with another C library.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_TRIM_THRESHOLD, 1 << 30)
        libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)


def spare_the_collector() -> None:
    """Tell Python's garbage collector that all there is now, libraries and a loaded model, is there to stay.

    Looking through it again and again took 5 % of the time of a token (int4, full size).
    """
    gc.collect()
    gc.freeze()


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory that was in use at once: on the GPU for a model there, else resident in this process.

    Pages of mapped weight files count as resident while they are.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.exists():  # getrusage also counts the parent's peak from before exec
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit
