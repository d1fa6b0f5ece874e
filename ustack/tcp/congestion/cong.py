"""Which algorithm a connection has, and its beginning and end (Linux net/ipv4/tcp_cong.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ustack.sock import TCP_CLOSE, TCP_LISTEN, error
from ustack.tcp.ecn import INET_ECN_dontxmit, INET_ECN_xmit

if TYPE_CHECKING:
    from ustack.tcp.congestion.base import CongestionOps
    from ustack.tcp.control import TcpControl


def tcp_assign_congestion_control(tp: TcpControl) -> None:
    """A new socket, or a child whose listener chose none, has the stack's default."""
    tcp_take_congestion_control(tp, tp.tables.congestion.default())


def tcp_take_congestion_control(tp: TcpControl, ops: CongestionOps) -> None:
    """``ops`` it is; nothing is kept of another algorithm."""
    tp.congestion = ops
    tp.ca_priv = None
    set_ect(tp)


def set_ect(tp: TcpControl) -> None:
    """All that is sent is ECT for an algorithm that needs ECN; else it is as the segment deserves (tcp_ecn_send)."""
    if tp.congestion.needs_ecn:
        INET_ECN_xmit(tp)
    else:
        INET_ECN_dontxmit(tp)


def tcp_init_congestion_control(tp: TcpControl) -> None:
    """The connection is established."""
    tp.prior_ssthresh = 0
    tp.congestion.init(tp)
    set_ect(tp)


def tcp_cleanup_congestion_control(tp: TcpControl) -> None:
    """It is closed."""
    tp.congestion.release(tp)
    tp.ca_priv = None


def tcp_set_congestion_control(tp: TcpControl, name: str, admin: bool) -> None:
    """TCP_CONGESTION: another algorithm, which starts afresh on a living connection.

    Raises EPERM if the route has locked its own or if ``admin`` (CAP_NET_ADMIN) is needed, ENOENT for no such name.
    """
    if tp.ca_dst_locked:
        raise error(errno.EPERM)
    registry = tp.tables.congestion
    ops = registry.find(name)
    if ops is not tp.congestion:
        if name not in registry.allowed and not admin:
            raise error(errno.EPERM)
        tcp_cleanup_congestion_control(tp)
        tcp_take_congestion_control(tp, ops)
        if tp.state != TCP_CLOSE and tp.state != TCP_LISTEN:
            tcp_init_congestion_control(tp)
    tp.ca_setsockopt = True


def tcp_ca_openreq_child(child: TcpControl, listener: TcpControl) -> None:
    """A connection accepted has its listener's algorithm if that was chosen, else today's default; a route's word
    (tcp_ca_dst_init) comes after this and goes before it."""
    if listener.ca_setsockopt:
        child.ca_setsockopt = True
        tcp_take_congestion_control(child, listener.congestion)
    else:
        tcp_assign_congestion_control(child)
