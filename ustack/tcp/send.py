"""The user's bytes into the write queue (Linux tcp_sendmsg_locked)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.sock import MSG_EOR, MSG_FASTOPEN, MSG_MORE, MSG_OOB, MSG_ZEROCOPY, SEND_SHUTDOWN, error
from ustack.tcp.chrono import tcp_chrono_start
from ustack.tcp.control import TCP_CHRONO_BUSY, TCP_NAGLE_CORK, TCP_NAGLE_PUSH, TcpControl
from ustack.tcp.cwnd import tcp_slow_start_after_idle_check
from ustack.tcp.fastopen_client import tcp_sendmsg_fastopen
from ustack.tcp.memory import sk_wmem_schedule
from ustack.tcp.mss import tcp_size_goal
from ustack.tcp.output import tcp_device_busy, tcp_push, tcp_push_one, tcp_skb_can_collapse_to, tcp_throttle
from ustack.tcp.rate import tcp_rate_check_app_limited
from ustack.tcp.segment import SKB_OVERHEAD, TcpSkb
from ustack.tcp.stream import may_send, sk_stream_error, sk_stream_memory_free, sk_stream_wait_connect
from ustack.tcp.tx_watch import tcp_tx_left, tcp_tx_watch
from ustack.trace.given import Numbers
from ustack.trace.points import Point
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_PSH

if TYPE_CHECKING:
    from ustack.packet import Buffer


def tcp_sendmsg(tp: TcpControl, data: Buffer, flags: i64, addr: i64 = 0, port: i64 = -1) -> i64:
    """Queue ``data`` and send what may go; the bytes taken, fewer than given when the send buffer fills.

    The buffer is referred to, not copied: it must not change until it is acknowledged. Raises EAGAIN when nothing
    fits, EPIPE after a shutdown or without a connection, or the pending error. ``addr`` and ``port`` say where
    MSG_FASTOPEN connects to.
    """
    if flags & MSG_FASTOPEN or tp.defer_connect:
        in_syn = tcp_sendmsg_fastopen(tp, data, addr, port)
        if in_syn:
            tcp_tx_watch(tp, flags)
            if tp.tx_watch is not None:
                tcp_tx_left(tp, tp.tx_watch)
            return in_syn
    tcp_rate_check_app_limited(tp)
    if not may_send(tp):
        sk_stream_wait_connect(tp)
    if tp.err or tp.shutdown & SEND_SHUTDOWN:
        raise sk_stream_error(tp, errno.EPIPE)
    size: i64 = len(data)
    if tp.net.tracer is not None:
        tp.net.tracer.note(Point.TCP_SENDMSG, "", Numbers("queued", tp.wmem_queued, "sndbuf", tp.sndbuf))
    if size == 0:
        return 0
    taken = fill_queue(tp, data, size, flags)
    if taken < size:
        tp.sock_nospace = True
        if taken == 0:
            raise error(errno.EAGAIN)
        tcp_tx_watch(tp, flags)
        push_written(tp, flags & ~MSG_MORE, TCP_NAGLE_PUSH)
    else:
        if tp.tsflags or flags & MSG_ZEROCOPY:
            tcp_tx_watch(tp, flags)
        push_written(tp, flags, tp.nonagle)
    return taken


def fill_queue(tp: TcpControl, data: Buffer, size: i64, flags: i64) -> i64:
    """As much of ``data`` as fits; skbs that are full go out on the way, so that a long write does not wait."""
    goal = tcp_size_goal(tp)
    taken: i64 = 0
    while taken < size:
        skb = tcp_write_queue_tail(tp)
        if skb is None or skb.len >= goal or not tcp_skb_can_collapse_to(skb):
            if not sk_stream_memory_free(tp) or not sk_wmem_schedule(tp, min(size - taken, goal) + SKB_OVERHEAD):
                break
            skb = tcp_skb_entail(tp)
        taken += append_piece(tp, skb, data, taken, size, goal)
        if taken == size:
            if flags & MSG_EOR:
                skb.eor = True
        elif skb.len >= goal and not flags & MSG_OOB:
            push_full(tp, skb)
    return taken


def push_full(tp: TcpControl, skb: TcpSkb) -> None:
    """One more full skb with more to come: it may go already if it is the first, or if it is time for a PSH."""
    if tp.pushed():
        tcp_mark_push(tp, skb)
        tcp_push(tp, TCP_NAGLE_PUSH)
    elif tp.send_head() is skb:
        tcp_push_one(tp)


def tcp_write_queue_tail(tp: TcpControl) -> TcpSkb | None:
    queue = tp.write_queue
    return queue[-1] if queue else None


def tcp_skb_entail(tp: TcpControl) -> TcpSkb:
    """A new skb at the end of the write queue; an explicit push was for what came before it."""
    tcp_slow_start_after_idle_check(tp)
    skb = TcpSkb(tp.write_seq, TCPHDR_ACK)
    queue = tp.writes()
    if not queue:
        tcp_chrono_start(tp, TCP_CHRONO_BUSY)
    queue.append(skb)
    tp.wmem_queued += SKB_OVERHEAD
    tp.nonagle &= ~TCP_NAGLE_PUSH
    return skb


def append_piece(tp: TcpControl, skb: TcpSkb, data: Buffer, start: i64, size: i64, goal: i64) -> i64:
    """Put as much of ``data`` from ``start`` into ``skb`` as it may hold; how much it was."""
    length = min(size - start, goal - skb.len)
    piece: Buffer = data if length == size else memoryview(data)[start : start + length]
    if start == 0:
        skb.flags &= ~TCPHDR_PSH
    skb.append(piece, length)
    tp.write_seq = skb.end_seq
    tp.wmem_queued += length
    return length


def push_written(tp: TcpControl, flags: i64, nonagle: i64) -> None:
    """The user has given what there is: mark it, and send it unless more is promised or near (tcp_push)."""
    skb = tcp_write_queue_tail(tp)
    if skb is None:
        return
    if not flags & MSG_MORE or tp.pushed():
        tcp_mark_push(tp, skb)
    if flags & MSG_OOB:
        # RFC 9293 3.8.5 (MUST-62 as amended by RFC 6093): the pointer is one past the last byte of urgent data
        tp.urg_mode = True
        tp.snd_up = tp.write_seq
    if tcp_should_autocork(tp, skb):
        return
    tcp_push(tp, TCP_NAGLE_CORK if flags & MSG_MORE else nonagle)


def tcp_mark_push(tp: TcpControl, skb: TcpSkb) -> None:
    """RFC 9293 MUST-61: the last segment of what the user gave carries PSH."""
    skb.flags |= TCPHDR_PSH
    tp.pushed_seq = tp.write_seq


def tcp_should_autocork(tp: TcpControl, skb: TcpSkb) -> bool:
    """True to let small writes gather while earlier ones wait for the device: the end of its queue sends them."""
    if not tcp_device_busy(tp) or tp.rtx_head() is None or tp.net.sysctl.tcp_autocorking == 0:
        return False
    if skb.len >= tcp_size_goal(tp) or not tcp_skb_can_collapse_to(skb):
        return False
    if not tp.tsq_throttled:
        tp.net.mib.tcpext.TCPAutoCorking += 1
        tcp_throttle(tp)
    return True
