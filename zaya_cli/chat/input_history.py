"""What was typed into the chat, from one start to the next."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from prompt_toolkit.history import FileHistory

from zaya_core.errors import NoLocksError
from zaya_core.files.exclusive import lock_beside, try_lock
from zaya_core.files.private_file import close_to_others, make_private_folder, write_atomically

LARGEST = 1 << 20  # bytes; the older half goes when there are more
_PATIENCE = 2.0  # seconds for which another chat may be writing


class InputHistory(FileHistory):
    """prompt_toolkit's history file: readable by its owner only, of bounded size; never the cause of an error.

    Several chats write to it in turns. Lines that begin with a space are not kept. State: `failure`, why it could not
    be read or written, None if it could.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        self.path = path
        self.failure: str | None = None
        self._exclusively(self._shorten)

    def _shorten(self) -> None:
        if self.path.stat().st_size > LARGEST:
            write_atomically(self.path, lambda new: _write_newer_half(self.path, new))

    def load_history_strings(self) -> list[str]:
        """The newest first; none if the file cannot be read."""
        try:
            return [text.replace("\x00", "") for text in super().load_history_strings()]
        except OSError as error:
            self.failure = error.strerror
            return []

    def store_string(self, string: str) -> None:
        """Append to the file, unless it begins with a space."""
        if not string.startswith(" "):
            self._exclusively(lambda: FileHistory.store_string(self, string))

    def _exclusively(self, write: Callable[[], None]) -> None:
        """Write while the file is there, is private and no other chat writes to it; failures are noted."""
        lock = None
        try:
            make_private_folder(self.path.parent)
            close_to_others(self.path.parent)
            with suppress(NoLocksError):  # no locks there: lines of two chats may mix
                lock = try_lock(lock_beside(self.path), _PATIENCE)
            os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600))
            close_to_others(self.path)
            write()
        except OSError as error:
            self.failure = error.strerror
        finally:
            if lock is not None:
                lock.release()


def _write_newer_half(old: Path, new: Path) -> None:
    content = old.read_bytes()[-LARGEST // 2 :]
    new.write_bytes(content[content.find(b"\n#") :])  # entries begin with a comment that says when
