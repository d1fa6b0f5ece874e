"""UdpSock: sending and the options of a UDP socket (Linux udp_sendmsg, udp_send_skb, udp_lib_setsockopt)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from librt.strings import BytesWriter
from mypy_extensions import i64

from ustack.device.net_device import NETIF_F_HW_CSUM
from ustack.ipv4.datagram import InetDatagramSock
from ustack.sock import MSG_CONFIRM, MSG_MORE, error, int_value
from ustack.trace.given import Numbers
from ustack.trace.points import Point
from ustack.udp.table import NOWHERE
from ustack.wire import udp
from ustack.wire.checksum import csum_tcpudp_nofold, fold
from ustack.wire.ipv4 import IP_HLEN, IP_MAX_LEN, IPPROTO_UDP
from ustack.wire.udp import NO_CHECKSUM, UDP_HLEN, udp_csum

if TYPE_CHECKING:
    from ustack.datagram import Datagram
    from ustack.dst import Dst
    from ustack.packet import Buffer
    from ustack.udp.udp import Udp

SOCK_DGRAM: Final = 2
SOL_UDP: Final = 17
UDP_CORK: Final = 1
MSG_PROBE: Final = 0x10
#: What one datagram can carry: the IP header's length says no more.
MAX_PAYLOAD: Final = IP_MAX_LEN - IP_HLEN - UDP_HLEN
_CHECK_OFFSET: Final = 6
#: Where the checksum field is for the device to complete: nowhere.
FINAL: Final = -1


class Cork:
    """One datagram that several sends put together (struct inet_cork_full): addressed by the first of them."""

    def __init__(self, dst: Dst, source: i64, target: i64, dport: i64) -> None:
        self.dst: Dst = dst
        self.source: i64 = source
        self.target: i64 = target
        self.dport: i64 = dport
        self.pieces: list[bytes] = []
        self.length: i64 = 0


class UdpSock(InetDatagramSock):
    """struct udp_sock."""

    def __init__(self, protocol: Udp) -> None:
        super().__init__(protocol.ip, SOCK_DGRAM, IPPROTO_UDP)
        self.udp: Udp = protocol
        self.hashed: i64 = NOWHERE  #: the table's, as is ``hash_key``
        self.hash_key: i64 = 0
        self.corkflag: bool = False  #: UDP_CORK
        self.pending: Cork | None = None

    # -- the port

    def get_port(self, port: i64) -> None:
        self.udp.table.get_port(self, port)

    def put_port(self) -> None:
        self.udp.table.put_port(self)

    def hash(self) -> None:
        self.udp.table.hash(self)

    def unhash(self) -> None:
        self.udp.table.unhash(self)

    def connect(self, addr: i64, port: i64) -> None:
        if self.num == 0:
            self.autobind()
        super().connect(addr, port)

    def autobind(self) -> None:
        """inet_autobind: EAGAIN when no port is left."""
        try:
            self.get_port(0)
        except OSError:
            raise error(errno.EAGAIN) from None

    def close(self) -> None:
        self.pending = None
        super().close()

    # -- sending

    def sendmsg(self, data: Buffer, flags: i64, addr: i64, port: i64) -> int:
        """udp_sendmsg. One call is one datagram, unless UDP_CORK or MSG_MORE holds it back for more.

        Raises EMSGSIZE, EOPNOTSUPP (MSG_OOB), EINVAL (port 0), EDESTADDRREQ, EACCES (broadcast), EPIPE, the route's
        errno (ENETUNREACH, EHOSTUNREACH), EAGAIN (no port left), or the error a former datagram came back with.
        """
        length: i64 = len(data)
        if self.net.tracer is not None:
            self.net.tracer.note(Point.UDP_SENDMSG, "corked" if self.pending or flags & MSG_MORE else "")
        self.check_flags(length, flags)
        if self.pending is not None:
            return self._append(self.pending, data, flags)
        if port == 0:
            raise error(errno.EINVAL)
        daddr = self.destination(addr, port)
        dport = port if port > 0 else self.dport
        if self.num == 0:
            self.autobind()
        dst = self.route(daddr, dport, flags)
        if flags & MSG_CONFIRM:
            self.confirm(dst, flags)
            if flags & MSG_PROBE and length == 0:
                return 0
        if self.corkflag or flags & MSG_MORE:
            return self._append(Cork(dst, self.source, self.target, dport), data, flags)
        self.check_send()
        self._send(dst, self.target, dport, data)
        return length

    def _send(self, dst: Dst, daddr: i64, dport: i64, data: Buffer) -> None:
        """Build one datagram and give it to IP (udp_send_skb)."""
        length: i64 = len(data)
        if length > MAX_PAYLOAD:
            raise error(errno.EMSGSIZE)
        # a device sums whole packets only; what leaves in fragments is summed here, once
        partial = (
            dst.dev.features & NETIF_F_HW_CSUM != 0 and length + IP_HLEN + UDP_HLEN <= dst.mtu and not self.no_check_tx
        )
        if self.net.tracer is not None:
            self.net.tracer.note(Point.UDP_SEND_SKB, self._check_words(partial), Numbers("length", length))
        if not isinstance(data, bytes):
            data = bytes(data)  # a view's owner may write into it once we have returned
        out = BytesWriter()
        udp.emit(out, self.num, dport, length, self._check(daddr, dport, data, partial))
        out.write(data)
        self.ip_send(dst, daddr, out.getvalue(), _CHECK_OFFSET if partial else FINAL)
        self.net.mib.udp.OutDatagrams += 1

    def _check(self, daddr: i64, dport: i64, data: bytes, partial: bool) -> i64:
        """What stands in the checksum field: nothing, the pseudo-header's sum for the device to go on with, or all."""
        if self.no_check_tx:
            return NO_CHECKSUM
        if partial:
            return fold(csum_tcpudp_nofold(self.source, daddr, UDP_HLEN + len(data), IPPROTO_UDP))
        return udp_csum(self.source, daddr, self.num, dport, len(data), [data])

    def _check_words(self, partial: bool) -> str:
        """Who sums it."""
        if self.no_check_tx:
            return "checksum off (SO_NO_CHECK)"
        return "checksum left to the device" if partial else "checksum computed"

    # -- corking

    def _append(self, cork: Cork, data: Buffer, flags: i64) -> int:
        """ip_append_data to what is pending; the last piece, sent without MSG_MORE, sends it all."""
        length: i64 = len(data)
        try:
            self.check_send()
            if cork.length + length + UDP_HLEN > IP_MAX_LEN:
                raise error(errno.EMSGSIZE)
        except OSError:
            self.pending = None  # udp_flush_pending_frames
            raise
        cork.pieces.append(bytes(data))
        cork.length += length
        self.pending = cork
        if self.net.tracer is not None:
            self.net.tracer.note(Point.IP_APPEND_DATA, "", {"pieces": len(cork.pieces), "length": int(cork.length)})
        if not self.corkflag and flags & MSG_MORE == 0:
            self.push_pending()
        return length

    def push_pending(self) -> None:
        """Send what was held back; not an error if nothing was (udp_push_pending_frames)."""
        cork = self.pending
        if cork is None:
            return
        self.pending = None
        if self.net.tracer is not None:
            self.net.tracer.note(Point.UDP_PUSH_PENDING_FRAMES, "", {"pieces": len(cork.pieces)})
        self.source = cork.source
        self.dst_cache = None  # ``source`` was another destination's meanwhile
        self._send(cork.dst, cork.target, cork.dport, b"".join(cork.pieces))

    # -- receiving, options

    def try_recv(self) -> Datagram | None:
        if self.net.tracer is not None:
            self.net.tracer.note(Point.UDP_RECVMSG)
        datagram = self.dequeue()
        if datagram is not None:
            self.net.mib.udp.InDatagrams += 1  # RFC 2013: "delivered to UDP users", so not before
        return datagram

    def setsockopt(self, level: i64, name: i64, value: int | bytes, admin: bool = True) -> None:
        """UDP_CORK; switching it off sends what it held back."""
        if level != SOL_UDP or name != UDP_CORK:
            raise error(errno.ENOPROTOOPT)
        self.corkflag = int_value(value) != 0
        if not self.corkflag:
            self.push_pending()

    def getsockopt(self, level: i64, name: i64, room: i64 = 0x7FFF_FFFF) -> int | bytes:
        if level != SOL_UDP or name != UDP_CORK:
            raise error(errno.ENOPROTOOPT)
        return 1 if self.corkflag else 0
