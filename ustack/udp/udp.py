"""Udp: datagrams and errors that arrive (Linux net/ipv4/udp.c; RFC 768, RFC 1122 section 4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.datagram import Datagram
from ustack.drop import Reason
from ustack.dst import to_many
from ustack.ipv4.protocol import NetProtocol, inet_sk_rx_dst_set, sk_edemux
from ustack.packet import CHECKSUM_NONE, Packet
from ustack.udp.sock import UdpSock
from ustack.udp.table import CONNECTED, UdpTable
from ustack.wire import udp
from ustack.wire.checksum import VALID, csum_partial, csum_tcpudp_nofold
from ustack.wire.icmp import ICMP_DEST_UNREACH, ICMP_PORT_UNREACH
from ustack.wire.ipv4 import IPPROTO_UDP, Ipv4Header
from ustack.wire.octets import u16
from ustack.wire.udp import NO_CHECKSUM, UDP_HLEN, UdpHeader

if TYPE_CHECKING:
    from ustack.ipv4.datagram import Ip4Datagram


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
        if sk is None:
            return self._no_port(packet)
        if not sk.has_room(header.end - header.payload):
            return self._full(sk, packet)
        data = packet.buf[header.payload : header.end]
        self.net.deliver(packet)
        sk.enqueue(Datagram(data, iph.saddr, header.sport, iph.daddr, dif, packet.tstamp))

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
        if not listeners:
            return self.net.drop(packet, Reason.IGNORED_MULTI)
        data = packet.buf[header.payload : header.end]
        for sk in listeners:
            copy = packet if sk is listeners[-1] else packet.clone()
            if sk.has_room(len(data)):
                self.net.deliver(packet)
                sk.enqueue(Datagram(data, iph.saddr, header.sport, iph.daddr, dif, packet.tstamp))
            else:
                self._full(sk, copy)


def checksum_ok(packet: Packet, iph: Ipv4Header, header: UdpHeader) -> bool:
    """RFC 768: "An all zero transmitted checksum value means that the transmitter generated no checksum"."""
    if header.checksum == NO_CHECKSUM:
        return True
    pseudo = csum_tcpudp_nofold(iph.saddr, iph.daddr, header.end - packet.data, IPPROTO_UDP)
    return csum_partial(packet.buf, packet.data, header.end, pseudo) == VALID
