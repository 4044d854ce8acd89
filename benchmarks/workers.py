"""Processes that stay loaded and measure one thing at a time when they are told to: how sides are alternated.

One line of JSON in, one line of JSON out. Whoever is not asked waits for its next line and computes nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import IO, Any

import psutil

_SETTLE_SECONDS = 0.5  # threads of OpenMP libraries go on spinning for a moment when their work is done

Answer = Callable[[dict[str, Any]], dict[str, Any]]


class Worker:
    """A process that answers questions. A context manager: it ends with the block.

    State: `idle_seconds`, processor time that it has used while it was not asked.
    """

    def __init__(self, module: str, arguments: Sequence[str]):
        command = [sys.executable, "-m", module, *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._used = self.idle_seconds = 0.0
        self.facts = self._read()

    def ask(self, **question: Any) -> dict[str, Any]:
        """What it answers. Raises RuntimeError when it has ended instead."""
        self.idle_seconds += self._cpu_seconds() - self._used
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the reading says what happened
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            words = " ".join(map(str, self._process.args))  # type: ignore[arg-type]
            raise RuntimeError(f"{words} ended with exit code {self._process.wait()}; its own words are above.")
        time.sleep(_SETTLE_SECONDS)
        self._used = self._cpu_seconds()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def resident_bytes(self) -> int:
        """Memory that it holds now; pages of mapped files count."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def _cpu_seconds(self) -> float:
        try:
            times = psutil.Process(self._process.pid).cpu_times()
        except psutil.Error:
            return self._used
        return float(times.user + times.system)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        if kind is not None:
            self._process.terminate()
        self._process.wait()


def serve(facts: dict[str, Any], answer: Answer) -> None:
    """The other end: say `facts` when loaded, then answer until there are no more questions."""
    out = _own_stdout()
    print(json.dumps(facts), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=out, flush=True)


def _own_stdout() -> IO[str]:
    """Standard output for the answers alone; what libraries print goes to stderr."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return out
