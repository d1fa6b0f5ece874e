"""The user's bytes into the write queue (Linux tcp_sendmsg_locked)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.sock import MSG_MORE, MSG_OOB, SEND_SHUTDOWN, TCP_SYN_RECV, TCP_SYN_SENT, error
from ustack.tcp.control import TCP_NAGLE_CORK, TcpControl
from ustack.tcp.output import tcp_cwnd_restart, tcp_push, tcp_size_goal
from ustack.tcp.segment import SKB_OVERHEAD, TcpSkb
from ustack.tcp.states import CAN_SEND, in_set
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_PSH

if TYPE_CHECKING:
    from ustack.packet import Buffer


def tcp_sendmsg(tp: TcpControl, data: Buffer, flags: i64) -> i64:
    """Queue ``data`` and send what may go; the bytes taken, fewer than given when the send buffer fills.

    The buffer is referred to, not copied: it must not change until it is acknowledged. Raises EAGAIN when nothing
    fits, EPIPE after a shutdown or without a connection, EOPNOTSUPP for MSG_OOB, or the pending error.
    """
    check_may_send(tp, flags)
    size: i64 = len(data)
    if size == 0:
        return 0
    tcp_cwnd_restart(tp)
    goal = tcp_size_goal(tp)
    taken: i64 = 0
    while taken < size and tp.wmem_queued < tp.sndbuf:
        taken += append_piece(tp, data, taken, size, goal)
    if taken == 0:
        tp.sock_nospace = True
        raise error(errno.EAGAIN)
    if taken < size:
        tp.sock_nospace = True
    if not flags & MSG_MORE or tp.pushed():
        mark_push(tp)
    if tp.state != TCP_SYN_SENT and tp.state != TCP_SYN_RECV:
        tcp_push(tp, tp.nonagle | TCP_NAGLE_CORK if flags & MSG_MORE else tp.nonagle)
    return taken


def check_may_send(tp: TcpControl, flags: i64) -> None:
    """Raise what a send on ``tp`` must raise; sk_err comes first, then the shutdown."""
    if flags & MSG_OOB:
        raise error(errno.EOPNOTSUPP)
    if tp.err:
        raise error(tp.take_error())
    if tp.shutdown & SEND_SHUTDOWN:
        raise error(errno.EPIPE)
    if not in_set(tp.state, CAN_SEND):
        if tp.state == TCP_SYN_SENT or tp.state == TCP_SYN_RECV:
            tp.sock_nospace = True
            raise error(errno.EAGAIN)
        raise error(errno.EPIPE)


def append_piece(tp: TcpControl, data: Buffer, start: i64, size: i64, goal: i64) -> i64:
    """Put up to one skb's worth of ``data`` from ``start`` at the tail of the write queue; how much it was."""
    queue = tp.writes()
    skb = queue[-1] if queue else None
    if skb is None or skb.len >= goal:
        skb = TcpSkb(tp.write_seq, TCPHDR_ACK)
        queue.append(skb)
        tp.wmem_queued += SKB_OVERHEAD
    length = min(size - start, goal - skb.len)
    piece: Buffer = data if length == size else memoryview(data)[start : start + length]
    skb.append(piece, length)
    tp.write_seq = skb.end_seq
    tp.wmem_queued += length
    return length


def mark_push(tp: TcpControl) -> None:
    """RFC 9293 MUST-61: the last segment of what the user gave carries PSH."""
    queue = tp.writes()
    if queue:
        queue[-1].flags |= TCPHDR_PSH
        tp.pushed_seq = tp.write_seq
