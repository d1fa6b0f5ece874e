"""The fewest commands that still show a difference (delta debugging, Zeller's ddmin)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def shrink(commands: list[T], differs: Callable[[list[T]], bool], seconds: float = 15) -> list[T]:
    """A part of ``commands``, in order, for which ``differs`` still holds; as small as ``seconds`` allow.

    ``commands`` must differ themselves. After enough time none of what is left can be dropped alone.
    """
    until = time.monotonic() + seconds
    left = list(commands)
    size = max(len(left) // 2, 1)
    while left:
        dropped = False
        at = 0
        while at < len(left):
            if time.monotonic() > until:
                return left
            rest = left[:at] + left[at + size :]
            if differs(rest):
                left, dropped = rest, True
            else:
                at += size
        if size == 1 and not dropped:
            return left
        size = max(size // 2, 1)
    return left
