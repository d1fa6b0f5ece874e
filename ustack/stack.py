"""Stack: the floors of one IPv4 stack, built and wired together (Linux struct net, net_dev_init, inet_init).

Everything hangs off it, and it knows neither a clock nor a descriptor: whoever owns it calls ``poll(now)`` when frames
have come in or when ``next_deadline()`` is reached. Several stacks live side by side without knowing of each other.

    stack = Stack(seed)
    stack.add_device(E1000(stack.devices, "eth0", 0x020000000001, nic))
    stack.add_address("192.0.2.2/24", "eth0")
    stack.add_gateway("192.0.2.1")
    sock = stack.socket(AF_INET, SOCK_DGRAM)
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.device.bridge import Bridges
from ustack.device.cable import Pollable
from ustack.device.core import Devices
from ustack.device.loopback import Loopback
from ustack.device.net_device import IFF_LOOPBACK, IFF_NOARP, IFF_UP, Address, NetDevice
from ustack.inet.af_inet import InetDgramOps, InetFamily, InetPingOps, InetSockrawOps, InetStreamOps
from ustack.inet.family import SOCK_DGRAM, SOCK_RAW, SOCK_STREAM, Families
from ustack.inet.ip_sockglue import IpSockOptions
from ustack.inet.options import SocketOptions
from ustack.inet.protosw import (
    INET_PROTOSW_ICSK,
    INET_PROTOSW_PERMANENT,
    INET_PROTOSW_REUSE,
    IPPROTO_IP,
    InetProtosw,
    Proto,
)
from ustack.inet.security import ROOT, Security
from ustack.inet.sockaddr import AF_INET
from ustack.ipv4.datagram import Ip4Datagram
from ustack.ipv4.defrag import Defrag
from ustack.ipv4.forward import IpForward
from ustack.ipv4.icmp import Icmp
from ustack.ipv4.input import Ipv4Input, LocalDeliver
from ustack.ipv4.output import Ipv4Output
from ustack.ipv4.protocol import Protocols
from ustack.neighbour.arp import Arp
from ustack.neighbour.states import NUD_VALID
from ustack.neighbour.table import AddressOracle, ArpRoute, NeighbourTable
from ustack.net import Net
from ustack.netfilter.hooks import Hooks
from ustack.ping.ping import Ping
from ustack.raw.raw import Raw
from ustack.routing.devinet import AddressWatcher
from ustack.routing.fib_types import Reachability
from ustack.routing.flow import RT_SCOPE_LINK, Flow
from ustack.routing.metrics import TcpCaNames
from ustack.routing.redirect import GatewayProbe
from ustack.routing.route import Routing
from ustack.sock import Sock, error
from ustack.sysctl_table import SysctlTable
from ustack.tcp.congestion.sysctl import congestion_settings
from ustack.tcp.fastopen import FastopenKeySetting
from ustack.tcp.protocol import Tcp
from ustack.udp.udp import Udp
from ustack.wire.ethernet import ETH_P_ARP, ETH_P_IP
from ustack.wire.ipv4 import IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, str_to_addr

if TYPE_CHECKING:
    from ustack.inet.security import Cred
    from ustack.inet.socket import ProtoOps, Socket
    from ustack.packet import Packet
    from ustack.timer import Waker

#: Rounds of net_rx_action in one poll before the caller gets its turn (kernel/softirq.c).
MAX_SOFTIRQ_RESTART: Final = 10


class Stack(Pollable):
    """One stack with its loopback device up. ``now`` and ``seed`` as for Net: ns, and 16 secret bytes at least."""

    def __init__(self, seed: bytes, now: i64 = 0) -> None:
        self.net = Net(seed, now)
        self.closed: bool = False
        self.devices = Devices(self.net)
        self.hooks = Hooks(self.net)
        reachability = _Reachability()
        self.routing = Routing(self.net, self.devices, reachability)
        self.neighbours = NeighbourTable(self.net, self.devices, _Oracle(self.routing))
        reachability.neighbours = self.neighbours
        self.routing.redirects.probe = _GatewayProbe(self.neighbours)
        self.arp = Arp(self.net, self.devices, self.neighbours)
        self.sysctl = SysctlTable(self.net, self.devices)
        self.net.conf.route_cache = self.routing
        self._init_ipv4()
        self._init_transports()
        self.security = Security()
        self.families = Families(self.security)
        self.inet = InetFamily(self.security)
        self._init_sockets()
        self.bridges = Bridges(self.devices)
        self.loopback = Loopback(self.devices)
        self.add_device(self.loopback)

    # -- wiring

    def _init_ipv4(self) -> None:
        """ip_init: the packet types, and what a route's input and output are."""
        net, routing, hooks = self.net, self.routing, self.hooks
        self.protocols = Protocols(net)
        self.defrag = Defrag(net)
        self.ip_input = Ipv4Input(net, routing, hooks, self.protocols)
        self.ip_output = Ipv4Output(net, routing, hooks, self.neighbours)
        rtable = routing.rtable
        rtable.local_deliver = LocalDeliver(net, hooks, self.protocols, self.defrag)
        rtable.forward = IpForward(net, routing, hooks)
        rtable.output = self.ip_output
        rtable.mc_output = self.ip_output.mc_output
        routing.inet.watchers.append(_Announcer(self.arp))
        self.devices.dev_add_pack(ETH_P_ARP, self.arp)
        self.devices.dev_add_pack(ETH_P_IP, self.ip_input)

    def _init_transports(self) -> None:
        """The protocols of inet_init, in its order."""
        net, routing, output = self.net, self.routing, self.ip_output
        ip = Ip4Datagram(net, routing, output, self.neighbours)
        self.icmp = Icmp(net, routing, output, self.protocols)
        self.udp = Udp(ip)
        self.tcp = Tcp(net, output, routing, self.neighbours, self.devices)
        routing.fib.semantics.tcp_ca = _TcpCaNames(self.tcp)
        self.sysctl.add(congestion_settings(self.tcp.tables.congestion))
        self.sysctl.add([FastopenKeySetting(self.tcp.tables)])
        self.ping = Ping(ip, self.icmp.errors)
        self.icmp.ping = self.ping
        self.raw = Raw(ip, self.icmp.errors)
        self.protocols.raw = self.raw
        self.protocols.inet_add_protocol(IPPROTO_ICMP, self.icmp)
        self.protocols.inet_add_protocol(IPPROTO_UDP, self.udp)
        self.protocols.inet_add_protocol(IPPROTO_TCP, self.tcp)

    def _init_sockets(self) -> None:
        """The family, and its inetsw_array."""
        self.families.sock_register(self.inet)
        net, oracle = self.net, self.neighbours.oracle
        options = SocketOptions(net, self.devices, IpSockOptions(net, self.devices))
        stream, dgram = InetStreamOps(net, oracle, options), InetDgramOps(net, oracle, options)
        ping, raw = InetPingOps(net, oracle, options), InetSockrawOps(net, oracle, options)
        permanent = INET_PROTOSW_PERMANENT
        self._register(SOCK_STREAM, IPPROTO_TCP, _TcpProto(self.tcp), stream, permanent | INET_PROTOSW_ICSK)
        self._register(SOCK_DGRAM, IPPROTO_UDP, _UdpProto(self.udp), dgram, permanent)
        self._register(SOCK_DGRAM, IPPROTO_ICMP, _PingProto(self.ping), ping, INET_PROTOSW_REUSE)
        self._register(SOCK_RAW, IPPROTO_IP, _RawProto(self.raw), raw, INET_PROTOSW_REUSE)

    def _register(self, sock_type: i64, protocol: i64, prot: Proto, ops: ProtoOps, flags: i64) -> None:
        self.inet.inetsw.inet_register_protosw(InetProtosw(sock_type, protocol, prot, ops, flags))

    # -- time

    def poll(self, now: i64) -> bool:
        """Do what is due at ``now`` (ns; a time gone by counts as the present): timers, then received frames.

        True if frames are left for another call (ksoftirqd's part).
        """
        net = self.net
        if now > net.now:
            net.now = now
        if net.tracer is not None:
            net.tracer.forget()
        net.timers.run(net.now)
        rounds = 0
        while self.devices.net_rx_action():
            rounds += 1
            if rounds >= MAX_SOFTIRQ_RESTART:
                return True
        if net.tracer is not None:
            net.tracer.forget()
        return False

    def next_deadline(self) -> i64:
        """When ``poll`` has something to do: now if frames or owners wait, else the first timer's time, or NEVER."""
        if self.devices.pending() or self.tcp.pending():
            return self.net.now
        return self.net.timers.next_deadline()

    def attach(self, waker: Waker) -> bool:
        """Timers, interrupts, and the wake-ups of sockets that their owners use, are what comes from outside."""
        self.net.waker = waker
        self.net.timers.waker = waker
        return True

    def catch_up(self, now: i64) -> None:
        """Set the clock of a stack that was not polled for want of anything to do; it never goes back."""
        if now > self.net.now:
            self.net.now = now

    # -- sockets

    def socket(
        self, family: i64 = AF_INET, sock_type: i64 = SOCK_STREAM, protocol: i64 = 0, cred: Cred = ROOT
    ) -> Socket:
        """socket(2) in the name of ``cred``; raises what Families.sock_create does, ENETDOWN once closed."""
        if self.closed:
            raise error(errno.ENETDOWN)
        return self.families.sock_create(family, sock_type, protocol, cred)

    # -- what `ip link`, `ip address` and `ip route` do

    def add_device(self, dev: NetDevice) -> NetDevice:
        """Register ``dev`` and bring it up. ValueError if there is one of that name."""
        self.devices.register_netdevice(dev)
        self.set_up(dev)
        return dev

    def remove_device(self, dev: NetDevice) -> None:
        """Take ``dev`` down and forget it with its addresses and routes. ValueError if it is not ours."""
        self.devices.unregister_netdevice(dev)

    def set_up(self, dev: NetDevice) -> None:
        self.devices.dev_open(dev)

    def set_down(self, dev: NetDevice) -> None:
        """Down: what waits for its neighbours or in its queue is lost (NETDEV_DOWN)."""
        self.devices.dev_close(dev)

    def device(self, name: str) -> NetDevice:
        """The device called ``name``. OSError ENODEV if there is none."""
        dev = self.devices.by_name(name)
        if dev is None:
            raise error(errno.ENODEV)
        return dev

    def add_address(self, cidr: str, dev: NetDevice | str) -> Address:
        """``"192.0.2.2/24"``, a plain address counting as /32. ValueError for what is none; EEXIST, EINVAL."""
        local, prefixlen = parse_cidr(cidr)
        address = Address(local, prefixlen)
        self.routing.add_address(self.device(dev) if isinstance(dev, str) else dev, address)
        return address

    def add_route(
        self, cidr: str, gateway: str | None = None, dev: NetDevice | str | None = None, metric: i64 = 0
    ) -> None:
        """``"198.51.100.0/24"`` or ``"default"`` by way of ``gateway`` or on the link of ``dev``.

        Raises ValueError, and what Routing.add_route does.
        """
        network, prefixlen = (0, 0) if cidr == "default" else parse_cidr(cidr)
        via: i64 = 0 if gateway is None else str_to_addr(gateway)
        out = self.device(dev) if isinstance(dev, str) else dev
        self.routing.add_route(network, prefixlen, via, out, metric)

    def add_gateway(self, gateway: str) -> None:
        """The default route."""
        self.add_route("default", gateway)

    # -- the books

    def queued(self) -> int:
        """Received packets that wait inside: for a neighbour, for their other fragments, for a verdict."""
        waiting: list[Packet] = self.hooks.waiting() + self.neighbours.waiting()
        return len(self.defrag) + sum([1 for packet in waiting if packet.accounted])

    def unaccounted(self) -> int:
        """Received packets that have ended in no way at all: 0, or there is a leak."""
        path = self.net.mib.path
        return int(path.received - path.delivered - path.forwarded - path.dropped) - self.queued()

    def close(self) -> None:
        """Lose what is queued, take every device down, stop: no socket is made any more, nothing is sent.

        Sockets are their owners' to close, before.
        """
        if self.closed:
            return
        self.closed = True
        for dev in self.devices.all():
            if dev.flags & IFF_UP:
                self.set_down(dev)
        self.defrag.flush()
        self.hooks.nf_unregister_queue_handler()


