"""TcpSock: the operations of a TCP socket (Linux struct proto tcp_prot)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.sock import (
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    POLLRDHUP,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
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
from ustack.tcp.control import TcpControl
from ustack.tcp.options import tcp_getsockopt, tcp_set_keepalive, tcp_setsockopt
from ustack.tcp.receive import tcp_recvmsg
from ustack.tcp.send import tcp_sendmsg
from ustack.tcp.timers import attach_timers

if TYPE_CHECKING:
    from ustack.net import Net
    from ustack.packet import Buffer
    from ustack.tcp.congestion.base import CongestionOps
    from ustack.tcp.tables import TcpTables


class TcpSock(TcpControl):
    """A whole TCP socket; see Sock for what each operation promises."""

    def __init__(self, net: Net, tables: TcpTables, congestion: CongestionOps) -> None:
        super().__init__(net, tables, congestion)
        attach_timers(self)

    def get_port(self, port: i64) -> None:
        self.tables.ports.bind(self, port)

    def put_port(self) -> None:
        self.tables.ports.release(self)
        self.num = 0

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
        """``addr`` and ``port`` are ignored on a connected stream, as Linux does; EISCONN is not raised."""
        return tcp_sendmsg(self, data, flags)

    def recvmsg(self, length: i64, flags: i64) -> Message:
        return Message(tcp_recvmsg(self, length, flags), 0, 0, 0)

    def shutdown_how(self, how: i64) -> None:
        if self.state == TCP_CLOSE:
            raise error(errno.ENOTCONN)
        tcp_shutdown(self, how)

    def close(self) -> None:
        tcp_close(self)

    def poll(self) -> int:
        """tcp_poll: POLLHUP only when both directions are closed, POLLOUT also to report an error."""
        if self.state == TCP_LISTEN:
            return POLLIN if self.accept_queue else 0
        mask = 0
        if self.shutdown & SHUTDOWN_MASK == SHUTDOWN_MASK or self.state == TCP_CLOSE:
            mask |= POLLHUP
        if self.shutdown & RCV_SHUTDOWN:
            mask |= POLLIN | POLLRDHUP
        if self.state != TCP_SYN_SENT and self.state != TCP_SYN_RECV:
            if self.receive_queue:
                mask |= POLLIN
            if self.shutdown & SEND_SHUTDOWN:
                mask |= POLLOUT
            elif self.wmem_queued < self.sndbuf - (self.sndbuf >> 2):
                mask |= POLLOUT
            else:
                self.sock_nospace = True
        if self.err:
            mask |= POLLERR
        return mask

    def setsockopt(self, level: i64, name: i64, value: int) -> None:
        tcp_setsockopt(self, level, name, value)

    def getsockopt(self, level: i64, name: i64) -> int | bytes:
        return tcp_getsockopt(self, level, name)

    def set_keepalive(self, on: bool) -> None:
        tcp_set_keepalive(self, on)
