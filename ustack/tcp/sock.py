"""TcpSock: the operations of a TCP socket (Linux struct proto tcp_prot)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.error_queue import SOF_TIMESTAMPING_OPT_ID, SOF_TIMESTAMPING_OPT_ID_TCP
from ustack.sock import (
    MSG_OOB,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    POLLPRI,
    POLLRDHUP,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    SIOCATMARK,
    SIOCINQ,
    SIOCOUTQ,
    SIOCOUTQNSD,
    TCP_CLOSE,
    TCP_LISTEN,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    Message,
    Sock,
    error,
)
from ustack.tcp.accept import inet_csk_accept, inet_csk_listen_start
from ustack.tcp.close import tcp_close, tcp_disconnect, tcp_shutdown
from ustack.tcp.connect import tcp_v4_connect
from ustack.tcp.control import PACING_UNLIMITED, SK_PACING_NEEDED, SK_PACING_NONE, TCP_URG_VALID, TcpControl
from ustack.tcp.getoptions import tcp_getsockopt
from ustack.tcp.mss import tcp_sync_mss
from ustack.tcp.options import tcp_set_keepalive, tcp_set_rcvlowat, tcp_setsockopt
from ustack.tcp.receive import tcp_inq, tcp_inq_hint, tcp_recvmsg, tcp_stream_is_readable
from ustack.tcp.send import tcp_sendmsg
from ustack.tcp.seq import distance
from ustack.tcp.stream import sk_stream_is_writeable
from ustack.tcp.urgent import at_mark, urgent_flags

if TYPE_CHECKING:
    from ustack.packet import Buffer


class TcpSock(TcpControl):
    """A whole TCP socket; see Sock for what each operation promises."""

    def get_port(self, port: i64) -> None:
        self.tables.ports.bind(self, port)

    def put_port(self) -> None:
        self.tables.ports.release(self)

    def connect(self, addr: i64, port: i64) -> None:
        tcp_v4_connect(self, addr, port)

    def disconnect(self) -> None:
        tcp_disconnect(self)
        if not self.bound_port:
            self.put_port()

    def listen(self, backlog: i64) -> None:
        inet_csk_listen_start(self, backlog)

    def accept(self) -> Sock:
        return inet_csk_accept(self)

    def sendmsg(self, data: Buffer, flags: i64, addr: i64, port: i64) -> int:
        """``addr`` and ``port`` matter with MSG_FASTOPEN only; on a connected stream Linux ignores them."""
        return tcp_sendmsg(self, data, flags, addr, port)

    def recvmsg(self, length: i64, flags: i64) -> Message:
        message = Message(tcp_recvmsg(self, length, flags), 0, 0, 0)
        if flags & MSG_OOB:
            message.flags = urgent_flags(message.data, length)
        if self.recvmsg_inq:
            message.inq = tcp_inq_hint(self)
        return message

    def shutdown_how(self, how: i64) -> None:
        if self.state == TCP_CLOSE:
            raise error(errno.ENOTCONN)
        tcp_shutdown(self, how)

    def close(self) -> None:
        tcp_close(self)

    def poll(self) -> int:
        return tcp_poll(self)

    def ioctl(self, command: i64) -> int:
        return tcp_ioctl(self, command)

    def setsockopt(self, level: i64, name: i64, value: int | bytes, admin: bool = True) -> None:
        tcp_setsockopt(self, level, name, value, admin)

    def getsockopt(self, level: i64, name: i64, room: i64 = 0x7FFF_FFFF) -> int | bytes:
        return tcp_getsockopt(self, level, name, room)

    def set_peek_off(self, offset: i64) -> None:
        self.peek_off = offset

    def get_peek_off(self) -> i64:
        return self.peek_off

    def set_keepalive(self, on: bool) -> None:
        tcp_set_keepalive(self, on)

    def set_rcvlowat(self, size: i64) -> None:
        tcp_set_rcvlowat(self, size)

    def options_changed(self) -> None:
        tcp_sync_mss(self, self.pmtu)

    def set_timestamping(self, flags: i64) -> None:
        """Bytes are counted from the first that is not acknowledged, or from the next to be written."""
        if flags & ~self.tsflags & SOF_TIMESTAMPING_OPT_ID:
            if self.state == TCP_CLOSE or self.state == TCP_LISTEN:
                raise error(errno.EINVAL)
            self.tskey = self.write_seq if flags & SOF_TIMESTAMPING_OPT_ID_TCP else self.snd_una
        self.tsflags = flags

    def set_max_pacing_rate(self, rate: i64) -> None:
        """A limit makes pacing necessary, with whatever algorithm."""
        self.max_pacing_rate = rate
        self.pacing_rate = min(self.pacing_rate, rate)
        if rate != PACING_UNLIMITED and self.pacing_status == SK_PACING_NONE:
            self.pacing_status = SK_PACING_NEEDED

    def meminfo(self) -> list[int]:
        words = super().meminfo()
        words[4] = max(int(self.mem_charged - self.rmem_alloc - self.wmem_queued), 0)
        words[5] = int(self.wmem_queued)
        return words


def tcp_poll(tp: TcpControl) -> int:
    """The poll() bits: POLLHUP only when both directions are closed, POLLOUT also to report an error."""
    if tp.state == TCP_LISTEN:
        return POLLIN if tp.accept_queue else 0
    mask = 0
    if tp.shutdown & SHUTDOWN_MASK == SHUTDOWN_MASK or tp.state == TCP_CLOSE:
        mask |= POLLHUP
    if tp.shutdown & RCV_SHUTDOWN:
        mask |= POLLIN | POLLRDHUP
    if tp.state != TCP_SYN_SENT and (tp.state != TCP_SYN_RECV or tp.fastopen_rsk is not None):
        mask |= poll_data(tp)
    elif tp.state == TCP_SYN_SENT and tp.defer_connect:
        mask |= POLLOUT  # the first data makes the connection: it may be written
    if tp.err or (tp.error_queue is not None and tp.error_queue.entries):
        mask |= POLLERR
    return mask


def poll_data(tp: TcpControl) -> int:
    """What a connection that can carry data has and takes."""
    mask = POLLIN if tcp_stream_is_readable(tp, tp.rcvlowat) else 0
    if tp.shutdown & SEND_SHUTDOWN or sk_stream_is_writeable(tp):
        mask |= POLLOUT
    else:
        tp.sock_nospace = True
    if tp.urg_data & TCP_URG_VALID:
        mask |= POLLPRI
    return mask


def tcp_ioctl(tp: TcpControl, command: i64) -> int:
    """Bytes to read, not acknowledged, not sent; whether the urgent byte is next. EINVAL for a listener."""
    if command == SIOCATMARK:
        return int(at_mark(tp))
    if command != SIOCINQ and command != SIOCOUTQ and command != SIOCOUTQNSD:
        raise error(errno.ENOTTY)
    if tp.state == TCP_LISTEN:
        raise error(errno.EINVAL)
    if command == SIOCINQ:
        return int(tcp_inq(tp))
    if tp.state == TCP_SYN_SENT or tp.state == TCP_SYN_RECV:
        return 0
    return int(distance(tp.snd_una if command == SIOCOUTQ else tp.snd_nxt, tp.write_seq))
