"""Kernels on a simulated card: Triton's interpreter computes on what its tensors hold, and a graph records launches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from unittest import mock

import torch

from quant.kernels.triton.launch import Launch, tell
from tests.gpu.simulated_card import SimulatedTensor


@dataclass
class Kernels:
    """State: how often the host launched each kernel, with which constants, and how often a graph was replayed."""

    launches: Counter[str] = field(default_factory=Counter)
    variants: set[tuple[str, frozenset[tuple[str, object]]]] = field(default_factory=set)
    replays: int = 0
    recording: SimulatedGraph | None = None


class SimulatedGraph:
    """See `torch.cuda.CUDAGraph`. State: the launches that were recorded."""

    kernels: Kernels

    def __init__(self):
        self.launches: list[Launch] = []

    def replay(self):
        """Run them."""
        self.kernels.replays += 1
        for launch in self.launches:
            _run(launch)


class _Event:
    def record(self, stream=None):
        pass

    def synchronize(self):
        pass


def _run(launch):
    arguments = tuple(one.held if isinstance(one, SimulatedTensor) else one for one in launch.arguments)
    tensors = [one for one in launch.arguments if isinstance(one, torch.Tensor)]
    assert all(isinstance(one, SimulatedTensor) for one in tensors), f"{launch.name} is given a tensor of the host"
    launch.kernel[launch.grid](*arguments, **launch.options)


@contextmanager
def simulated_kernels() -> Iterator[Kernels]:
    """Within `simulated_cards`."""
    kernels = Kernels()

    def run(launch):
        if kernels.recording is not None:
            kernels.recording.launches.append(launch)
            return
        kernels.launches[launch.name] += 1
        kernels.variants.add((launch.name, frozenset(launch.options.items())))
        tell(launch.name)
        _run(launch)

    @contextmanager
    def recorded(graph, stream, capture_error_mode):
        kernels.recording = graph
        try:
            yield
        finally:
            kernels.recording = None

    class Graph(SimulatedGraph):
        pass

    Graph.kernels = kernels
    says = {
        "CUDAGraph": Graph,
        "graph": recorded,
        "device": lambda device: nullcontext(),
        "Event": _Event,
        "current_stream": lambda device=None: None,
        "Stream": lambda device: None,
        "stream": lambda stream: nullcontext(),
    }
    with ExitStack() as stack:
        for name, does in says.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, does))
        stack.enter_context(mock.patch.object(torch.Tensor, "pin_memory", lambda self: self))
        stack.enter_context(mock.patch.object(Launch, "run", run))
        yield kernels
