"""Raw sockets: a copy of every packet of a protocol, and packets of one's own making (Linux net/ipv4/raw.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from librt.strings import BytesWriter
from mypy_extensions import i64

from ustack.datagram import Datagram
from ustack.drop import Reason
from ustack.ipv4.datagram import InetDatagramSock, Ip4Datagram
from ustack.ipv4.protocol import RawDelivery
from ustack.packet import Packet
from ustack.sock import MSG_OOB, Message, error, int_value
from ustack.trace.points import Point
from ustack.trace.words import socket_name
from ustack.wire import ipv4
from ustack.wire.ipv4 import IP_HLEN, IPPROTO_ICMP, IPPROTO_RAW

if TYPE_CHECKING:
    from ustack.dst import Dst
    from ustack.ipv4.icmp_send import IcmpErrors
    from ustack.packet import Buffer
    from ustack.trace.journey import Facts

SOCK_RAW: Final = 3
SOL_RAW: Final = 255
ICMP_FILTER: Final = 1
#: Types that the filter's 32 bits can name.
_FILTER_BITS: Final = 32


class Raw(RawDelivery):
    """One stack's raw sockets, by protocol; what arrives never adds to them."""

    def __init__(self, ip: Ip4Datagram, icmp: IcmpErrors) -> None:
        self.ip: Ip4Datagram = ip
        self.icmp: IcmpErrors = icmp
        self.table: dict[int, list[RawSock]] = {}

    def new_sock(self, protocol: i64) -> RawSock:
        """A socket that hears ``protocol`` from now on. Whether the caller may is the inet room's question."""
        sk = RawSock(self, protocol)
        self.table.setdefault(protocol, []).append(sk)
        return sk

    def remove(self, sk: RawSock) -> None:
        """No longer hear anything; not an error twice (raw_unhash_sk)."""
        chained = self.table.get(sk.protocol)
        if chained is not None and sk in chained:
            chained.remove(sk)
            if not chained:
                del self.table[sk.protocol]

    def sockets(self) -> list[RawSock]:
        """All, by protocol."""
        return [sk for protocol in sorted(self.table) for sk in self.table[protocol]]

    def raw_local_deliver(self, packet: Packet) -> bool:
        """A copy of the packet, IP header included, for each that matches (raw_v4_input)."""
        iph = packet.iph
        if iph is None or not self.table:
            return False
        chained = self.table.get(iph.protocol)
        if chained is None:
            return False
        if packet.journey is not None:
            packet.journey.step(Point.RAW_V4_INPUT, f"{len(chained)} sockets", {"protocol": int(iph.protocol)})
        delivered = False
        for sk in chained[:]:  # an observer may close sockets
            if raw_match(sk, iph.saddr, iph.daddr, ifindex_of(packet)):
                delivered = True
                if not sk.filters_out(packet):
                    self._receive(sk, packet, iph.start, iph.saddr, iph.daddr)
        return delivered

    def raw_icmp_error(self, packet: Packet, protocol: i64, icmp_type: i64, code: i64, info: i64) -> None:
        """raw_v4_err: the quoted source is ours, the quoted destination the peer."""
        iph = packet.iph
        chained = self.table.get(protocol)
        if chained is None or iph is None:
            return
        for sk in chained[:]:
            if raw_match(sk, iph.daddr, iph.saddr, ifindex_of(packet)):
                if packet.journey is not None:
                    packet.journey.step(Point.RAW_ERR, socket_name(sk))
                sk.route_error(packet, icmp_type, code, info)
                sk.icmp_error(icmp_type, code)

    def _receive(self, sk: RawSock, packet: Packet, start: i64, saddr: i64, daddr: i64) -> None:
        if packet.frags is not None:
            packet.linearize()
        datagram = Datagram(packet.buf[start : packet.end], saddr, 0, daddr, ifindex_of(packet), packet.tstamp)
        copy: Packet | None = None
        if packet.journey is not None:
            copy = packet.clone()
            copy.journey = packet.journey.fork()
            copy.journey.step(Point.RAW_RCV, socket_name(sk), {"length": int(datagram.length)})
        if not sk.has_room(packet.end - start):
            sk.drops += 1
            return self.ip.net.drop(packet.clone() if copy is None else copy, Reason.RAW_RCVBUFF)
        if copy is not None:
            datagram.follow(copy)
        sk.enqueue(datagram)


