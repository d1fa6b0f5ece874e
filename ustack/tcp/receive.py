"""The received bytes out to the user (Linux tcp_recvmsg_locked, tcp_read_sock, tcp_cleanup_rbuf)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.sock import (
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    MSG_WAITALL,
    RCV_SHUTDOWN,
    TCP_CLOSE,
    TCP_LISTEN,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    error,
)
from ustack.tcp.control import ICSK_ACK_NOW, ICSK_ACK_PUSHED, ICSK_ACK_PUSHED2, ICSK_ACK_SCHED, TcpControl
from ustack.tcp.data import tcp_epollin_ready
from ustack.tcp.memory import PAGE_SIZE, sk_mem_reclaim
from ustack.tcp.rightsize import tcp_rcv_space_adjust
from ustack.tcp.seq import before, distance
from ustack.tcp.transmit import tcp_queue_ack
from ustack.tcp.urgent import at_mark, mark_passed, skips_mark, take, tcp_recv_urg, up_to_mark
from ustack.tcp.window import usable_window
from ustack.trace.given import Numbers
from ustack.trace.points import Point

if TYPE_CHECKING:
    from ustack.packet import Buffer


def tcp_recvmsg(tp: TcpControl, length: i64, flags: i64) -> bytes:
    """At most ``length`` bytes of the stream, b"" at its end. Raises EAGAIN, ENOTCONN, EINVAL, or the pending error.

    MSG_PEEK leaves the bytes where they are, MSG_TRUNC throws them away (and gives back as many zero bytes), MSG_OOB
    reads the urgent byte. What is there is given, be it less than SO_RCVLOWAT or MSG_WAITALL ask for: see recv_target.
    """
    if tp.net.tracer is not None:
        unread = Numbers("length", length, "unread", distance(tp.copied_seq, tp.rcv_nxt))
        tp.net.tracer.note(Point.TCP_RECVMSG, "", unread)
    if tp.state == TCP_LISTEN:
        raise error(errno.ENOTCONN)
    if flags & MSG_OOB:
        return tcp_recv_urg(tp, length, flags)
    if not tp.receive_queue:
        return end_of_stream(tp, flags)
    pieces = peek(tp, length) if flags & MSG_PEEK else tcp_read_sock(tp, length)
    if not pieces and length > 0:
        return end_of_stream(tp, flags)  # the urgent byte alone was there, and is out of line
    return bytes(sum(map(len, pieces))) if flags & MSG_TRUNC else b"".join(pieces)


def recv_target(tp: TcpControl, length: i64, flags: i64) -> i64:
    """How much a read that may wait waits for (sock_rcvlowat); an error, the end, or a mark end it before."""
    return length if flags & MSG_WAITALL else max(min(tp.rcvlowat, length), 1)


def recv_ends(tp: TcpControl) -> bool:
    """True if a read that has got something waits for no more: an error is pending, it is the end, or here is a mark.

    The error is for the next read to tell.
    """
    return tp.err != 0 or tp.state == TCP_CLOSE or tp.shutdown & RCV_SHUTDOWN != 0 or at_mark(tp)


def end_of_stream(tp: TcpControl, flags: i64) -> bytes:
    """Nothing to read: b"" after a FIN or a local shutdown, else the error that says why."""
    tcp_cleanup_rbuf(tp, 0)
    if tp.fin_received:
        if not flags & MSG_PEEK:
            tp.fin_unread = False
        return b""
    if tp.err:
        raise error(int(tp.take_error()))
    if tp.shutdown & RCV_SHUTDOWN:
        return b""
    if tp.state == TCP_CLOSE:
        raise error(errno.ENOTCONN)
    raise error(errno.EAGAIN)


def peek(tp: TcpControl, length: i64) -> list[Buffer]:
    """``length`` bytes, not consumed; not beyond a mark, nor the urgent byte itself.

    They are the first, or with SO_PEEK_OFF those behind what was looked at before.
    """
    pieces: list[Buffer] = []
    skip: i64 = max(tp.peek_off, 0)
    left = length
    if tp.urg_data:
        ahead = distance((tp.copied_seq + skip) & 0xFFFF_FFFF, tp.urg_seq)
        if ahead == 0 and not tp.oobinline:
            skip += 1
        elif 0 < ahead < left:
            left = ahead
    copied: i64 = 0
    for segment in tp.received():
        if copied >= left:
            break
        size: i64 = len(segment.data)
        if skip >= size:
            skip -= size
            continue
        piece = memoryview(segment.data)[skip : skip + left - copied]
        skip = 0
        pieces.append(piece)
        copied += len(piece)
    if tp.peek_off >= 0:
        tp.peek_off += copied
    tcp_cleanup_rbuf(tp, copied)
    return pieces


def tcp_read_sock(tp: TcpControl, limit: i64) -> list[Buffer]:
    """Take up to ``limit`` bytes as the pieces they came in, without copying; empty if nothing is there.

    A read ends before urgent data that is out of line; the next one begins after it.
    """
    pieces: list[Buffer] = []
    queue = tp.receive_queue
    if not queue:
        return pieces
    left = limit
    if tp.urg_data:
        if limit > 0 and skips_mark(tp):
            take(tp, 1)
        left = limit = up_to_mark(tp, limit)
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
    if tp.urg_data:
        mark_passed(tp)
    if tp.peek_off > 0:
        tp.peek_off = max(tp.peek_off - (limit - left), 0)
    if tp.mem_charged - tp.rmem_alloc - tp.wmem_queued >= PAGE_SIZE:
        sk_mem_reclaim(tp)
    tcp_rcv_space_adjust(tp)
    tcp_cleanup_rbuf(tp, limit - left)
    return pieces


def tcp_cleanup_rbuf(tp: TcpControl, copied: i64) -> None:
    """``copied`` bytes were read: send an ACK that waited for it, or to say that the window has doubled at least."""
    if tp.state == TCP_CLOSE:
        return
    if ack_due(tp, copied) or (copied > 0 and window_update_due(tp)):
        if tp.net.tracer is not None:
            facts = Numbers("copied", copied, "window", tp.tcp_receive_window())
            tp.net.tracer.note(Point.TCP_CLEANUP_RBUF, "an ACK waited" if ack_due(tp, copied) else "room", facts)
        tp.ack_pending |= ICSK_ACK_SCHED | ICSK_ACK_NOW
        tcp_queue_ack(tp)


def ack_due(tp: TcpControl, copied: i64) -> bool:
    """True if an ACK is owed for more than a full segment, or for a write that ended (PSH), the reader has taken all of
    it, and none will answer it."""
    pending = tp.ack_pending
    if not pending & ICSK_ACK_SCHED:
        return False
    if distance(tp.rcv_wup, tp.rcv_nxt) > tp.rcv_mss:
        return True
    if copied <= 0 or tp.rmem_alloc:
        return False
    return pending & ICSK_ACK_PUSHED2 != 0 or (pending & ICSK_ACK_PUSHED != 0 and not tp.in_pingpong_mode())


def window_update_due(tp: TcpControl) -> bool:
    """True if reading has opened the window to at least twice what the peer knows."""
    if tp.shutdown & RCV_SHUTDOWN:
        return False
    known = tp.tcp_receive_window()
    if 2 * known > tp.window_clamp:
        return False
    window = usable_window(tp)
    return window > 0 and window >= 2 * known


# -- how much there is


def tcp_inq(tp: TcpControl) -> i64:
    """SIOCINQ: bytes to read, up to a mark ahead; the FIN is none."""
    if tp.state == TCP_SYN_SENT or tp.state == TCP_SYN_RECV:
        return 0
    if tp.urg_data and not tp.oobinline and not before(tp.urg_seq, tp.copied_seq) and before(tp.urg_seq, tp.rcv_nxt):
        return distance(tp.copied_seq, tp.urg_seq)
    unread = distance(tp.copied_seq, tp.rcv_nxt)
    return unread - 1 if unread and tp.fin_received else unread


def tcp_inq_hint(tp: TcpControl) -> i64:
    """What TCP_CM_INQ says after a read: bytes left, and after the FIN at least one, so that the user reads on."""
    unread = distance(tp.copied_seq, tp.rcv_nxt)
    return 1 if unread == 0 and tp.fin_received else unread


def tcp_stream_is_readable(tp: TcpControl, target: i64) -> bool:
    """POLLIN of data: ``target`` bytes (SO_RCVLOWAT), an urgent one at the mark not counted."""
    if tp.urg_data and skips_mark(tp):
        target += 1
    return tp.receive_queue is not None and len(tp.receive_queue) != 0 and tcp_epollin_ready(tp, target)
