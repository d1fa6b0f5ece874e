"""A link with one device of ours on it: what it sends is kept, what comes in is made here, time is a number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.device.core import Devices
from ustack.device.net_device import BROADCAST_MAC, IFF_BROADCAST, Address, NetDevice
from ustack.dst import RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST, RTN_UNICAST
from ustack.neighbour.arp import Arp
from ustack.neighbour.table import AddressOracle, ArpRoute, Neighbour, NeighbourTable
from ustack.net import IcmpSender, Net, RtnlWatcher
from ustack.packet import Packet
from ustack.timer import NEVER, NSEC_PER_SEC
from ustack.wire import arp as arp_wire
from ustack.wire.arp import ARPOP_REPLY, ARPOP_REQUEST
from ustack.wire.ethernet import ETH_P_ARP, ETH_P_IP, header, parse
from ustack.wire.ipv4 import str_to_addr

if TYPE_CHECKING:
    from ustack.drop import Reason
    from ustack.in_device import NeighParms

SEC = NSEC_PER_SEC
SEED = bytes(range(16))

OUR_MAC = 0x02_00_00_00_00_02
PEER_MAC = 0x02_00_00_00_00_01
OTHER_MAC = 0x02_00_00_00_00_99
EVIL_MAC = 0x02_00_00_00_66_66

OURS = str_to_addr("192.0.2.2")
PEER = str_to_addr("192.0.2.1")
OTHER = str_to_addr("192.0.2.9")
SUBNET_BROADCAST = str_to_addr("192.0.2.255")
FAR = str_to_addr("203.0.113.5")


class FakeDevice(NetDevice):
    """Keeps what it is asked to send; ``refuse`` makes it busy."""

    def __init__(self, name: str = "eth0", mac: int = OUR_MAC) -> None:
        super().__init__(name, mac)
        self.flags = IFF_BROADCAST
        self.frames: list[bytes] = []

    def start_xmit(self, packet: Packet) -> bool:
        packet.linearize()
        self.frames.append(packet.buf)
        return True

    def take(self) -> list[bytes]:
        """What was sent since the last call."""
        frames, self.frames = self.frames, []
        return frames


class Oracle(AddressOracle):
    """Knows the addresses on the devices, and ``routes``: where an address that is not ours lies."""

    def __init__(self, devices: Devices) -> None:
        super().__init__()
        self.devices = devices
        self.routes: dict[int, NetDevice] = {}
        self.martians: set[int] = set()

    def inet_addr_type(self, addr: i64) -> i64:
        if addr >> 28 == 0xE:
            return RTN_MULTICAST
        for dev in self.devices.all():
            for address in dev.addresses:
                if addr == address.local:
                    return RTN_LOCAL
                if addr == address.subnet_broadcast():
                    return RTN_BROADCAST
        return RTN_BROADCAST if addr in (0, 0xFFFFFFFF) else RTN_UNICAST

    def select_source(self, dev: NetDevice, dst: i64) -> i64:
        return dev.addresses[0].local if dev.addresses else 0

    def inet_confirm_addr(self, dev: NetDevice | None, dst: i64, local: i64, scope: i64) -> i64:
        for where in self.devices.all() if dev is None else [dev]:
            for address in where.addresses:
                if local in (0, address.local) and address.scope <= scope and (dst == 0 or address.matches(dst)):
                    return address.local
        return 0

    def route_input(self, packet: Packet, dev: NetDevice, saddr: i64, daddr: i64) -> ArpRoute | None:
        local = self.inet_addr_type(saddr) == RTN_LOCAL and not dev.in_dev.accept_local()
        if saddr in self.martians or local:
            return None
        if self.inet_addr_type(daddr) == RTN_LOCAL:
            return ArpRoute(RTN_LOCAL, dev)
        return ArpRoute(RTN_UNICAST, self.routes[daddr]) if daddr in self.routes else None

    def route_output(self, daddr: i64, saddr: i64) -> NetDevice | None:
        return self.routes.get(daddr)


class Listener(RtnlWatcher):
    """What rtnetlink programs hear: (event, address, state) of neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[int, int, int]] = []

    def changed(self, event: i64, what: object) -> None:
        if isinstance(what, Neighbour):
            self.heard.append((event, what.addr, what.nud_state))


