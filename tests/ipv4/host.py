"""A whole IPv4 floor over devices without hardware: what goes in and comes out are packets from the IP header on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from librt.strings import BytesWriter

from tests.routing.links import FakeDevice, Links, moved
from ustack.device.loopback import Loopback
from ustack.ipv4.defrag import Defrag
from ustack.ipv4.forward import IpForward
from ustack.ipv4.input import Ipv4Input, LocalDeliver
from ustack.ipv4.output import Ipv4Output
from ustack.ipv4.protocol import NetProtocol, Protocols
from ustack.neighbour.table import AddressOracle, NeighbourTable
from ustack.net import DropWatcher, IcmpSender
from ustack.netfilter.hooks import Hooks
from ustack.packet import Packet
from ustack.sock import Sock
from ustack.wire import ipv4
from ustack.wire.ethernet import ETH_P_IP, header
from ustack.wire.ipv4 import IPPROTO_UDP, Ipv4Header

if TYPE_CHECKING:
    from ustack.device.net_device import NetDevice
    from ustack.drop import Reason
    from ustack.routing.route import Routing

SENDER_MAC = 0x02_00_00_00_00_01


class Oracle(AddressOracle):
    def __init__(self, routing: Routing) -> None:
        super().__init__()
        self.routing = routing

    def inet_addr_type(self, addr: int) -> int:
        return int(self.routing.inet_addr_type(addr))

    def select_source(self, dev: NetDevice, dst: int) -> int:
        return int(self.routing.inet_select_addr(dev, dst))


class Errors(IcmpSender):
    """What ICMP would be asked to send: (type, code, info)."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[int, int, int]] = []

    def icmp_send(self, packet: Packet, icmp_type: int, code: int, info: int) -> None:
        self.sent.append((int(icmp_type), int(code), int(info)))


class Drops(DropWatcher):
    """The reasons, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.reasons: list[Reason] = []

    def dropped(self, packet: Packet, reason: Reason) -> None:
        self.reasons.append(reason)


class Transport(NetProtocol):
    """A protocol that keeps what it is handed."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self.host = host
        self.got: list[Packet] = []

    def handler(self, packet: Packet) -> None:
        self.got.append(packet)
        self.host.net.deliver(packet)

    @property
    def payloads(self) -> list[bytes]:
        return [packet.payload() for packet in self.got]


class Host(Links):
    """Links with the IPv4 floor on them; UDP is a Transport."""

    def __init__(self) -> None:
        super().__init__(loopback=False)
        self.hooks = Hooks(self.net)
        self.neighbours = NeighbourTable(self.net, self.devices, Oracle(self.routing))
        self.protocols = Protocols(self.net)
        self.defrag = Defrag(self.net)
        self.ip_output = Ipv4Output(self.net, self.routing, self.hooks, self.neighbours)
        self.ip_input = Ipv4Input(self.net, self.routing, self.hooks, self.protocols)
        self.ip_deliver = LocalDeliver(self.net, self.hooks, self.protocols, self.defrag)
        self.ip_forward = IpForward(self.net, self.routing, self.hooks)
        self.routing.rtable.local_deliver, self.routing.rtable.forward = self.ip_deliver, self.ip_forward
        self.routing.rtable.output, self.routing.rtable.mc_output = self.ip_output, self.ip_output.mc_output
        self.devices.dev_add_pack(ETH_P_IP, self.ip_input)
        self.real_lo = Loopback(self.devices)
        self.devices.register_netdevice(self.real_lo)
        self.devices.dev_open(self.real_lo)
        self.udp = Transport(self)
        self.protocols.inet_add_protocol(IPPROTO_UDP, self.udp)
        self.icmp = Errors()
        self.net.icmp = self.icmp
        self.drops = Drops()
        self.net.drop_watchers.append(self.drops)
        self._before = self.net.mib.snapshot()

    def rx(self, packet: bytes, dev: FakeDevice | None = None, dst_mac: int | None = None, gso_size: int = 0) -> None:
        """A frame with ``packet`` comes in from eth0, or from ``dev``."""
        dev = self.eth0 if dev is None else dev
        frame = Packet(header(dev.mac if dst_mac is None else dst_mac, SENDER_MAC, ETH_P_IP) + packet, dev)
        frame.gso_size = gso_size
        self.devices.netif_receive_skb(frame)

    def poll(self) -> None:
        """Work off what went through lo."""
        while self.devices.net_rx_action():
            pass

    def sock(self, daddr: int = 0, saddr: int = 0, protocol: int = IPPROTO_UDP) -> Sock:
        sk = Sock(self.net, 2, protocol)
        sk.daddr, sk.saddr = daddr, saddr
        return sk

    def start(self) -> None:
        """Forget what was counted and kept so far."""
        self._before = self.net.mib.snapshot()
        self.drops.reasons.clear()
        self.icmp.sent.clear()

    def moved(self) -> dict[str, int]:
        """Counters that moved since ``start``, but for the route caches' and the account of the path."""
        counters = moved(self._before, self.net)
        return {name: by for name, by in counters.items() if not name.startswith(("RtCache.", "Path.", "Neigh."))}

    def balanced(self, queued: int = 0) -> bool:
        """Received is delivered, forwarded, dropped or still queued."""
        path = self.net.mib.path
        return bool(path.received == path.delivered + path.forwarded + path.dropped + queued)


def datagram(
    saddr: int,
    daddr: int,
    payload: bytes = b"muffin",
    ttl: int = 64,
    frag_off: int = 0,
    options: bytes = b"",
    protocol: int = IPPROTO_UDP,
    total_len: int = -1,
    ident: int = 7,
    tos: int = 0,
) -> bytes:
    """An IPv4 packet; ``total_len`` lies if it is given."""
    out = BytesWriter()
    length = 20 + len(options) + len(payload) if total_len < 0 else total_len
    ipv4.emit(out, tos, length, ident, frag_off, ttl, protocol, saddr, daddr, options)
    out.write(payload)
    return out.getvalue()


def head(packet: bytes) -> Ipv4Header:
    """The header of what was sent; its checksum must be right."""
    iph = ipv4.parse(packet, 0, len(packet))
    assert iph is not None and ipv4.checksum_ok(packet, iph)
    return iph
