"""Udp: datagrams and errors that arrive (Linux net/ipv4/udp.c; RFC 768, RFC 1122 section 4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.datagram import Datagram
from ustack.drop import Reason
from ustack.dst import to_many
from ustack.ipv4.protocol import NetProtocol, inet_sk_rx_dst_set, sk_edemux
from ustack.packet import CHECKSUM_NONE, Packet
from ustack.trace.points import Point
from ustack.trace.words import endpoint, socket_name
from ustack.udp.sock import UdpSock
from ustack.udp.table import CONNECTED, UdpTable, compute_score
from ustack.wire import udp
from ustack.wire.checksum import VALID, csum_partial, csum_tcpudp_nofold
from ustack.wire.icmp import ICMP_DEST_UNREACH, ICMP_PORT_UNREACH
from ustack.wire.ipv4 import IPPROTO_UDP, Ipv4Header
from ustack.wire.octets import u16
from ustack.wire.udp import NO_CHECKSUM, UDP_HLEN, UdpHeader

if TYPE_CHECKING:
    from ustack.ipv4.datagram import Ip4Datagram
    from ustack.trace.journey import Facts


class Udp(NetProtocol):
    """Protocol 17 of one stack."""

    def __init__(self, ip: Ip4Datagram) -> None:
        self.ip: Ip4Datagram = ip
        self.net = ip.net
        self.table = UdpTable(ip.net)

    def new_sock(self, protocol: i64 = IPPROTO_UDP) -> UdpSock:
        """A socket without port or peer."""
        return UdpSock(self)

    def sockets(self) -> list[UdpSock]:
        """All that have a port, by port."""
        return [sk for port in sorted(self.table.ports) for sk in self.table.ports[port]]

    def handler(self, packet: Packet) -> None:
        """__udp4_lib_rcv: lengths, checksum, socket."""
        if packet.frags is not None:
            packet.linearize()
        iph = packet.iph
        header = udp.parse(packet.buf, packet.data, packet.end)
        if header is None or iph is None:
            return self.net.drop(packet, Reason.UDP_MALFORMED)
        journey = packet.journey
        if journey is not None:
            journey.step(Point.UDP_RCV, "checksum " + checksum_words(packet, header), header_facts(iph, header))
        if packet.ip_summed == CHECKSUM_NONE and not checksum_ok(packet, iph, header):
            return self.net.drop(packet, Reason.UDP_CSUM)
        dst = packet.dst
        if dst is not None and to_many(dst):
            return self._mcast_deliver(packet, iph, header)
        dev = packet.in_dev
        dif = 0 if dev is None else dev.ifindex
        early = packet.sk
        if isinstance(early, UdpSock) and early.hashed == CONNECTED:
            sk: UdpSock | None = early
            inet_sk_rx_dst_set(early, packet)
        else:
            sk = self.table.lookup(iph.saddr, header.sport, iph.daddr, header.dport, dif)
        if journey is not None:
            journey.step(Point.UDP4_LIB_LOOKUP, "none" if sk is None else socket_name(sk), found(sk, iph, header, dif))
        if sk is None:
            return self._no_port(packet)
        room = sk.has_room(header.end - header.payload)
        if journey is not None:
            journey.step(Point.UDP_QUEUE_RCV_SKB, "room" if room else "full", buffer_facts(sk))
        if not room:
            return self._full(sk, packet)
        data = packet.buf[header.payload : header.end]
        datagram = Datagram(data, iph.saddr, header.sport, iph.daddr, dif, packet.tstamp)
        if journey is not None:
            datagram.follow(packet)
        self.net.deliver(packet)
        sk.enqueue(datagram)

    def early_demux(self, packet: Packet, iph: Ipv4Header) -> None:
        """udp_v4_early_demux: a connected socket keeps the way its datagrams come."""
        at = packet.transport_header
        dev = packet.in_dev
        if dev is None or at + UDP_HLEN > packet.end:
            return
        if self.net.sysctl.udp_early_demux == 0 or not self.table.connected:
            return
        sport, dport = u16(packet.buf, at), u16(packet.buf, at + 2)
        sk = self.table.demux_lookup(iph.saddr, sport, iph.daddr, dport, dev.ifindex)
        if packet.journey is not None:
            packet.journey.step(Point.UDP_V4_EARLY_DEMUX, "none" if sk is None else socket_name(sk))
        if sk is not None:
            sk_edemux(packet, sk, self.ip.routing.fib.genid)

    def err_handler(self, packet: Packet, icmp_type: i64, code: i64, info: i64) -> None:
        """__udp4_lib_err: the quoted datagram is one that we sent, so its source is our socket."""
        iph = packet.iph
        if iph is None:
            return
        sport, dport = u16(packet.buf, packet.transport_header), u16(packet.buf, packet.transport_header + 2)
        dif = 0 if packet.in_dev is None else packet.in_dev.ifindex
        sk = self.table.lookup(iph.daddr, dport, iph.saddr, sport, dif)
        if packet.journey is not None:
            packet.journey.step(Point.UDP4_LIB_ERR, "nobody's" if sk is None else socket_name(sk))
        if sk is None:
            self.net.mib.icmp.InErrors += 1
            return
        sk.route_error(packet, icmp_type, code, info)
        sk.icmp_error(icmp_type, code)

    def _no_port(self, packet: Packet) -> None:
        """RFC 1122 4.1.3.1: no listener, so "UDP SHOULD send an ICMP Port Unreachable message"."""
        self.net.mib.udp.NoPorts += 1
        if self.net.icmp is not None:
            self.net.icmp.icmp_send(packet, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, 0)
        self.net.drop(packet, Reason.NO_SOCKET)

    def _full(self, sk: UdpSock, packet: Packet) -> None:
        sk.drops += 1
        self.net.drop(packet, Reason.SOCKET_RCVBUFF)

    def _mcast_deliver(self, packet: Packet, iph: Ipv4Header, header: UdpHeader) -> None:
        """A copy for every socket that hears it (__udp4_lib_mcast_deliver).

        RFC 1122 3.2.2: nobody listening is no reason for an ICMP error to a broadcast. The packet counts as delivered
        if one socket took it.
        """
        dif = 0 if packet.in_dev is None else packet.in_dev.ifindex
        listeners = self.table.listeners(iph.saddr, header.sport, iph.daddr, header.dport, dif)
        journey = packet.journey
        if journey is not None:
            journey.step(Point.UDP4_LIB_MCAST_DELIVER, f"to {len(listeners)} sockets")
        if not listeners:
            return self.net.drop(packet, Reason.IGNORED_MULTI)
        data = packet.buf[header.payload : header.end]
        for sk in listeners:
            copy = packet if sk is listeners[-1] else packet.clone()
            if journey is not None:
                packet.journey = None  # that one socket takes it is not its end
                copy.journey = journey if copy is packet else journey.fork()
            if sk.has_room(len(data)):
                datagram = Datagram(data, iph.saddr, header.sport, iph.daddr, dif, packet.tstamp)
                datagram.follow(copy)
                self.net.deliver(packet)
                sk.enqueue(datagram)
            else:
                self._full(sk, copy)


def checksum_ok(packet: Packet, iph: Ipv4Header, header: UdpHeader) -> bool:
    """RFC 768: "An all zero transmitted checksum value means that the transmitter generated no checksum"."""
    if header.checksum == NO_CHECKSUM:
        return True
    pseudo = csum_tcpudp_nofold(iph.saddr, iph.daddr, header.end - packet.data, IPPROTO_UDP)
    return csum_partial(packet.buf, packet.data, header.end, pseudo) == VALID


# -- for a trace


def checksum_words(packet: Packet, header: UdpHeader) -> str:
    """Who has checked it."""
    if header.checksum == NO_CHECKSUM:
        return "not sent"
    return "checked here" if packet.ip_summed == CHECKSUM_NONE else "vouched for by the device"


def header_facts(iph: Ipv4Header, header: UdpHeader) -> Facts:
    return {
        "from": endpoint(iph.saddr, header.sport),
        "to": endpoint(iph.daddr, header.dport),
        "length": int(header.end - header.payload),
    }


def found(sk: UdpSock | None, iph: Ipv4Header, header: UdpHeader, dif: i64) -> Facts:
    """How well the socket fits."""
    if sk is None:
        return {"counters": "Udp.NoPorts"}
    score = compute_score(sk, iph.saddr, header.sport, iph.daddr, header.dport, dif)
    return {"score": int(score), "connected": sk.hashed == CONNECTED}


def buffer_facts(sk: UdpSock) -> Facts:
    """What its receive buffer holds, and may hold."""
    return {"rmem": int(sk.rmem_alloc), "rcvbuf": int(sk.rcvbuf)}
