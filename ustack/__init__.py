"""ustack: Linux's IPv4 network stack in typed Python, in user space."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ustack.io.embed import Stack

__all__ = ["Stack"]


def __getattr__(name: str) -> object:
    """``ustack.Stack``, the stack to embed; loaded when it is first asked for."""
    if name == "Stack":
        from ustack.io.embed import Stack

        return Stack
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
