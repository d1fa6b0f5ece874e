"""Settings that are told of when they change (Linux net/ipv4/devinet.c: inet_netconf_notify_devconf)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ustack.rtnl.handler import Handler
from ustack.rtnl.messages import Netconf

if TYPE_CHECKING:
    from ustack.stack import Stack


class NetconfHandler(Handler[Netconf]):
    """To be watched; sysctl is how they are asked for and set."""

    def __init__(self, stack: Stack) -> None:
        self.stack: Stack = stack

    def fill(self, name: str) -> Netconf:
        return Netconf(name=name, value=self.stack.sysctl.get(name))