def parse_cidr(text: str) -> tuple[i64, i64]:
    """("192.0.2.2/24") as (address, 24); 32 if there is no slash. ValueError."""
    address, slash, length = text.partition("/")
    prefixlen = int(length) if slash else 32
    if not 0 <= prefixlen <= 32:
        raise ValueError(f"prefix length {prefixlen} in {text!r} is not between 0 and 32")
    return str_to_addr(address), prefixlen


class _Oracle(AddressOracle):
    """Addresses, as neighbours and sockets ask for them."""

    def __init__(self, routing: Routing) -> None:
        self.routing: Routing = routing

    def inet_addr_type(self, addr: i64) -> i64:
        return self.routing.inet_addr_type(addr)

    def select_source(self, dev: NetDevice, dst: i64) -> i64:
        return self.routing.inet_select_addr(dev, dst, RT_SCOPE_LINK)

    def inet_confirm_addr(self, dev: NetDevice | None, dst: i64, local: i64, scope: i64) -> i64:
        return self.routing.inet.inet_confirm_addr(dev, dst, local, scope)

    def route_input(self, packet: Packet, dev: NetDevice, saddr: i64, daddr: i64) -> ArpRoute | None:
        if self.routing.input_route.ip_route_input_noref(packet, daddr, saddr, 0, dev) is not None:
            return None
        dst = packet.dst
        packet.dst = None
        return None if dst is None else ArpRoute(dst.rt_type, dst.dev)

    def route_output(self, daddr: i64, saddr: i64) -> NetDevice | None:
        try:
            return self.routing.ip_route_output(Flow(daddr, saddr)).dev
        except OSError:
            return None


