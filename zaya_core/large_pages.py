"""Large memory pages for weights, keys and values, where the system has them.

A step reads all of them once: with pages of 4 KB a good part of its time goes into looking up where they are.
"""

from __future__ import annotations

import ctypes
import math
import mmap
from functools import cache

import torch
from torch import Tensor

LEAST = 1 << 20  # bytes; less is not worth a call
_ADVICE = getattr(mmap, "MADV_HUGEPAGE", None)  # Linux only


def prefer_large_pages(tensor: Tensor) -> Tensor:
    """Ask the system to keep a tensor on a CPU, mapped or not, in large pages from when it is first touched.

    A request that is refused changes nothing. Files come in large pages where the file system has them (ext4 and XFS of
    recent Linux do) and the cache does not hold the file in small ones yet.
    """
    if _ADVICE is not None and tensor.device.type == "cpu" and tensor.nbytes >= LEAST:
        begin = tensor.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
        _libc().madvise(ctypes.c_void_p(begin), ctypes.c_size_t(tensor.data_ptr() + tensor.nbytes - begin), _ADVICE)
    return tensor


def zeros_in_large_pages(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros, on a CPU in memory that nothing has used: what the allocator gives again is in small pages and stays so.

    Raises MemoryError.
    """
    nbytes = math.prod(shape) * dtype.itemsize
    if _ADVICE is None or device.type != "cpu" or nbytes < LEAST:
        return torch.zeros(shape, dtype=dtype, device=device)
    try:
        memory = mmap.mmap(-1, nbytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:  # what torch says in a RuntimeError
        raise MemoryError(f"{nbytes / 2**30:.1f} GiB could not be had") from error
    return prefer_large_pages(torch.frombuffer(memory, dtype=dtype).view(shape))


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
