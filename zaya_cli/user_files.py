"""Where this program keeps files of the user: the XDG folders, and their counterparts on Windows."""

from __future__ import annotations

import os
import sys
from pathlib import Path

CONFIG_VARIABLE = "ZAYA_CONFIG"


def config_file() -> Path:
    """`$ZAYA_CONFIG`, else `$XDG_CONFIG_HOME/zaya/config.toml`."""
    named = os.environ.get(CONFIG_VARIABLE)
    return Path(named).expanduser() if named else _base("XDG_CONFIG_HOME", "APPDATA", "~/.config") / "config.toml"


def quantized_models() -> Path:
    """The folder of quantized models: `$XDG_DATA_HOME/zaya/models`."""
    return _base("XDG_DATA_HOME", "LOCALAPPDATA", "~/.local/share") / "models"


def _base(variable: str, windows_variable: str, default: str) -> Path:
    """XDG variables that are not absolute are to be ignored, says their specification."""
    value = os.environ.get(variable, "")
    if not os.path.isabs(value):
        value = (os.environ.get(windows_variable) if sys.platform == "win32" else None) or os.path.expanduser(default)
    return Path(value) / "zaya"
