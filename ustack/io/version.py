"""Which ustack this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def ustack_version() -> str:
    """The installed version, "unknown" when run from a tree that is not installed."""
    try:
        return version("ustack")
    except PackageNotFoundError:
        return "unknown"
