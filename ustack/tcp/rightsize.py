"""Dynamic right-sizing: the receive buffer follows what a round trip brings (Linux tcp_rcv_space_adjust).

The receiver measures the round trip by itself: from an echoed timestamp to the data that answers it, or by how long a
window's worth of data takes. What the user has read in one of those, twice, and what a sender in slow start may add to
it, is the window that does not hold the sender back; the buffer is made large enough for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.tcp.seq import before, distance
from ustack.tcp.window import limit_clamp
from ustack.timer import NSEC_PER_MSEC

if TYPE_CHECKING:
    from ustack.tcp.control import TcpControl


def tcp_rcv_rtt_update(tp: TcpControl, sample: i64, window_dependent: bool) -> None:
    """Take a sample of the receiver's round trip, ns: the smallest counts, or by timestamps an average."""
    old = tp.rcv_rtt
    if old == 0 or sample < old:
        tp.rcv_rtt = sample
    elif not window_dependent and tp.rcv_nxt == tp.copied_seq:
        # what waits to be read has held the sender back: such a sample says nothing of the path
        tp.rcv_rtt = old - (old >> 3) + (sample >> 3)


def tcp_rcv_rtt_measure(tp: TcpControl) -> None:
    """The time that a whole window of data takes is a round trip at least."""
    if tp.rcv_rtt_time:
        if before(tp.rcv_nxt, tp.rcv_rtt_seq):
            return
        tcp_rcv_rtt_update(tp, max(tp.net.now - tp.rcv_rtt_time, 1000), True)
    tp.rcv_rtt_seq = (tp.rcv_nxt + tp.rcv_wnd) & 0xFFFF_FFFF
    tp.rcv_rtt_time = tp.net.now


def tcp_rcv_rtt_measure_ts(tp: TcpControl, length: i64) -> None:
    """A full segment with a new echo: the time since we sent what it answers (milliseconds)."""
    if tp.rcv_tsecr == tp.rcv_rtt_last_tsecr:
        return
    tp.rcv_rtt_last_tsecr = tp.rcv_tsecr
    if length < tp.rcv_mss or tp.rcv_tsecr == 0:
        return
    delta: i64 = (tp.mstamp() - tp.rcv_tsecr) & 0xFFFF_FFFF
    if 0 < delta < 0x7FFF_FFFF // 1000:
        tcp_rcv_rtt_update(tp, delta * NSEC_PER_MSEC, False)


def tcp_rcv_space_adjust(tp: TcpControl) -> None:
    """The user has read: once a round trip see how much that was."""
    rtt = tp.rcv_rtt
    if rtt == 0 or tp.net.now - tp.rcvq_time < rtt:
        return
    copied = distance(tp.rcvq_seq, tp.copied_seq) - distance(tp.copied_seq, tp.rcv_nxt)
    if copied > tp.rcvq_space:
        tcp_rcvbuf_grow(tp, copied)
    tp.rcvq_seq = tp.copied_seq
    tp.rcvq_time = tp.net.now


def tcp_rcvbuf_grow(tp: TcpControl, space: i64) -> None:
    """A round trip brings ``space`` bytes: size the buffer for twice that, for a rate that still doubles, and for what
    lies beyond a hole."""
    old = max(tp.rcvq_space, 1)
    tp.rcvq_space = space
    if tp.rcvbuf_locked or tp.net.sysctl.tcp_moderate_rcvbuf == 0:
        return
    window = space << 1
    window += (window * (space - old) // old) << 1
    queue = tp.ofo
    if queue is not None and len(queue):
        window += distance(tp.rcv_nxt, queue.end())
    rcvbuf = min(tp.tcp_space_from_win(window), tp.net.sysctl.tcp_rmem_max)
    if rcvbuf > tp.rcvbuf:
        tp.rcvbuf = rcvbuf
        tp.window_clamp = limit_clamp(tp, tp.tcp_full_space())
