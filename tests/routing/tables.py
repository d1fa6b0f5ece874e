"""A host's tables, rules and addresses without the floors above; shown in the words of iproute2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.routing.links import SEED, a, shown
from ustack.device.core import Devices
from ustack.device.net_device import IFF_BROADCAST, IFF_LOOPBACK, IFF_MULTICAST, Address, NetDevice
from ustack.dst import (
    RTN_BLACKHOLE,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_MULTICAST,
    RTN_PROHIBIT,
    RTN_THROW,
    RTN_UNICAST,
    RTN_UNREACHABLE,
)
from ustack.net import (
    RTM_DELADDR,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_NEWADDR,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    Net,
    RtnlWatcher,
)
from ustack.routing.devinet import InetDevices
from ustack.routing.fib_frontend import Fib
from ustack.routing.fib_rules import FibRule
from ustack.routing.fib_types import FibAlias, FibConfig, FibResult
from ustack.routing.flow import RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, Flow
from ustack.routing.uapi import (
    IFA_F_SECONDARY,
    NLM_F_CREATE,
    NLM_F_EXCL,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RTPROT_BOOT,
    RTPROT_KERNEL,
)

if TYPE_CHECKING:
    from ustack.packet import Packet

_TYPES: Final = {
    RTN_UNICAST: "unicast",
    RTN_LOCAL: "local",
    RTN_BROADCAST: "broadcast",
    RTN_MULTICAST: "multicast",
    RTN_BLACKHOLE: "blackhole",
    RTN_UNREACHABLE: "unreachable",
    RTN_PROHIBIT: "prohibit",
    RTN_THROW: "throw",
}
_PROTOCOLS: Final = {RTPROT_KERNEL: "kernel", RTPROT_BOOT: "boot"}
_SCOPES: Final = {RT_SCOPE_HOST: "host", RT_SCOPE_LINK: "link", RT_SCOPE_UNIVERSE: "global"}
_EVENTS: Final = {
    RTM_NEWADDR: "newaddr",
    RTM_DELADDR: "deladdr",
    RTM_NEWROUTE: "newroute",
    RTM_DELROUTE: "delroute",
    RTM_NEWRULE: "newrule",
    RTM_DELRULE: "delrule",
}


def address(cidr: str, peer: str = "", brd: str = "", scope: int = -1, flags: int = 0x80, metric: int = 0) -> Address:
    """As ``ip address add`` would ask for it; without a length 32 bits."""
    local, _, prefixlen = cidr.partition("/")
    at, _, length = peer.partition("/")
    return Address(
        a(local),
        int((length if peer else prefixlen) or 32),
        a(at) if peer else -1,
        a(brd) if brd else 0,
        scope,
        flags,
        metric,
    )


class Ether(NetDevice):
    """An Ethernet device that sends into the void."""

    def __init__(self, name: str, flags: int = IFF_BROADCAST | IFF_MULTICAST) -> None:
        super().__init__(name, 0x02_00_00_00_00_00)
        self.flags = flags

    def start_xmit(self, packet: Packet) -> bool:
        return True


class Events(RtnlWatcher):
    """Remembers what rtnetlink would have told."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def changed(self, event: int, what: object) -> None:
        if event in _EVENTS:
            self.seen.append(f"{_EVENTS[event]} {describe(what)}")

    def take(self) -> list[str]:
        seen, self.seen = self.seen, []
        return seen


def describe(what: object) -> str:
    if isinstance(what, Address):
        return shown_address(what)
    if isinstance(what, FibAlias):
        return shown_route(what)
    assert isinstance(what, FibRule)
    return f"{what.pref} {what.table}"


def shown_route(alias: FibAlias) -> str:
    """A line of ``ip -d route show``, without its device."""
    fi = alias.fi
    text = f"{_TYPES[int(alias.rt_type)]} {shown(alias.key)}"
    if alias.prefixlen != 32:
        text += f"/{alias.prefixlen}"
    hops = fi.nhs()
    if len(hops) == 1 and hops[0].gateway:
        text += f" via {shown(hops[0].gateway)}"
    text += f" proto {_PROTOCOLS[int(fi.protocol)]} scope {_SCOPES[int(fi.scope)]}"
    if fi.prefsrc:
        text += f" src {shown(fi.prefsrc)}"
    return text + (f" metric {fi.priority}" if fi.priority else "")


