"""The received bytes out to the user (Linux tcp_recvmsg_locked, tcp_read_sock, tcp_cleanup_rbuf)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.sock import MSG_OOB, MSG_PEEK, MSG_TRUNC, RCV_SHUTDOWN, TCP_CLOSE, TCP_LISTEN, error
from ustack.tcp.control import ICSK_ACK_NOW, ICSK_ACK_PUSHED, ICSK_ACK_PUSHED2, ICSK_ACK_SCHED, TcpControl
from ustack.tcp.data import window_update_due
from ustack.tcp.transmit import tcp_queue_ack
from ustack.tcp.window import tcp_rcv_space_adjust

if TYPE_CHECKING:
    from ustack.packet import Buffer


def tcp_recvmsg(tp: TcpControl, length: i64, flags: i64) -> bytes:
    """At most ``length`` bytes of the stream, b"" at its end. Raises EAGAIN, ENOTCONN, EINVAL, or the pending error.

    MSG_PEEK leaves the bytes where they are, MSG_TRUNC throws them away (and gives back as many zero bytes).
    """
    if tp.state == TCP_LISTEN:
        raise error(errno.ENOTCONN)
    if flags & MSG_OOB:
        raise error(errno.EINVAL)  # urgent data stays in line: there is never any out of it
    if not tp.receive_queue:
        return end_of_stream(tp)
    if flags & MSG_PEEK:
        return b"".join(peek(tp, length))
    pieces = tcp_read_sock(tp, length)
    return bytes(sum(map(len, pieces))) if flags & MSG_TRUNC else b"".join(pieces)


def end_of_stream(tp: TcpControl) -> bytes:
    """Nothing to read: b"" after a FIN or a local shutdown, else the error that says why."""
    if tp.fin_received:
        return b""
    if tp.err:
        raise error(tp.take_error())
    if tp.shutdown & RCV_SHUTDOWN:
        return b""
    if tp.state == TCP_CLOSE:
        raise error(errno.ENOTCONN)
    raise error(errno.EAGAIN)


def peek(tp: TcpControl, length: i64) -> list[Buffer]:
    """The first ``length`` bytes, not consumed."""
    pieces: list[Buffer] = []
    left = length
    for segment in tp.received():
        if left <= 0:
            break
        piece = memoryview(segment.data)[:left]
        pieces.append(piece)
        left -= len(piece)
    return pieces


def tcp_read_sock(tp: TcpControl, limit: i64) -> list[Buffer]:
    """Take up to ``limit`` bytes as the pieces they came in, without copying; empty if nothing is there."""
    pieces: list[Buffer] = []
    queue = tp.receive_queue
    if not queue:
        return pieces
    left = limit
    while queue and left > 0:
        segment = queue[0]
        size: i64 = len(segment.data)
        if size <= left:
            queue.popleft()
            tp.rmem_alloc -= segment.truesize
            pieces.append(segment.data)
            tp.copied_seq = (tp.copied_seq + size) & 0xFFFF_FFFF
            left -= size
        else:
            view = memoryview(segment.data)
            pieces.append(view[:left])
            segment.data = view[left:]
            tp.copied_seq = (tp.copied_seq + left) & 0xFFFF_FFFF
            left = 0
    tcp_rcv_space_adjust(tp)
    tcp_cleanup_rbuf(tp, limit - left)
    return pieces


def tcp_cleanup_rbuf(tp: TcpControl, copied: i64) -> None:
    """``copied`` bytes were read: send an ACK that waited for it, or to say that the window has doubled at least."""
    if tp.state != TCP_CLOSE and copied and (ack_due(tp) or window_update_due(tp)):
        tp.ack_pending |= ICSK_ACK_SCHED | ICSK_ACK_NOW
        tcp_queue_ack(tp)


def ack_due(tp: TcpControl) -> bool:
    """True if an ACK is owed for a write that ended (PSH), the reader has taken all of it, and none will answer it."""
    pending = tp.ack_pending
    if not pending & ICSK_ACK_SCHED or tp.rmem_alloc:
        return False
    return pending & ICSK_ACK_PUSHED2 != 0 or (pending & ICSK_ACK_PUSHED != 0 and not tp.ack_pingpong)
