"""The congestion control algorithms of one stack by name (Linux tcp_register_congestion_control)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ustack.sock import error
from ustack.tcp.congestion.reno import Reno

if TYPE_CHECKING:
    from ustack.tcp.congestion.base import CongestionOps


class Registry:
    """Algorithms in the order they were registered; the first is the default."""

    def __init__(self) -> None:
        self.algorithms: dict[str, CongestionOps] = {}
        self.register(Reno())

    def register(self, ops: CongestionOps) -> None:
        """Add one. Raises EEXIST if the name is taken."""
        if ops.name in self.algorithms:
            raise error(errno.EEXIST)
        self.algorithms[ops.name] = ops

    def find(self, name: str) -> CongestionOps:
        """By name. Raises ENOENT, as TCP_CONGESTION does."""
        ops = self.algorithms.get(name)
        if ops is None:
            raise error(errno.ENOENT)
        return ops

    def default(self) -> CongestionOps:
        return next(iter(self.algorithms.values()))