def shown_address(ifa: Address) -> str:
    """A line of ``ip address show``, from "inet" to the flags."""
    text = shown(ifa.local)
    if ifa.address != ifa.local:
        text += f" peer {shown(ifa.address)}"
    text += f"/{ifa.prefixlen}"
    if ifa.priority:
        text += f" metric {ifa.priority}"
    if ifa.broadcast:
        text += f" brd {shown(ifa.broadcast)}"
    text += f" scope {_SCOPES[int(ifa.scope)]}"
    return text + (" secondary" if ifa.flags & IFA_F_SECONDARY else "")


class Tables:
    """net, devices, fib and inet; lo with 127.0.0.1/8, a0 and a1 up and without an address."""

    def __init__(self) -> None:
        self.net = Net(SEED)
        self.devices = Devices(self.net)
        self.fib = Fib(self.net, self.devices)
        self.inet = InetDevices(self.net, self.devices, self.fib)
        self.lo = self.add_device(Ether("lo", IFF_LOOPBACK))
        self.a0 = self.add_device(Ether("a0"))
        self.a1 = self.add_device(Ether("a1"))
        self.events = Events()
        self.net.rtnl_watchers.append(self.events)

    def add_device(self, dev: Ether) -> Ether:
        self.devices.register_netdevice(dev)
        self.devices.dev_open(dev)
        return dev

    def add(self, cidr: str, dev: Ether | None = None, **given: str) -> Address:
        """ip address add CIDR dev DEV"""
        ifa = address(cidr, given.get("peer", ""), given.get("brd", ""))
        self.inet.inet_rtm_newaddr(dev or self.a0, ifa, NLM_F_CREATE | NLM_F_EXCL)
        return ifa

    def delete(self, cidr: str, dev: Ether | None = None) -> None:
        """ip address del CIDR dev DEV"""
        local, _, prefixlen = cidr.partition("/")
        self.inet.inet_rtm_deladdr(dev or self.a0, a(local), a(local), int(prefixlen))

    def route(self, cidr: str, via: str = "", dev: Ether | None = None, **given: int) -> FibConfig:
        """ip route add CIDR via VIA dev DEV; ``given``: more fields of FibConfig"""
        network, _, prefixlen = cidr.partition("/")
        cfg = FibConfig(a(network), int(prefixlen or 32))
        cfg.protocol = RTPROT_BOOT
        cfg.gateway = a(via) if via else 0
        cfg.oif = dev.ifindex if dev else 0
        cfg.scope = RT_SCOPE_UNIVERSE if via else RT_SCOPE_LINK
        cfg.nlflags = NLM_F_CREATE | NLM_F_EXCL
        for name, value in given.items():
            setattr(cfg, name, value)
        if cfg.rt_type not in (RTN_UNICAST, RTN_MULTICAST, RTN_BROADCAST, RTN_LOCAL):
            cfg.scope = RT_SCOPE_UNIVERSE
        self.fib.rtm_newroute(cfg)
        return cfg

    def local(self, dev: Ether | None = None) -> list[str]:
        """The local table, without the loopback device's routes."""
        return self.show(RT_TABLE_LOCAL, dev)

    def main(self, dev: Ether | None = None) -> list[str]:
        return self.show(RT_TABLE_MAIN, dev)

    def show(self, tb_id: int, dev: Ether | None = None) -> list[str]:
        table = self.fib.fib_get_table(tb_id)
        lines = []
        for alias in table.fib_table_dump() if table else []:
            hops = alias.fi.nhs()
            on = hops[0].dev if hops else None
            if on is not self.lo and (dev is None or on is dev):
                lines.append(shown_route(alias))
        return lines

    def addresses(self, dev: Ether | None = None) -> list[str]:
        return [shown_address(ifa) for ifa in (dev or self.a0).addresses]

    def lookup(self, to: str, **given: int) -> tuple[int, FibResult]:
        """The errno and what was found for a Flow with those fields."""
        flow = Flow(a(to))
        for name, value in given.items():
            setattr(flow, name, value)
        res = FibResult()
        return int(self.fib.fib_lookup(flow, res)), res
