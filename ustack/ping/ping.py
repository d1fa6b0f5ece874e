"""Ping sockets: echo requests without the right to anything else (Linux net/ipv4/ping.c).

SOCK_DGRAM with IPPROTO_ICMP. The local "port" is the echo identifier: the stack writes it into every request, and by
it finds whose a reply is.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.datagram import Datagram
from ustack.drop import Reason
from ustack.ipv4.datagram import InetDatagramSock, Ip4Datagram
from ustack.ipv4.icmp import EchoReceiver
from ustack.sock import MSG_OOB, Message, error
from ustack.trace.points import Point
from ustack.trace.words import socket_name
from ustack.wire import icmp
from ustack.wire.icmp import ICMP_ECHO, ICMP_HLEN
from ustack.wire.ipv4 import IPPROTO_ICMP
from ustack.wire.octets import u16

if TYPE_CHECKING:
    from ustack.ipv4.icmp_send import IcmpErrors
    from ustack.packet import Buffer, Packet

SOCK_DGRAM: Final = 2
_IDENTS: Final = 0xFFFF
_IDENT_OFFSET: Final = 4
_SEQUENCE_OFFSET: Final = 6


class Ping(EchoReceiver):
    """One stack's ping sockets, by identifier; what arrives never adds to them."""

    def __init__(self, ip: Ip4Datagram, errors: IcmpErrors) -> None:
        self.ip: Ip4Datagram = ip
        self.errors: IcmpErrors = errors
        self.table: dict[int, list[PingSock]] = {}

    def new_sock(self, protocol: i64 = IPPROTO_ICMP) -> PingSock:
        """A socket without identifier. EACCES while ping_group_range excludes everybody (ping_init_sock)."""
        sysctl = self.ip.net.sysctl
        if sysctl.ping_group_range_min > sysctl.ping_group_range_max:
            raise error(errno.EACCES)
        return PingSock(self)

    def sockets(self) -> list[PingSock]:
        """All that have an identifier, by identifier."""
        return [sk for ident in sorted(self.table) for sk in self.table[ident]]

    def ping_rcv(self, packet: Packet) -> Reason | None:
        """An echo reply, its checksum verified and its header there (ping_rcv)."""
        iph = packet.iph
        if iph is None:
            return Reason.ICMP_MALFORMED
        ifindex: i64 = 0 if packet.in_dev is None else packet.in_dev.ifindex
        sk = self._lookup(u16(packet.buf, packet.data + _IDENT_OFFSET), iph.daddr, ifindex)
        if packet.journey is not None:
            packet.journey.step(Point.PING_LOOKUP, "none" if sk is None else socket_name(sk))
        if sk is None:
            return Reason.NO_SOCKET
        if not sk.has_room(packet.end - packet.data):
            sk.drops += 1
            return Reason.RAW_RCVBUFF
        data = packet.buf[packet.data : packet.end]
        datagram = Datagram(data, iph.saddr, 0, iph.daddr, ifindex, packet.tstamp)
        datagram.follow(packet)
        sk.enqueue(datagram)
        return None

    def ping_err(self, packet: Packet, icmp_type: i64, code: i64, info: i64) -> None:
        """An error that quotes an echo request; whose, says the identifier (ping_err)."""
        iph, at = packet.iph, packet.transport_header
        if iph is None or not is_echo_request(packet.buf, at):
            return
        ifindex: i64 = 0 if packet.in_dev is None else packet.in_dev.ifindex
        sk = self._lookup(u16(packet.buf, at + _IDENT_OFFSET), iph.saddr, ifindex)
        if packet.journey is not None:
            packet.journey.step(Point.PING_ERR, "nobody's" if sk is None else socket_name(sk))
        if sk is None:
            return
        sk.route_error(packet, icmp_type, code, info)
        sk.icmp_error(icmp_type, code)

    def _lookup(self, ident: i64, local: i64, ifindex: i64) -> PingSock | None:
        """ping_lookup: the newest that fits."""
        found: PingSock | None = None
        for sk in self.table.get(ident, ()):
            if (sk.rcv_saddr == 0 or sk.rcv_saddr == local) and (sk.bound_dev_if == 0 or sk.bound_dev_if == ifindex):
                found = sk
        return found

    # -- identifiers

    def get_port(self, sk: PingSock, ident: i64) -> None:
        """Take an identifier, a random free one for 0. EADDRINUSE (ping_get_port)."""
        if ident == 0:
            ident = self._choose()
        elif self._in_use(sk, ident):
            raise error(errno.EADDRINUSE)
        sk.num = ident
        self.table.setdefault(ident, []).append(sk)

    def put_port(self, sk: PingSock) -> None:
        if sk.num == 0:
            return
        chained = self.table[sk.num]
        chained.remove(sk)
        if not chained:
            del self.table[sk.num]
        sk.num = 0

    def _choose(self) -> i64:
        first = self.ip.net.entropy.below(_IDENTS)
        for step in range(_IDENTS):
            ident = (first + step) % _IDENTS + 1
            if ident not in self.table:
                return ident
        raise error(errno.EADDRINUSE)

    def _in_use(self, sk: PingSock, ident: i64) -> bool:
        """Only sockets that all said SO_REUSEADDR share an identifier."""
        for other in self.table.get(ident, ()):
            if not (sk.reuseaddr and other.reuseaddr):
                return True
        return False


