"""Where the person's own files lie."""

from __future__ import annotations

import os
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
