"""How far a download is: a bar that is rewritten on a terminal, else one line for each tenth."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from zaya_cli.sizes import duration, gigabytes
from zaya_cli.terminal.output import draws


@dataclass(frozen=True)
class Counts:
    """What a download begins with."""

    total_bytes: int
    bytes_here: int
    files: int
    files_here: int


class DownloadProgress:
    """Counts bytes and files. Its methods may be called from any thread."""

    def __init__(self, console: Console, counts: Counts):
        self.console = console
        self.total = counts.total_bytes
        self.done = self._done_before = counts.bytes_here
        self.files = counts.files
        self.files_done = counts.files_here
        self._started = time.monotonic()
        self._lock = Lock()
        self._tenths = 10 * self.done // max(1, self.total)

    def add_bytes(self, count: int) -> None:
        with self._lock:
            self.done += count
            self._bytes_changed()

    def add_file(self) -> None:
        with self._lock:
            self.files_done += 1
            self._bytes_changed()

    def _bytes_changed(self) -> None:
        """One line for each tenth, however small the pieces are."""
        tenths = 10 * self.done // max(1, self.total)
        if tenths > self._tenths:
            self._tenths = tenths
            self.console.print(self.line())

    def line(self) -> str:
        seconds = max(1e-3, time.monotonic() - self._started)
        rate = max(0, self.done - self._done_before) / seconds
        left = f", {duration((self.total - self.done) / rate)} left" if rate and self.done < self.total else ""
        return (
            f"{100 * self.done // max(1, self.total):3d} %  {gigabytes(self.done)} of {gigabytes(self.total)}, "
            f"{self.files_done} of {self.files} files, {rate / 1e6:.1f} MB/s{left}"
        )


class _DrawnProgress(DownloadProgress):
    """The same as a bar."""

    def __init__(self, bar: Progress, console: Console, counts: Counts):
        super().__init__(console, counts)
        self._bar = bar
        self._task = bar.add_task("", total=self.total, completed=self.done, files=self._files())

    def _files(self) -> str:
        return f"{self.files_done} of {self.files} files"

    def _bytes_changed(self) -> None:
        self._bar.update(self._task, completed=self.done, files=self._files())


@contextmanager
def download_progress(console: Console, quiet: bool, counts: Counts) -> Iterator[DownloadProgress]:
    """A progress display for the length of the block."""
    if quiet or not draws(console):
        yield DownloadProgress(Console(quiet=True) if quiet else console, counts)
        return
    columns = (
        TextColumn("{task.fields[files]}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        yield _DrawnProgress(bar, console, counts)
