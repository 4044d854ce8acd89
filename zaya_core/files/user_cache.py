"""Where this program keeps what it can find out again."""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_cache_path


def user_cache() -> Path:
    """`$XDG_CACHE_HOME/zaya`, or its like on other systems. May not exist."""
    return user_cache_path("zaya", appauthor=False)
