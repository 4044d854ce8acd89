"""A `zaya serve` process on loopback, for programs that measure it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading

_ADDRESS = re.compile(r" is served at (http://\S+)/v1 ")
_START_SECONDS = 600


class ServerProcess:
    """Ends with the block. url: without `/v1`; err: all of stderr so far."""

    def __init__(self, model: str, *arguments: str):
        command = [sys.executable, "-m", "zaya_cli", "serve", "-m", model, "--port", "0", *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self._lines: list[str] = []
        self._read = threading.Condition()
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()
        self.url = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def err(self) -> str:
        return "".join(self._lines)

    def _follow(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._read:
                self._lines.append(line)
                self._read.notify_all()
        with self._read:
            self._lines.append("")
            self._read.notify_all()

    def __enter__(self) -> ServerProcess:
        """Wait until it is ready. Raises RuntimeError with its words when it ends instead."""
        with self._read:
            self._read.wait_for(lambda: _ADDRESS.search(self.err) or "" in self._lines, _START_SECONDS)
        found = _ADDRESS.search(self.err)
        if found is None:
            self.__exit__()
            raise RuntimeError(f"zaya serve does not start:\n{self.err}")
        self.url = found[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def stop(self, seconds: float = 60) -> int:
        """Let it drain -> its exit code; where there is no SIGTERM to wait for (Windows) it is ended, which is 0."""
        if os.name == "nt":
            self._process.kill()
            self._process.wait()
            return 0
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(seconds)
        self._reader.join()
        return code


def metric(figures: str, name: str) -> float:
    """One value of Prometheus' text. Raises ValueError when it is not there."""
    found = re.search(rf"^{name} (\S+)$", figures, re.MULTILINE)
    if found is None:
        raise ValueError(f"There is no {name}.")
    return float(found[1])