class IcmpSpy(IcmpSender):
    """Remembers the errors asked for; ``answer_through`` sends one to that neighbour, as the real one might."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[int, int]] = []
        self.answer_through: Neighbour | None = None

    def icmp_send(self, packet: Packet, icmp_type: i64, code: i64, info: i64) -> None:
        self.sent.append((icmp_type, code))
        if self.answer_through is not None:
            self.answer_through.output(ipv4_packet(OURS, PEER, b"icmp"))


class Lan:
    """One stack's lower floors at 192.0.2.2/24."""

    def __init__(self) -> None:
        self.net = Net(SEED)
        self.devices = Devices(self.net)
        self.dev = self.add_device("eth0", OUR_MAC)
        self.dev.addresses.append(Address(OURS, 24))
        self.oracle = Oracle(self.devices)
        self.table = NeighbourTable(self.net, self.devices, self.oracle)
        self.arp = Arp(self.net, self.devices, self.table)
        self.devices.dev_add_pack(ETH_P_ARP, self.arp)
        self.icmp = IcmpSpy()
        self.net.icmp = self.icmp

    def add_device(self, name: str, mac: int) -> FakeDevice:
        dev = FakeDevice(name, mac)
        self.devices.register_netdevice(dev)
        self.devices.dev_open(dev)
        return dev

    @property
    def parms(self) -> NeighParms:
        """The settings of the device's neighbours."""
        return self.dev.in_dev.arp_parms

    # -- time

    def at(self, when: i64) -> None:
        """Let virtual time pass up to ``when`` (ns since the beginning), firing each timer at its own moment."""
        while self.net.timers.next_deadline() <= when:
            self.net.now = self.net.timers.next_deadline()
            self.net.timers.run(self.net.now)
        self.net.now = when

    def wait(self, duration: i64) -> None:
        self.at(self.net.now + duration)

    def settle(self, limit: i64 = 3600 * SEC) -> None:
        """Until no timer is left."""
        end = self.net.now + limit
        while self.net.timers.next_deadline() != NEVER:
            assert self.net.now < end
            self.at(self.net.timers.next_deadline())

    # -- out

    def send(self, addr: int = PEER, payload: bytes = b"hello") -> Packet:
        packet = ipv4_packet(OURS, addr, payload)
        self.table.output(addr, self.dev, packet)
        return packet

    def arps(self) -> list[tuple[int, int, int, int, int, int]]:
        """ARP frames sent since the last look: (Ethernet destination, op, sha, spa, tha, tpa)."""
        return [seen for seen in (arp_of(frame) for frame in self.dev.take()) if seen is not None]

    # -- in

    def receive(self, frame: bytes, dev: NetDevice | None = None) -> Packet:
        packet = Packet(frame, self.dev if dev is None else dev)
        self.devices.netif_receive_skb(packet)
        return packet

    def hear(
        self, op: int, sha: int, spa: int, tpa: int, dst: int = OUR_MAC, tha: int = 0, dev: NetDevice | None = None
    ) -> Packet:
        """An ARP packet comes in."""
        return self.receive(header(dst, sha, ETH_P_ARP) + arp_wire.emit(op, sha, spa, tha, tpa), dev)

    def answer(self, mac: int = PEER_MAC, addr: int = PEER) -> None:
        """The reply of ``addr`` to a question of ours."""
        self.hear(ARPOP_REPLY, mac, addr, OURS, tha=OUR_MAC)

    def ask(self, mac: int = PEER_MAC, addr: int = PEER, tpa: int = OURS) -> None:
        """``addr`` asks who has ``tpa``."""
        self.hear(ARPOP_REQUEST, mac, addr, tpa, dst=BROADCAST_MAC)

    # -- state

    def entry(self, addr: int = PEER) -> Neighbour:
        found = [neighbour for neighbour in self.table.entries() if neighbour.addr == addr]
        assert len(found) == 1
        return found[0]

    def state(self, addr: int = PEER) -> int:
        return self.entry(addr).nud_state

    def reachable(self, addr: int = PEER) -> Neighbour:
        """Make ``addr`` REACHABLE the ordinary way, and forget what was sent for it."""
        self.send(addr)
        self.answer(addr=addr)
        self.dev.take()
        return self.entry(addr)

    def balanced(self) -> bool:
        """Decision 7: received = delivered + forwarded + dropped + queued (everything queued here was received)."""
        path = self.net.mib.path
        return path.received == path.delivered + path.forwarded + path.dropped

    def dropped(self, reason: Reason) -> int:
        return self.net.drops.get(reason, 0)


def ipv4_packet(saddr: int, daddr: int, payload: bytes) -> Packet:
    """A packet of our own as ip_finish_output hands it over: buf begins with the IPv4 header."""
    length = 20 + len(payload)
    head = bytes([0x45, 0]) + length.to_bytes(2, "big") + bytes([0, 0, 0x40, 0, 64, 17, 0, 0])
    packet = Packet(head + saddr.to_bytes(4, "big") + daddr.to_bytes(4, "big") + payload)
    packet.protocol = ETH_P_IP
    packet.transport_header = 20
    return packet


def arp_of(frame: bytes) -> tuple[int, int, int, int, int, int] | None:
    ethernet = parse(frame)
    assert ethernet is not None
    if ethernet.ethertype != ETH_P_ARP:
        return None
    arp = arp_wire.parse(frame, 14, len(frame))
    assert arp is not None and ethernet.src == arp.sha
    return ethernet.dst, arp.op, arp.sha, arp.spa, arp.tha, arp.tpa


def delta(before: dict[str, int], net: Net) -> dict[str, int]:
    """The counters that moved since ``before`` (net.mib.snapshot()), and by how much."""
    return {name: value - before[name] for name, value in net.mib.snapshot().items() if value != before[name]}
