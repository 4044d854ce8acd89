"""Large memory pages for weights, keys and values, where the system has them.

A step reads all of them once: with pages of 4 KB a good part of its time goes into looking up where they are.
"""

from __future__ import annotations

import ctypes
import math
import mmap
from functools import cache
from threading import Lock

import torch
from torch import Tensor

LEAST = 1 << 20  # bytes; less is not worth a call
SHARED = 4 << 20  # bytes; less is for the greater part in no large page of its own
_CHUNK, _LINE = 64 << 20, 64  # bytes of what small tensors share, and of a cache line, which each begins at
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
    return prefer_large_pages(torch.frombuffer(_new_memory(nbytes), dtype=dtype).view(shape))


def share_large_pages(tensor: Tensor) -> Tensor:
    """A copy of a small tensor on a CPU, beside those copied before it; of any other, and elsewhere, the tensor itself.

    Their memory is given back when nothing in the same 64 MB is in use any more. Raises MemoryError.
    """
    if _ADVICE is None or tensor.device.type != "cpu" or not 0 < tensor.nbytes < SHARED:
        return tensor
    return _shared.take(tensor.shape, tensor.dtype).copy_(tensor)


class _SharedPages:
    """State: the memory that small tensors are put in, one after the other, and how much of it is taken."""

    def __init__(self) -> None:
        self._memory: mmap.mmap | None = None
        self._taken = 0
        self._lock = Lock()

    def take(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """A new tensor."""
        nbytes = shape.numel() * dtype.itemsize
        with self._lock:
            if self._memory is None or self._taken + nbytes > _CHUNK:
                self._memory, self._taken = _new_memory(_CHUNK), 0
                prefer_large_pages(torch.frombuffer(self._memory, dtype=torch.uint8))
            begin, self._taken = self._taken, self._taken + -(-nbytes // _LINE) * _LINE
            return torch.frombuffer(self._memory, dtype=dtype, offset=begin, count=shape.numel()).view(shape)


_shared = _SharedPages()


def _new_memory(nbytes: int) -> mmap.mmap:
    try:
        return mmap.mmap(-1, nbytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:  # what torch says in a RuntimeError
        raise MemoryError(f"{nbytes / 2**30:.1f} GiB could not be had") from error


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
