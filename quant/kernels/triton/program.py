"""A flat list of launches on fixed tensors: run one by one, replayed in the interpreter, or captured as a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from quant.kernels.triton.launch import Launch, run_all, tell


class Program:
    """Launches that always run together. Whoever runs it changes only what the tensors hold.

    State: the graph, once captured. It holds on to kernels and tensors, which a replay reads where they were.
    """

    def __init__(self, launches: Sequence[Launch], device: torch.device):
        self.launches = tuple(launches)
        self.device = device
        self._graph: Any = None

    def run(self) -> None:
        """On the current stream."""
        if self._graph is None:
            run_all(self.launches, self.device)
        else:
            tell("graph")
            self._graph.replay()

    def capture(self) -> None:
        """Record the launches as a graph, and run none of them. The program has run before: all is compiled.

        Raises RuntimeError where the driver does not record them; the launches run one by one as before.
        """
        with torch.cuda.device(self.device):
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            # torch's own stream is of the first card that recorded, and stays the current one where recording fails.
            stream = torch.cuda.Stream(self.device)
            with torch.cuda.stream(stream), torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                run_all(self.launches, self.device)
        self._graph = graph

    def release(self) -> None:
        """Forget the graph: the launches run one by one again."""
        self._graph = None