class _Reachability(Reachability):
    """How a gateway's neighbour entry stands, for the choice among default routes."""

    def __init__(self) -> None:
        self.neighbours: NeighbourTable | None = None  #: there is none before there is routing

    def nud_state(self, addr: i64, dev: NetDevice) -> i64:
        return 0 if self.neighbours is None else self.neighbours.nud_state(addr, dev)


class _GatewayProbe(GatewayProbe):
    """Whether a gateway that a redirect names is there."""

    def __init__(self, neighbours: NeighbourTable) -> None:
        self.neighbours: NeighbourTable = neighbours

    def resolved(self, addr: i64, dev: NetDevice) -> bool:
        neighbour = self.neighbours.ip_neigh_gw4(dev, addr)
        if neighbour is None:
            return False
        if neighbour.nud_state & NUD_VALID != 0:
            return True
        self.neighbours.neigh_event_send(neighbour, None)
        return False


class _TcpCaNames(TcpCaNames):
    """The congestion control algorithms that a route may name: those that TCP has."""

    def __init__(self, tcp: Tcp) -> None:
        self.tcp: Tcp = tcp

    def known(self, name: str) -> bool:
        return name in self.tcp.tables.congestion.algorithms

    def needs_ecn(self, name: str) -> bool:
        ops = self.tcp.tables.find_congestion(name)
        return ops is not None and ops.needs_ecn


