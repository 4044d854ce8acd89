"""Checks of interpreted kernels that a card would only answer with a wrong number or a fault.

Bounds: every address that is read or written lies in a tensor of the launch, or in one named beforehand, for tables of
addresses. Races: no address that one program writes is read or written by another of the same launch. Barriers: a
program does not write what it read, or read what it wrote, without one between, for its threads are not in step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import torch
from triton.runtime.errors import InterpreterError

_NOBODY, _SEVERAL = -1, -2


class Fault(AssertionError):
    """A kernel does what a card may not forgive."""


class _Memory:
    """Bytes from `begin` on, and who read and wrote each: programs by number, and in which stretch between barriers."""

    def __init__(self, begin, end):
        self.begin, self.end = begin, end
        self.reader, self.writer, self.read_in, self.wrote_in = np.full((4, end - begin), _NOBODY, dtype=np.int64)


class Sanitizer:
    """State: the memory that the running launch may touch, and its faults by (kernel, kind)."""

    def __init__(self, extra: Iterable[torch.Tensor]):
        self.extra = list(extra)
        self.faults: dict[tuple[str, str], str] = {}

    def begin(self, kernel, tensors):
        """A launch."""
        self.kernel, self.program, self.stretch = kernel, None, 0
        spans = sorted({_span(one) for one in (*tensors, *self.extra) if one.nbytes})
        merged: list[list[int]] = []
        for begin, end in spans:  # views of one tensor overlap
            if merged and begin <= merged[-1][1]:
                merged[-1][1] = max(end, merged[-1][1])
            else:
                merged.append([begin, end])
        self.begins = np.array([begin for begin, _ in merged], dtype=np.int64)
        self.ends = np.array([end for _, end in merged], dtype=np.int64)
        self.memories: dict[int, _Memory] = {}
        self.numbers: dict[tuple[int, ...], int] = {}

    def fault(self, kind, detail):
        """Noted; the launch goes on."""
        self.faults.setdefault((self.kernel, kind), detail)

    def barrier(self):
        """Of the running program."""
        self.stretch += 1

    def touch(self, addresses, size, program, writes):
        """Raises Fault for addresses outside."""
        if program != self.program:
            self.program, self.stretch = program, self.stretch + 1
        if not addresses.size:
            return
        at = np.searchsorted(self.begins, addresses, side="right") - 1
        outside = (at < 0) | (addresses + size > self.ends[np.maximum(at, 0)])
        if outside.any():
            what = f"out of bounds {'write' if writes else 'read'}"
            self.fault(what, f"program {program}: {int(outside.sum())} of {addresses.size}")
            raise Fault(f"{self.kernel}: {what}")
        number = self.numbers.setdefault(program, len(self.numbers))
        for span in np.unique(at):
            memory = self.memories.get(span)
            if memory is None:
                memory = self.memories[span] = _Memory(int(self.begins[span]), int(self.ends[span]))
            places = np.unique(addresses[at == span]) - memory.begin
            (self._write if writes else self._read)(memory, places, number)

    def _write(self, memory, places, number):
        if ((other := memory.writer[places]) != _NOBODY)[other != number].any():
            self.fault("two programs write", f"program {self.program}")
        reader = memory.reader[places]
        if ((reader != _NOBODY) & (reader != number)).any():
            self.fault("a program writes what another reads", f"program {self.program}")
        if (memory.read_in[places] == self.stretch).any():
            self.fault("write after read without barrier", f"program {self.program}")
        memory.writer[places], memory.wrote_in[places] = number, self.stretch

    def _read(self, memory, places, number):
        writer = memory.writer[places]
        if ((writer != _NOBODY) & (writer != number)).any():
            self.fault("a program reads what another writes", f"program {self.program}")
        if (memory.wrote_in[places] == self.stretch).any():
            self.fault("read after write without barrier", f"program {self.program}")
        reader = memory.reader[places]
        memory.reader[places] = np.where((reader == _NOBODY) | (reader == number), number, _SEVERAL)
        memory.read_in[places] = self.stretch


def _span(tensor):
    """From the first to behind the last number: the rows of a slice may lie apart."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.itemsize


@contextmanager
def sanitized(*extra: torch.Tensor) -> Iterator[Sanitizer]:
    """All launches meanwhile are watched; at the end there must be no fault. extra: tensors that tables point to."""
    sanitizer = Sanitizer(extra)
    with pytest.MonkeyPatch.context() as patch:
        _watch(sanitizer, patch)
        yield sanitizer
    assert not sanitizer.faults, sanitizer.faults


@contextmanager
def expected_fault(kind: str, *extra: torch.Tensor) -> Iterator[None]:
    """A planted fault of this kind is found."""
    sanitizer = Sanitizer(extra)
    with pytest.MonkeyPatch.context() as patch:
        _watch(sanitizer, patch)
        with suppress(InterpreterError):
            yield
    assert kind in {found for _, found in sanitizer.faults}, sanitizer.faults


def _watch(sanitizer, patch):
    from triton.runtime import interpreter

    builder, executor = interpreter.InterpreterBuilder, interpreter.GridExecutor
    load, store = builder.create_masked_load, builder.create_masked_store
    barrier, call = builder.create_barrier, executor.__call__

    def addresses(pointers, mask):
        # Of two masks at once the interpreter makes numbers, which numpy would take for places.
        lanes = np.broadcast_to(mask.data, pointers.data.shape).astype(bool)
        return pointers.data[lanes].astype(np.int64).ravel()

    def watched_load(self, pointers, mask, *rest):
        size = interpreter._get_np_dtype(pointers.get_element_ty()).itemsize
        sanitizer.touch(addresses(pointers, mask), size, interpreter.interpreter_builder.grid_idx, False)
        return load(self, pointers, mask, *rest)

    def watched_store(self, pointers, value, mask, *rest):
        size = value.data.dtype.itemsize
        sanitizer.touch(addresses(pointers, mask), size, interpreter.interpreter_builder.grid_idx, True)
        return store(self, pointers, value, mask, *rest)

    def watched_barrier(self):
        sanitizer.barrier()
        return barrier(self)

    def watched_call(self, *args, **kwargs):
        sanitizer.begin(self.fn.__name__, [one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)])
        return call(self, *args, **kwargs)

    patch.setattr(builder, "create_masked_load", watched_load)
    patch.setattr(builder, "create_masked_store", watched_store)
    patch.setattr(builder, "create_barrier", watched_barrier)
    patch.setattr(executor, "__call__", watched_call)
