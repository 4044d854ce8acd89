"""Which versions of this program and of its libraries are installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "zaya-local"  # the name `zaya` belongs to an unrelated package on the public index


def installed_version(package: str = DISTRIBUTION) -> str | None:
    """The version of an installed package, None where there is none, as in a checkout that was not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