class _Announcer(AddressWatcher):
    """A new address is told to the link (inetdev_send_gratuitous_arp); a device without one needs no neighbours."""

    def __init__(self, arp: Arp) -> None:
        self.arp: Arp = arp

    def address_added(self, dev: NetDevice, addr: i64) -> None:
        dev.in_dev.setall()
        if dev.flags & IFF_UP and dev.flags & (IFF_LOOPBACK | IFF_NOARP) == 0:
            self.arp.announce(dev, addr)

    def address_removed(self, dev: NetDevice, addr: i64) -> None:
        """Others find out by asking. After the last one IPv4 is off (fib_disable_ip)."""
        if not dev.addresses:
            self.arp.table.neigh_ifdown(dev)


class _TcpProto(Proto):
    def __init__(self, tcp: Tcp) -> None:
        self.tcp: Tcp = tcp

    def new_sock(self, protocol: i64) -> Sock:
        return self.tcp.new_sock()


class _UdpProto(Proto):
    def __init__(self, udp: Udp) -> None:
        self.udp: Udp = udp

    def new_sock(self, protocol: i64) -> Sock:
        return self.udp.new_sock(protocol)


class _PingProto(Proto):
    def __init__(self, ping: Ping) -> None:
        self.ping: Ping = ping

    def new_sock(self, protocol: i64) -> Sock:
        return self.ping.new_sock(protocol)


class _RawProto(Proto):
    def __init__(self, raw: Raw) -> None:
        self.raw: Raw = raw

    def new_sock(self, protocol: i64) -> Sock:
        return self.raw.new_sock(protocol)
