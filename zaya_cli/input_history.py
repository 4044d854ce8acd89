"""What was typed into the chat, from one start to the next."""

from __future__ import annotations

import os
from pathlib import Path

from prompt_toolkit.history import FileHistory

from zaya_cli.user_files import make_private_folder, write_atomically

LARGEST = 1 << 20  # bytes; the older half goes when there are more


class InputHistory(FileHistory):
    """prompt_toolkit's history file: readable by its owner only, of bounded size; never the cause of an error.

    Lines that begin with a space are not kept. State: `failure`, why it could not be read or written, None if it could.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        self.failure: str | None = None
        try:
            make_private_folder(path.parent)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            path.chmod(0o600)
            if path.stat().st_size > LARGEST:
                write_atomically(path, lambda new: _write_newer_half(path, new))
        except OSError as error:
            self.failure = error.strerror

    def load_history_strings(self) -> list[str]:
        """The newest first; none if the file cannot be read."""
        try:
            return [text.replace("\x00", "") for text in super().load_history_strings()]
        except OSError as error:
            self.failure = error.strerror
            return []

    def store_string(self, string: str) -> None:
        """Append to the file, unless it begins with a space."""
        if string.startswith(" "):
            return
        try:
            super().store_string(string)
        except OSError as error:
            self.failure = error.strerror


def _write_newer_half(old: Path, new: Path) -> None:
    content = old.read_bytes()[-LARGEST // 2 :]
    new.write_bytes(content[content.find(b"\n#") :])  # entries begin with a comment that says when
