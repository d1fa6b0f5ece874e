"""When what was received is acknowledged: now, with the batch, later, or compressed (RFC 9293 section 3.8.6.3).

Linux __tcp_ack_snd_check, tcp_send_delayed_ack.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from ustack.tcp.compress import tcp_compress_ack
from ustack.tcp.control import (
    ICSK_ACK_NOW,
    ICSK_ACK_PUSHED,
    ICSK_ACK_SCHED,
    ICSK_ACK_TIMER,
    TCP_DELACK_MAX,
    TCP_DELACK_MIN,
    TcpControl,
)
from ustack.tcp.seq import distance
from ustack.tcp.transmit import tcp_queue_ack, tcp_send_ack
from ustack.tcp.window import usable_window
from ustack.timer import NSEC_PER_MSEC
from ustack.trace.points import Point
from ustack.trace.words import usec

#: Longest delay where nothing says that the peer waits for us (HZ / 2, ns); the limits below cut it shorter.
MAX_ATO: Final[i64] = 500 * NSEC_PER_MSEC

#: A timer for this very moment goes off with the next tick (a jiffy of HZ=1000, ns).
TICK: Final[i64] = NSEC_PER_MSEC


def tcp_ack_snd_check(tp: TcpControl) -> None:
    """After a segment: acknowledge what is owed.

    RFC 9293 SHLD-19: "an ACK SHOULD be generated for at least every second full-sized segment". What fills or lies
    beyond a hole, or came twice, is never left to the end of the batch: each such ACK says something of its own.
    """
    if not tp.ack_pending & ICSK_ACK_SCHED:
        return
    alone = tp.ofo is not None or tp.duplicate_sack is not None
    if tp.ack_queued and not alone:
        return
    # in this order: who has looked at a window that is half gone is in no quick ACK mode any more
    if enough_unacked(tp) or tp.ack_pending & ICSK_ACK_NOW or tp.in_quickack_mode():
        if alone:
            tcp_send_ack(tp)
        else:
            tcp_queue_ack(tp)
    elif tp.ofo is None:
        tcp_send_delayed_ack(tp)
    elif not tcp_compress_ack(tp):
        tcp_send_ack(tp)


def enough_unacked(tp: TcpControl) -> bool:
    """More than a full segment has come, and the window's right edge can follow; else the reader sends the ACK.

    Unless he waits for more than has come (SO_RCVLOWAT): he cannot.
    """
    if distance(tp.rcv_wup, tp.rcv_nxt) <= tp.rcv_mss:
        return False
    return distance(tp.copied_seq, tp.rcv_nxt) < tp.rcvlowat or usable_window(tp) >= tp.rcv_wnd


def tcp_delack_max(tp: TcpControl) -> i64:
    """Longest delay (ns): shorter than the peer's RTO can be, which is taken to be like ours."""
    return min(min(tp.delack_max_ns, TCP_DELACK_MAX), max(tp.rto_min(), 2 * NSEC_PER_MSEC) - NSEC_PER_MSEC)


def tcp_send_delayed_ack(tp: TcpControl) -> None:
    """Let the ACK wait for company, at most half a second (RFC 9293 MUST-40), in practice 40 to 200 ms."""
    delay = tp.ato
    if delay > TCP_DELACK_MIN:
        longest = MAX_ATO
        if tp.ack_pending & ICSK_ACK_PUSHED or tp.in_pingpong_mode():
            longest = TCP_DELACK_MAX
        if tp.srtt:
            longest = min(longest, max(tp.srtt, TCP_DELACK_MIN))
        delay = min(delay, longest)
    delay = max(min(delay, tcp_delack_max(tp)), TICK)
    due = tp.net.now + delay
    if tp.net.tracer is not None and tp.net.tracer.current is not None:
        tp.net.tracer.here(Point.TCP_SEND_DELAYED_ACK, f"ACK in {usec(int(delay))}", {"ato": usec(int(tp.ato))})
    timer = tp.delack_timer
    if tp.ack_pending & ICSK_ACK_TIMER and timer is not None:
        if timer.expires <= tp.net.now + max(delay >> 2, TICK):
            # an earlier one is about to go anyway
            return tcp_send_ack(tp)
        due = min(due, timer.expires)
    tp.ack_pending |= ICSK_ACK_TIMER
    tp.reset_delack_timer(due)
    return None
