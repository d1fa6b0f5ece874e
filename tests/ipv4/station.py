"""A whole stack from the device up to its datagram sockets, on a wire that keeps what it sends; time is a number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from librt.strings import BytesWriter
from mypy_extensions import i64

from ustack.device.core import Devices
from ustack.device.loopback import Loopback
from ustack.device.net_device import IFF_BROADCAST, IFF_MULTICAST, Address, NetDevice
from ustack.ipv4.datagram import Ip4Datagram
from ustack.ipv4.defrag import Defrag
from ustack.ipv4.forward import IpForward
from ustack.ipv4.icmp import Icmp
from ustack.ipv4.input import Ipv4Input, LocalDeliver
from ustack.ipv4.output import Ipv4Output
from ustack.ipv4.protocol import Protocols
from ustack.neighbour.table import AddressOracle, NeighbourTable
from ustack.net import Net
from ustack.netfilter.hooks import Hooks
from ustack.packet import CHECKSUM_NONE, Packet
from ustack.ping.ping import Ping
from ustack.raw.raw import Raw
from ustack.routing.route import Routing
from ustack.sock import Observer, Sock
from ustack.udp.udp import Udp
from ustack.wire import ethernet, icmp, ipv4, udp
from ustack.wire.ethernet import ETH_P_IP
from ustack.wire.ipv4 import IPPROTO_ICMP, IPPROTO_UDP, Ipv4Header, str_to_addr
from ustack.wire.udp import udp_csum

if TYPE_CHECKING:
    from ustack.udp.sock import UdpSock

OUR_MAC = 0x02_00_00_00_00_02
PEER_MAC = 0x02_00_00_00_00_01
BROADCAST_MAC = 0xFFFF_FFFF_FFFF
OURS = str_to_addr("192.0.2.2")
PEER = str_to_addr("192.0.2.1")
SILENT = str_to_addr("192.0.2.77")  #: on the link, answers no ARP
SUBNET_BROADCAST = str_to_addr("192.0.2.255")
FAR = str_to_addr("203.0.113.5")
GROUP = str_to_addr("224.0.0.1")
LOCALHOST = str_to_addr("127.0.0.1")
LIMITED_BROADCAST = 0xFFFF_FFFF


class Wire(NetDevice):
    """Keeps every frame as one run of bytes, with its checksum state."""

    def __init__(self, name: str, mac: int = OUR_MAC) -> None:
        super().__init__(name, mac)
        self.flags = IFF_BROADCAST | IFF_MULTICAST
        self.sent: list[Packet] = []

    def start_xmit(self, packet: Packet) -> bool:
        packet.linearize()
        self.sent.append(packet)
        return True


class Oracle(AddressOracle):
    def __init__(self, routing: Routing) -> None:
        super().__init__()
        self.routing = routing

    def inet_addr_type(self, addr: i64) -> i64:
        return self.routing.inet_addr_type(addr)

    def select_source(self, dev: NetDevice, dst: i64) -> i64:
        return self.routing.inet_select_addr(dev, dst)


class Sent:
    """One IP packet that left."""

    def __init__(self, packet: Packet) -> None:
        start = packet.network_header
        header = ipv4.parse(packet.buf, start, packet.end)
        assert header is not None and ipv4.checksum_ok(packet.buf, header)
        assert header.total_len == packet.end - start
        self.ip: Ipv4Header = header
        self.l4 = packet.buf[start + header.header_len : packet.end]
        self.packet = packet


class Watcher(Observer):
    """Counts what a socket is told."""

    def __init__(self) -> None:
        super().__init__()
        self.readable = 0
        self.errors: list[int] = []

    def data_ready(self, sk: Sock) -> None:
        self.readable += 1

    def error_report(self, sk: Sock) -> None:
        self.errors.append(int(sk.err))


class Station:
    """192.0.2.2/24 on eth0, with a default route by 192.0.2.1, and lo."""

    def __init__(self, offload: bool = False, seed: bytes = bytes(range(32))) -> None:
        self.net = net = Net(seed)
        self.devices = Devices(net)
        self.hooks = Hooks(net)
        self.routing = Routing(net, self.devices)
        self.neighbours = NeighbourTable(net, self.devices, Oracle(self.routing))
        self.output = Ipv4Output(net, self.routing, self.hooks, self.neighbours)
        self.protocols = Protocols(net)
        self.defrag = Defrag(net)
        self.icmp = Icmp(net, self.routing, self.output, self.protocols)
        self.ip = Ip4Datagram(net, self.routing, self.output, self.neighbours)
        self.udp = Udp(self.ip)
        self.raw = Raw(self.ip, self.icmp.errors)
        self.ping = Ping(self.ip, self.icmp.errors)
        self.icmp.ping = self.ping
        self.protocols.raw = self.raw
        self.protocols.inet_add_protocol(IPPROTO_ICMP, self.icmp)
        self.protocols.inet_add_protocol(IPPROTO_UDP, self.udp)
        self.routing.rtable.local_deliver = LocalDeliver(net, self.hooks, self.protocols, self.defrag)
        self.routing.rtable.forward = IpForward(net, self.routing, self.hooks)
        self.routing.rtable.output = self.output
        self.routing.rtable.mc_output = self.output.mc_output
        self.devices.dev_add_pack(ETH_P_IP, Ipv4Input(net, self.routing, self.hooks, self.protocols))
        self.lo = Loopback(self.devices)
        self.eth0 = Wire("eth0")
        self.devices.register_netdevice(self.lo)
        self.devices.dev_open(self.lo)
        self.add(self.eth0, OURS, 24)
        if offload:
            self.eth0.features = self.lo.features
        self.neighbours.neigh_add(PEER, self.eth0, PEER_MAC)
        self.routing.add_route(0, 0, PEER, self.eth0)
        self.before = net.mib.snapshot()

    def add(self, dev: NetDevice, local: int, prefixlen: int) -> None:
        """Register ``dev``, bring it up and give it an address."""
        self.devices.register_netdevice(dev)
        self.devices.dev_open(dev)
        address = Address(local, prefixlen)
        self.routing.add_address(dev, address)

    # -- what happens to it

    def receive(
        self,
        l4: bytes,
        protocol: int,
        src: int = PEER,
        dst: int = OURS,
        ip_summed: int = CHECKSUM_NONE,
        frag_off: int = 0,
        tos: int = 0,
        ttl: int = 64,
        options: bytes = b"",
        dst_mac: int = OUR_MAC,
        ident: int = 1,
    ) -> None:
        """A frame with this transport packet comes in from eth0, and everything it causes happens."""
        out = BytesWriter()
        out.write(ethernet.header(dst_mac, PEER_MAC, ETH_P_IP))
        ipv4.emit(out, tos, 20 + len(options) + len(l4), ident, frag_off, ttl, protocol, src, dst, options)
        out.write(l4)
        packet = Packet(out.getvalue(), self.eth0)
        packet.ip_summed = ip_summed
        self.devices.netif_receive_skb(packet)
        self.run()

    def receive_udp(
        self, data: bytes, sport: int, dport: int, src: int = PEER, dst: int = OURS, mac: int = OUR_MAC
    ) -> None:
        self.receive(udp_packet(data, sport, dport, src, dst), IPPROTO_UDP, src, dst, dst_mac=mac)

    def run(self) -> None:
        """Work off what lo holds; afterwards every packet received has ended or is held by Defrag."""
        while self.devices.pending():
            self.devices.net_rx_action()
        path = self.net.mib.path
        assert path.received == path.delivered + path.forwarded + path.dropped + len(self.defrag)

    def wait(self, seconds: float) -> None:
        """Let time pass, from one timer to the next."""
        until = self.net.now + int(seconds * 1_000_000_000)
        while True:
            due = self.net.timers.next_deadline()
            if due > until:
                break
            self.net.now = due
            self.net.timers.run(due)
            self.run()
        self.net.now = until

    # -- what it did

    def take(self) -> list[Sent]:
        """The packets that left by eth0 since the last call."""
        packets, self.eth0.sent = self.eth0.sent, []
        return [Sent(packet) for packet in packets if packet.buf[12:14] == b"\x08\x00"]

    def moved(self, *groups: str) -> dict[str, int]:
        """Counters of ``groups`` that moved since the last call; "" for every transport and IP group."""
        after = self.net.mib.snapshot()
        before, self.before = self.before, after
        wanted = groups or ("Ip", "Icmp", "Udp")
        return {k: after[k] - v for k, v in before.items() if after[k] != v and k.split(".")[0] in wanted}

    # -- its sockets

    def udp_sock(self, port: int = 0, addr: int = 0) -> UdpSock:
        sk = self.udp.new_sock()
        sk.saddr = sk.rcv_saddr = addr
        sk.bound_addr, sk.bound_port = addr != 0, port != 0
        if port:
            sk.get_port(port)
        return sk


def udp_packet(data: bytes, sport: int, dport: int, src: int = PEER, dst: int = OURS) -> bytes:
    out = BytesWriter()
    udp.emit(out, sport, dport, len(data), udp_csum(src, dst, sport, dport, len(data), [data]))
    out.write(data)
    return out.getvalue()


def ip_packet(l4: bytes, protocol: int, src: int, dst: int, frag_off: int = 0, options: bytes = b"") -> bytes:
    """A whole IP packet, to be quoted."""
    out = BytesWriter()
    ipv4.emit(out, 0, 20 + len(options) + len(l4), 99, frag_off, 63, protocol, src, dst, options)
    out.write(l4)
    return out.getvalue()


def echo(
    payload: bytes = b"", ident: int = 0x1234, sequence: int = 1, kind: int = icmp.ICMP_ECHO, code: int = 0
) -> bytes:
    return icmp.emit(kind, code, ident << 16 | sequence, payload)