class RawSock(InetDatagramSock):
    """struct raw_sock: ``num`` is the protocol. With ``hdrincl`` the caller writes the IP header."""

    def __init__(self, raw: Raw, protocol: i64) -> None:
        super().__init__(raw.ip, SOCK_RAW, protocol)
        self.raw: Raw = raw
        self.num = protocol
        self.bound_port = True  # a disconnect must not take the protocol away
        self.hdrincl = protocol == IPPROTO_RAW
        self.icmp_filter: i64 = 0  #: a bit for each ICMP type that is not wanted

    def get_port(self, port: i64) -> None:
        """There are no ports to take."""

    def put_port(self) -> None:
        self.raw.remove(self)

    def sendmsg(self, data: Buffer, flags: i64, addr: i64, port: i64) -> int:
        """raw_sendmsg: ``data`` follows our IP header, or begins with the caller's (IP_HDRINCL).

        Raises EMSGSIZE, EOPNOTSUPP (MSG_OOB), EDESTADDRREQ, EACCES (broadcast), EINVAL (a header that is none), EPIPE,
        the route's errno.
        """
        if self.net.tracer is not None:
            self.net.tracer.note(Point.RAW_SENDMSG, "with a header" if self.hdrincl else "")
        self.check_flags(len(data), flags)
        daddr = self.destination(addr, port)
        dst = self.route(daddr, 0, flags)
        self.confirm(dst, flags)
        self.check_send()
        if self.hdrincl:
            self._send_hdrinc(dst, bytes(data))
            return len(data)
        self.ip_send(dst, self.target, bytes(data), -1)
        if self.protocol == IPPROTO_ICMP and len(data) > 0:
            self.raw.icmp.count_out(data[0])
        return len(data)

    def _send_hdrinc(self, dst: Dst, data: bytes) -> None:
        """The caller's header with length and checksum put right, and source and id where they are 0 (raw_send_hdrinc).

        Unlike Linux, a version or a header length that no receiver would take is EINVAL, not sent.
        """
        if len(data) > dst.dev.mtu:
            raise error(errno.EMSGSIZE)
        old = ipv4.parse(data, 0, len(data))
        if old is None:
            raise error(errno.EINVAL)
        ident = old.ident or self.net.entropy.u32() & 0xFFFF
        out = BytesWriter()
        options = data[IP_HLEN : old.header_len]
        saddr, frag_off = old.saddr or self.source, old.frag_off
        ipv4.emit(out, old.tos, len(data), ident, frag_off, old.ttl, old.protocol, saddr, old.daddr, options)
        out.write(data[old.header_len :])
        if self.net.tracer is not None:
            facts: Facts = {"length": len(data), "ident": "ours" if old.ident == 0 else "the caller's"}
            self.net.tracer.note(Point.RAW_SEND_HDRINC, "the caller's header", facts)
        packet = Packet(out.getvalue())
        packet.transport_header = old.header_len
        packet.iph = ipv4.parse(packet.buf, 0, packet.end)
        packet.dst = dst
        packet.sk = self
        packet.mark, packet.priority = self.mark, self.priority
        if old.protocol == IPPROTO_ICMP and len(data) > old.header_len:
            self.raw.icmp.count_out(data[old.header_len])
        code = self.ip.output.ip_local_out(packet)
        if code != 0:
            raise error(int(code))

    def recvmsg(self, length: i64, flags: i64) -> Message:
        """As for datagrams; EOPNOTSUPP for MSG_OOB."""
        if flags & MSG_OOB:
            raise error(errno.EOPNOTSUPP)
        if self.net.tracer is not None:
            self.net.tracer.note(Point.RAW_RECVMSG)
        return super().recvmsg(length, flags)

    def filters_out(self, packet: Packet) -> bool:
        """icmp_filter: whether the socket asked not to see this ICMP type."""
        if self.icmp_filter == 0 or packet.data >= packet.end:
            return False
        icmp_type: i64 = packet.buf[packet.data]
        return icmp_type < _FILTER_BITS and (self.icmp_filter >> icmp_type) & 1 != 0

    def setsockopt(self, level: i64, name: i64, value: int | bytes, admin: bool = True) -> None:
        """ICMP_FILTER; EOPNOTSUPP for another protocol than ICMP."""
        self._check_option(level, name)
        self.icmp_filter = int_value(value) & 0xFFFF_FFFF

    def getsockopt(self, level: i64, name: i64, room: i64 = 0x7FFF_FFFF) -> int | bytes:
        self._check_option(level, name)
        return int(self.icmp_filter)

    def _check_option(self, level: i64, name: i64) -> None:
        if level != SOL_RAW or name != ICMP_FILTER:
            raise error(errno.ENOPROTOOPT)
        if self.protocol != IPPROTO_ICMP:
            raise error(errno.EOPNOTSUPP)


def raw_match(sk: RawSock, peer: i64, local: i64, ifindex: i64) -> bool:
    """Whether a socket's addresses and device let it hear a packet between ``peer`` and ``local`` (raw_v4_match)."""
    return (
        (sk.daddr == 0 or sk.daddr == peer)
        and (sk.rcv_saddr == 0 or sk.rcv_saddr == local)
        and (sk.bound_dev_if == 0 or sk.bound_dev_if == ifindex)
    )


def ifindex_of(packet: Packet) -> i64:
    """The device the packet came by, 0 for none."""
    return 0 if packet.in_dev is None else packet.in_dev.ifindex
