"""Urgent data that comes in (RFC 9293 section 3.8.5, RFC 6093; Linux tcp_check_urg, tcp_urg, tcp_recv_urg).

RFC 6093 section 3.2: what middleboxes, stacks and programs agree on is one urgent byte; like everybody's, our pointer
says one past it unless tcp_stdurg. The byte stays in line with SO_OOBINLINE; else it is skipped by the reader, who
stops before it once, and is read with MSG_OOB.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.sock import MSG_OOB, MSG_PEEK, MSG_TRUNC, RCV_SHUTDOWN, TCP_CLOSE, error
from ustack.tcp.control import TCP_URG_NOTYET, TCP_URG_READ, TCP_URG_VALID, TcpControl
from ustack.tcp.notify import DATA_READY, tcp_wake
from ustack.tcp.seq import after, before, distance
from ustack.wire.tcp import TCPHDR_SYN, TCPHDR_URG, TcpHeader

if TYPE_CHECKING:
    from ustack.packet import Packet


def tcp_urg(tp: TcpControl, packet: Packet, th: TcpHeader) -> None:
    """Sixth step of segment arrival: a new pointer, and the byte it points to if this segment has it.

    RFC 9293 3.10.7.4: "RCV.UP <- max(RCV.UP,SEG.UP), and signal the user that the remote side has urgent data".
    """
    if th.flags & TCPHDR_URG:
        tcp_check_urg(tp, th)
    if tp.urg_data == TCP_URG_NOTYET:
        at = distance(th.seq, tp.urg_seq) - (1 if th.flags & TCPHDR_SYN else 0)
        if 0 <= at < th.end - th.payload:
            tp.urg_data = TCP_URG_VALID | packet.buf[th.payload + at]
            if not tp.dead:
                tcp_wake(tp, DATA_READY)


def tcp_check_urg(tp: TcpControl, th: TcpHeader) -> None:
    """Take the pointer of a segment with URG if it is newer than what is known and not yet passed by the reader."""
    pointer = th.urg_ptr
    if pointer and tp.net.sysctl.tcp_stdurg == 0:
        pointer -= 1
    seq = (th.seq + pointer) & 0xFFFF_FFFF
    if after(tp.copied_seq, seq) or before(seq, tp.rcv_nxt):
        return  # read already, or received as ordinary text before anything was said of it
    if tp.urg_data and not after(seq, tp.urg_seq):
        return
    if tp.urg_data and tp.urg_seq == tp.copied_seq and not tp.oobinline and tp.copied_seq != tp.rcv_nxt:
        # the reader stands at the old mark: its byte is passed now, or it would be read as ordinary text
        take(tp, 1)
    tp.urg_data = TCP_URG_NOTYET
    tp.urg_seq = seq
    if not tp.dead:
        tcp_wake(tp, DATA_READY)  # in place of SIGURG


def take(tp: TcpControl, count: i64) -> None:
    """Pass over ``count`` bytes that are in the receive queue's first segment."""
    queue = tp.receive_queue
    if not queue:
        return
    segment = queue[0]
    tp.copied_seq = (tp.copied_seq + count) & 0xFFFF_FFFF
    if len(segment.data) <= count:
        queue.popleft()
        tp.rmem_alloc -= segment.truesize
    else:
        segment.data = memoryview(segment.data)[count:]


def tcp_recv_urg(tp: TcpControl, length: i64, flags: i64) -> bytes:
    """recv(MSG_OOB): the urgent byte. EINVAL if there is none out of line, EAGAIN if it has not come yet."""
    if tp.oobinline or tp.urg_data == 0 or tp.urg_data == TCP_URG_READ:
        raise error(errno.EINVAL)
    if tp.state == TCP_CLOSE and not tp.fin_received:
        raise error(errno.ENOTCONN)
    if tp.urg_data & TCP_URG_VALID:
        byte = tp.urg_data & 0xFF
        if not flags & MSG_PEEK:
            tp.urg_data = TCP_URG_READ
        if length <= 0:
            return b""
        return bytes(1) if flags & MSG_TRUNC else bytes([byte])
    if tp.state == TCP_CLOSE or tp.shutdown & RCV_SHUTDOWN:
        return b""
    raise error(errno.EAGAIN)


def urgent_flags(data: bytes, length: i64) -> i64:
    """What recvmsg says of an urgent byte beside it: that it is one, and that there was no room for it."""
    if data:
        return MSG_OOB
    return 0 if length > 0 else MSG_OOB | MSG_TRUNC


def at_mark(tp: TcpControl) -> bool:
    """SIOCATMARK, sockatmark(): the next byte to read is the urgent one, or the first after it in line."""
    return tp.urg_data != 0 and tp.urg_seq == tp.copied_seq


def skips_mark(tp: TcpControl) -> bool:
    """True if a read that begins now begins with an urgent byte that is not in line: it is passed over."""
    return at_mark(tp) and not tp.oobinline


def up_to_mark(tp: TcpControl, limit: i64) -> i64:
    """How much of a read of ``limit`` bytes from here on lies before the mark: it ends there, once."""
    ahead = distance(tp.copied_seq, tp.urg_seq)
    return ahead if 0 < ahead < limit else limit


def mark_passed(tp: TcpControl) -> None:
    """After a read: an urgent byte that lies behind the reader is nobody's any more."""
    if after(tp.copied_seq, tp.urg_seq):
        tp.urg_data = 0
