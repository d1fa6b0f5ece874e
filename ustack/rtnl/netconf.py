"""Settings that are told of when they change (Linux net/ipv4/devinet.c: inet_netconf_notify_devconf)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ustack.rtnl.handler import Handler
from ustack.rtnl.messages import GetSysctl, Netconf

if TYPE_CHECKING:
    from ustack.rtnl.sysctl import SysctlService


class NetconfHandler(Handler[Netconf]):
    """To be watched; sysctl is how they are asked for and set."""

    def __init__(self, sysctl: SysctlService) -> None:
        self.sysctl: SysctlService = sysctl

    def fill(self, name: str) -> Netconf:
        return Netconf(name=name, value=self.sysctl.get(GetSysctl(name)).values.get(name, ""))
