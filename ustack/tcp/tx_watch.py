"""What the user wants to hear of bytes he has sent: their times, and when their buffers are his again.

tcp_tx_timestamp, tcp_ack_tstamp and the life of a struct ubuf_info_msgzc in Linux. Who has asked for neither has none
of this: each hook is one test for None.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.error_queue import (
    SCM_TSTAMP_ACK,
    SCM_TSTAMP_SCHED,
    SCM_TSTAMP_SND,
    SO_EE_ORIGIN_TIMESTAMPING,
    SOF_TIMESTAMPING_OPT_ID,
    SOF_TIMESTAMPING_OPT_TSONLY,
    SOF_TIMESTAMPING_TX_ACK,
    SOF_TIMESTAMPING_TX_SCHED,
    SOF_TIMESTAMPING_TX_SOFTWARE,
    ErrorQueue,
    ExtendedError,
)
from ustack.sock import MSG_ZEROCOPY
from ustack.tcp.notify import ERROR_REPORT, tcp_wake
from ustack.tcp.seq import after, before

if TYPE_CHECKING:
    from ustack.tcp.control import TcpControl

_TX_RECORD: Final[i64] = SOF_TIMESTAMPING_TX_ACK | SOF_TIMESTAMPING_TX_SCHED | SOF_TIMESTAMPING_TX_SOFTWARE


class Sent:
    """One sendmsg whose bytes end at ``end_seq``."""

    def __init__(self, end_seq: i64) -> None:
        self.end_seq: i64 = end_seq
        self.tsflags: i64 = 0  #: of its last byte: the moments that are still to come
        self.first: i64 = -1  #: numbers of zerocopy sends that end here, -1 for none
        self.last: i64 = -1


class TxWatch:
    """Of one connection."""

    def __init__(self) -> None:
        self.sent: deque[Sent] = deque()  #: in order; bounded by what the send buffer holds
        self.queued: deque[Sent] = deque()  #: those of them that are to be told of when they leave
        self.zckey: i64 = 0  #: the number of the next zerocopy send


def tcp_tx_watch(tp: TcpControl, flags: i64) -> None:
    """A sendmsg has added bytes up to write_seq; to be called before they are pushed."""
    zerocopy = flags & MSG_ZEROCOPY != 0 and tp.zerocopy
    stamps = tp.tsflags & _TX_RECORD
    if not zerocopy and not stamps:
        return
    watch = tp.tx_watch
    if watch is None:
        watch = tp.tx_watch = TxWatch()
    entry = Sent(tp.write_seq)
    entry.tsflags = stamps
    if zerocopy:
        entry.first = entry.last = watch.zckey
        watch.zckey = (watch.zckey + 1) & 0xFFFF_FFFF
    watch.sent.append(entry)
    if stamps & (SOF_TIMESTAMPING_TX_SCHED | SOF_TIMESTAMPING_TX_SOFTWARE):
        watch.queued.append(entry)


def tcp_tx_left(tp: TcpControl, watch: TxWatch) -> None:
    """Bytes up to snd_nxt were sent for the first time: through the queue and out of the device at once."""
    while watch.queued and not after(watch.queued[0].end_seq, tp.snd_nxt):
        entry = watch.queued.popleft()
        if entry.tsflags & SOF_TIMESTAMPING_TX_SCHED:
            tell_time(tp, entry, SCM_TSTAMP_SCHED)
        if entry.tsflags & SOF_TIMESTAMPING_TX_SOFTWARE:
            tell_time(tp, entry, SCM_TSTAMP_SND)


def tcp_tx_acked(tp: TcpControl, watch: TxWatch) -> None:
    """Bytes up to snd_una have arrived."""
    while watch.sent and not before(tp.snd_una, watch.sent[0].end_seq):
        entry = watch.sent.popleft()
        if entry.tsflags & SOF_TIMESTAMPING_TX_ACK:
            tell_time(tp, entry, SCM_TSTAMP_ACK)
        release(tp, entry)


def tcp_tx_purged(tp: TcpControl, watch: TxWatch) -> None:
    """Nothing will be sent any more: every buffer is free."""
    watch.queued.clear()
    while watch.sent:
        release(tp, watch.sent.popleft())


def tell_time(tp: TcpControl, entry: Sent, which: i64) -> None:
    """The last byte has come so far (__skb_tstamp_tx)."""
    key = (entry.end_seq - 1 - tp.tskey) & 0xFFFF_FFFF if tp.tsflags & SOF_TIMESTAMPING_OPT_ID else 0
    report = ExtendedError(errno.ENOMSG, SO_EE_ORIGIN_TIMESTAMPING, 0, which, key, tp.net.now)
    report.length = 0 if tp.tsflags & SOF_TIMESTAMPING_OPT_TSONLY else 1
    if error_queue(tp).add(tp, report):
        tcp_wake(tp, ERROR_REPORT)


def release(tp: TcpControl, entry: Sent) -> None:
    """msg_zerocopy_put."""
    if entry.first >= 0 and error_queue(tp).zerocopy_done(tp, entry.first, entry.last):
        tcp_wake(tp, ERROR_REPORT)


def error_queue(tp: TcpControl) -> ErrorQueue:
    if tp.error_queue is None:
        tp.error_queue = ErrorQueue()
    return tp.error_queue
