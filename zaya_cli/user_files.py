"""Where the person's own files lie."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_config_path, user_data_path, user_state_path

from zaya_core.errors import MissingFileError
from zaya_core.files.user_cache import user_cache

CONFIG_VARIABLE = "ZAYA_CONFIG"
_APPLICATION = "zaya"


def from_home(path: str | Path) -> Path:
    """The path with `~` and `~somebody` as their home folders; as it is where there is no such person or folder."""
    return Path(os.path.expanduser(path))


def expect_current_folder() -> None:
    """Raises MissingFileError where it was removed: libraries end the program when they look for their files there."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise MissingFileError("The current folder has been removed: change to another one with `cd`.") from None


def config_file() -> Path:
    """`$ZAYA_CONFIG`, else `$XDG_CONFIG_HOME/zaya/config.toml`, or its like on other systems. May not exist."""
    named = os.environ.get(CONFIG_VARIABLE)
    return from_home(named) if named else user_config_path(_APPLICATION, appauthor=False) / "config.toml"


def quantized_models() -> Path:
    """The folder of quantized models: `$XDG_DATA_HOME/zaya/models`, or its like on other systems."""
    return user_data_path(_APPLICATION, appauthor=False) / "models"


def history_file() -> Path:
    """What was typed into the chat: `$XDG_STATE_HOME/zaya/history`, or its like on other systems."""
    return user_state_path(_APPLICATION, appauthor=False) / "history"


def sessions_folder() -> Path:
    """Saved conversations: `$XDG_DATA_HOME/zaya/sessions`, or its like on other systems."""
    return user_data_path(_APPLICATION, appauthor=False) / "sessions"


def speeds_file() -> Path:
    """What was measured of CPU and cards: `$XDG_CACHE_HOME/zaya/speeds.json`, or its like on other systems."""
    return user_cache() / "speeds.json"
