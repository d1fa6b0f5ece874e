"""The congestion control algorithms of one stack by name (Linux tcp_register_congestion_control, the three sysctls)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ustack.sock import error
from ustack.tcp.congestion.bbr import Bbr
from ustack.tcp.congestion.cubic import Cubic
from ustack.tcp.congestion.hystart_plus import CubicHystartPlus
from ustack.tcp.congestion.reno import Reno

if TYPE_CHECKING:
    from ustack.tcp.congestion.base import CongestionOps


class Registry:
    """Algorithms in the order they were registered."""

    def __init__(self) -> None:
        self.algorithms: dict[str, CongestionOps] = {}
        self.allowed: set[str] = set()  #: those that anybody may choose (TCP_CONG_NON_RESTRICTED)
        for ops in (Reno(), Cubic(), Bbr()):
            self.register(ops)
        self.allowed.add("reno")
        more = CubicHystartPlus()
        self._modules: dict[str, CongestionOps] = {more.name: more}  # registered when first asked for
        self._default: CongestionOps = self.algorithms["reno"]
        self.set_default("cubic")

    def register(self, ops: CongestionOps) -> None:
        """Add one; for now only the privileged may choose it. Raises EEXIST if the name is taken."""
        if ops.name in self.algorithms:
            raise error(errno.EEXIST)
        self.algorithms[ops.name] = ops

    def find(self, name: str) -> CongestionOps:
        """By name; what is only a module yet is loaded (tcp_ca_find_autoload). Raises ENOENT, as TCP_CONGESTION."""
        module = self._modules.pop(name, None)
        if module is not None:
            self.register(module)
        ops = self.algorithms.get(name)
        if ops is None:
            raise error(errno.ENOENT)
        return ops

    def default(self) -> CongestionOps:
        """What new sockets have."""
        return self._default

    def set_default(self, name: str) -> None:
        """Make it the default, which anybody may choose (tcp_set_default_congestion_control). Raises ENOENT."""
        self._default = self.find(name)
        self.allowed.add(name)

    def set_allowed(self, names: list[str]) -> None:
        """These and no others may be chosen by anybody (tcp_set_allowed_congestion_control). Raises ENOENT."""
        for name in names:
            self.find(name)
        self.allowed = set(names)

    def shown(self, allowed_only: bool) -> str:
        """The names, with spaces between them."""
        return " ".join([name for name in self.algorithms if not allowed_only or name in self.allowed])
