"""The person's own files: where they lie, and how they are written so that no crash and no full disk harms them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_config_path, user_data_path, user_state_path

CONFIG_VARIABLE = "ZAYA_CONFIG"
_APPLICATION = "zaya"


def config_file() -> Path:
    """`$ZAYA_CONFIG`, else `$XDG_CONFIG_HOME/zaya/config.toml`, or its like on other systems. May not exist."""
    named = os.environ.get(CONFIG_VARIABLE)
    return Path(named).expanduser() if named else user_config_path(_APPLICATION, appauthor=False) / "config.toml"


def quantized_models() -> Path:
    """The folder of quantized models: `$XDG_DATA_HOME/zaya/models`, or its like on other systems."""
    return user_data_path(_APPLICATION, appauthor=False) / "models"


def history_file() -> Path:
    """What was typed into the chat: `$XDG_STATE_HOME/zaya/history`, or its like on other systems."""
    return user_state_path(_APPLICATION, appauthor=False) / "history"


def sessions_folder() -> Path:
    """Saved conversations: `$XDG_DATA_HOME/zaya/sessions`, or its like on other systems."""
    return user_data_path(_APPLICATION, appauthor=False) / "sessions"


def make_private_folder(folder: Path) -> None:
    """Create a folder that nobody else may look into, and those above it. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` make a file of mode 0600, then put it in place of `path` in one step.

    Whatever happens, `path` is the old file or the whole new one. Raises what `write` raises, and OSError.
    """
    make_private_folder(path.parent)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o600)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