class PingSock(InetDatagramSock):
    """struct ping_sock."""

    def __init__(self, ping: Ping) -> None:
        super().__init__(ping.ip, SOCK_DGRAM, IPPROTO_ICMP)
        self.ping: Ping = ping

    def get_port(self, port: i64) -> None:
        self.ping.get_port(self, port)

    def put_port(self) -> None:
        self.ping.put_port(self)

    def connect(self, addr: i64, port: i64) -> None:
        if self.num == 0:
            self.autobind()
        super().connect(addr, port)

    def autobind(self) -> None:
        """inet_autobind: EAGAIN when no identifier is left."""
        try:
            self.get_port(0)
        except OSError:
            raise error(errno.EAGAIN) from None

    def sendmsg(self, data: Buffer, flags: i64, addr: i64, port: i64) -> int:
        """ping_v4_sendmsg: ``data`` is an echo request; identifier and checksum become ours.

        Raises EMSGSIZE, EINVAL (shorter than a header, or anything but an echo request), EOPNOTSUPP (MSG_OOB),
        EDESTADDRREQ, EACCES (broadcast), EPIPE, EAGAIN (no identifier left), the route's errno.
        """
        length: i64 = len(data)
        if self.net.tracer is not None:
            self.net.tracer.note(Point.PING_V4_SENDMSG, f"identifier {self.num}")
        self.check_flags(length, flags & ~MSG_OOB)
        if length < ICMP_HLEN:
            raise error(errno.EINVAL)
        self.check_flags(length, flags)
        message = bytes(data)
        if not is_echo_request(message, 0):
            raise error(errno.EINVAL)
        daddr = self.destination(addr, port)
        if self.num == 0:
            self.autobind()
        dst = self.route(daddr, 0, flags)
        self.confirm(dst, flags)
        self.check_send()
        rest = self.num << 16 | u16(message, _SEQUENCE_OFFSET)
        self.ip_send(dst, self.target, icmp.emit(ICMP_ECHO, 0, rest, message[ICMP_HLEN:]), -1)
        self.ping.errors.count_out(ICMP_ECHO)
        return length

    def recvmsg(self, length: i64, flags: i64) -> Message:
        """The ICMP message of a reply, without IP header; EOPNOTSUPP for MSG_OOB."""
        if flags & MSG_OOB:
            raise error(errno.EOPNOTSUPP)
        if self.net.tracer is not None:
            self.net.tracer.note(Point.PING_RECVMSG)
        return super().recvmsg(length, flags)


def is_echo_request(b: bytes, at: i64) -> bool:
    """ping_supported."""
    return b[at] == ICMP_ECHO and b[at + 1] == 0
