"""ustack's side: the same world in a stack, built by ustack's own commands and asked in its own messages."""

from __future__ import annotations

import io
import os
import shlex
from typing import TYPE_CHECKING

from tests.oracle.kernel import START
from tests.oracle.world import Answer
from tests.routing.links import FakeDevice
from ustack.cli.ip.run import run
from ustack.cli.ip.transport import Transport
from ustack.device.net_device import IFF_BROADCAST, IFF_MULTICAST
from ustack.rtnl.messages import Nack, Objects, Route, Rtm, RtnlAnswer, RtnlRequest, SetSysctl
from ustack.rtnl.rtnetlink import Rtnetlink
from ustack.stack import Stack

if TYPE_CHECKING:
    from tests.oracle.world import Query, World

SEED = bytes(range(16))
RTAX_CC_ALGO = 16


class Wire(FakeDevice):
    """With ARP, as the kernel's has."""

    def __init__(self, name: str, mac: int) -> None:
        super().__init__(name, mac)
        self.flags = IFF_BROADCAST | IFF_MULTICAST


class InProcess(Transport):
    """Asks a stack in this process."""

    def __init__(self, rtnetlink: Rtnetlink) -> None:
        self.rtnetlink = rtnetlink

    def ask(self, request: RtnlRequest) -> RtnlAnswer:
        return self.rtnetlink.request(request)


class Ours:
    """As Kernel, without anything to close."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.stack = Stack(SEED)
        self.rtnetlink = Rtnetlink(self.stack)
        self.transport = InProcess(self.rtnetlink)
        self.wires: list[Wire] = []
        self.run([f"sysctl {name}={value}" for name, value in START.items() if "ipv6" not in name])
        for dev in world.devices:
            wire = Wire(dev.name, dev.mac)
            self.stack.add_device(wire)
            assert wire.ifindex == dev.ifindex
            self.wires.append(wire)

    def run(self, commands: list[str]) -> list[str]:
        """What is said to each, "" where it is done."""
        return [self._one(command) for command in commands]

    def _one(self, command: str) -> str:
        first, _, rest = command.partition(" ")
        if first == "sysctl":
            name, _, value = rest.partition("=")
            answer = self.rtnetlink.request(SetSysctl(name, value))
            return os.strerror(answer.errno) if isinstance(answer, Nack) else ""
        if first == "carrier":
            name, state = rest.split()
            self._carrier(next(wire for wire in self.wires if wire.name == name), state == "on")
            return ""
        return self.show(command).strip()

    def _carrier(self, wire: Wire, on: bool) -> None:
        if on:
            self.stack.devices.netif_carrier_on(wire)
        else:
            self.stack.devices.netif_carrier_off(wire)

    def show(self, words: str) -> str:
        """What ``ustack`` prints in place of ``ip``."""
        out, said = io.StringIO(), io.StringIO()
        run(shlex.split(words), self.transport, out, said)
        return out.getvalue() + said.getvalue()

    def ask(self, queries: list[Query]) -> list[Answer]:
        return [self._ask(query) for query in queries]

    def _ask(self, query: Query) -> Answer:
        answer = self.rtnetlink.request(Rtm("get", route_of(query)))
        if isinstance(answer, Nack):
            return Answer(error=answer.errno)
        assert isinstance(answer, Objects)
        route = answer.objects[0]
        assert isinstance(route, Route)
        return answer_of(route)


def route_of(query: Query) -> Route:
    """The question in ustack's words."""
    return Route(
        dst=query.dst,
        dst_len=32,
        src=query.src,
        src_len=32 if query.src else 0,
        iif=query.iif,
        ifindex=query.oif,
        mark=query.mark,
        tos=query.tos,
        ipproto=query.ipproto,
        sport=query.sport,
        dport=query.dport,
        uid=None if query.uid < 0 else query.uid,
        fibmatch=query.fibmatch,
    )


def answer_of(route: Route) -> Answer:
    """The answer in the judge's words."""
    metrics: list[tuple[int, int | str]] = list(route.metrics.items())
    if route.congctl:
        metrics.append((RTAX_CC_ALGO, route.congctl))
    return Answer(
        rtype=route.rtype,
        table=route.table,
        scope=route.scope or 0,
        tos=route.tos,
        protocol=route.protocol,
        flags=route.flags,
        dst=route.dst,
        dst_len=route.dst_len,
        src=route.src,
        oif=route.ifindex,
        gateway=route.gateway,
        prefsrc=route.prefsrc,
        iif=route.iif,
        mark=route.mark,
        uid=-1 if route.uid is None else route.uid,
        priority=route.priority or 0,
        nhid=route.nhid,
        metrics=tuple(sorted(metrics)),
        hops=tuple((hop.ifindex, hop.gateway, hop.weight, hop.flags) for hop in route.hops),
    )
