"""Received bytes: in order, early, late, beyond the window; and the acknowledgement they deserve.

RFC 9293 section 3.10.7.4, seventh and eighth steps; Linux tcp_data_queue, tcp_data_queue_ofo, __tcp_ack_snd_check.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.drop import Reason
from ustack.sock import RCV_SHUTDOWN
from ustack.tcp.control import (
    ICSK_ACK_NOW,
    ICSK_ACK_PUSHED,
    ICSK_ACK_PUSHED2,
    ICSK_ACK_SCHED,
    ICSK_ACK_TIMER,
    TCP_ATO_MIN,
    TCP_DELACK_MAX,
    TCP_DELACK_MIN,
    TCP_MAX_QUICKACKS,
    TCP_MIN_MSS,
    TCP_MSS_DEFAULT,
    TIMESTAMP_LEN,
    TcpControl,
)
from ustack.tcp.notify import DATA_READY, STATE_CHANGE, tcp_wake
from ustack.tcp.ofo import OfoQueue, RcvSegment
from ustack.tcp.seq import after, before, distance
from ustack.tcp.states import Event
from ustack.tcp.transmit import tcp_queue_ack, tcp_send_ack
from ustack.tcp.window import tcp_grow_window, usable_window
from ustack.wire.tcp import TCPHDR_FIN, TCPHDR_PSH, TCPHDR_SYN, TCPHDR_URG, TcpHeader

if TYPE_CHECKING:
    from ustack.packet import Buffer, Packet

#: Charged beside the bytes of every segment held (a packet's own size, bytes).
RCV_OVERHEAD: Final[i64] = 256
#: Text of up to so many bytes is cut out of its frame: any ordinary segment. Two views cost more than such a copy.
RX_COPYBREAK: Final[i64] = 2048
#: Flags that excuse a segment for being smaller than the peer's MSS (TCP_REMNANT).
REMNANT: Final = TCPHDR_FIN | TCPHDR_URG | TCPHDR_SYN | TCPHDR_PSH


def tcp_data_queue(tp: TcpControl, packet: Packet, th: TcpHeader) -> None:
    """Put the segment's text where it belongs; the packet ends here, delivered or dropped.

    The caller has checked that the sequence number is acceptable. RFC 9293: "Once the TCP endpoint takes
    responsibility for the data, it advances RCV.NXT over the data accepted".
    """
    fin = th.flags & TCPHDR_FIN != 0
    length = th.end - th.payload
    end_seq = (th.seq + length + (1 if fin else 0)) & 0xFFFF_FFFF
    if th.seq == end_seq:
        tp.net.deliver(packet)
    elif not after(end_seq, tp.rcv_nxt):
        # a retransmission: the peer has not seen our ACK, so it gets one at once
        tp.net.mib.tcpext.DelayedACKLost += 1
        refuse(tp, packet, Reason.TCP_OLD_DATA)
    elif after(th.seq, tp.rcv_nxt):
        if before(th.seq, (tp.rcv_nxt + tp.tcp_receive_window()) & 0xFFFF_FFFF):
            tcp_data_queue_ofo(tp, packet, take_text(packet, th, end_seq, fin))
        else:
            refuse(tp, packet, Reason.TCP_OVERWINDOW)
    elif tp.tcp_receive_window() == 0 and length:
        # a bare FIN needs no buffer and is taken, as by Linux: there are senders that let it through a closed window
        refuse(tp, packet, Reason.TCP_ZEROWINDOW)
    elif tp.rmem_alloc > tp.rcvbuf and tp.receive_queue and not tcp_prune_queue(tp, end_seq):
        # segments so small that what they cost is far more than the window they take (tcp_try_rmem_schedule)
        refuse(tp, packet, Reason.PROTO_MEM)
    else:
        tp.net.deliver(packet)
        if length:
            tcp_event_data_recv(tp, packet, th)
        tcp_queue_rcv(tp, take_text(packet, th, end_seq, fin))
        tcp_ofo_queue(tp)


def take_text(packet: Packet, th: TcpHeader, end_seq: i64, fin: bool) -> RcvSegment:
    """The bytes of a segment: a copy of few, a view of many (a view keeps the whole frame alive)."""
    length = th.end - th.payload
    data: Buffer
    if length <= RX_COPYBREAK:
        data = packet.buf[th.payload : th.end]
    else:
        data = memoryview(packet.buf)[th.payload : th.end]
    return RcvSegment(th.seq, end_seq, data, fin, length + RCV_OVERHEAD)


def refuse(tp: TcpControl, packet: Packet, reason: Reason) -> None:
    """Drop a segment whose sender must learn where we stand: ACK at once."""
    tp.enter_quickack_mode(TCP_MAX_QUICKACKS)
    tp.ack_pending |= ICSK_ACK_SCHED | ICSK_ACK_NOW
    tp.net.drop(packet, reason)


def tcp_queue_rcv(tp: TcpControl, segment: RcvSegment) -> None:
    """Text that continues the stream: to the reader (tcp_queue_rcv)."""
    if before(segment.seq, tp.rcv_nxt):
        segment.cut_head(tp.rcv_nxt)
    tp.rcv_nxt = segment.end_seq
    length: i64 = len(segment.data)
    if length:
        tp.received().append(segment)
        tp.charge(segment.truesize)
        tcp_wake(tp, DATA_READY)
    if segment.fin:
        tcp_fin(tp)


def tcp_ofo_queue(tp: TcpControl) -> None:
    """The hole is filled: what came early follows."""
    queue = tp.ofo
    if queue is None:
        return
    for segment in queue.take_ready(tp.rcv_nxt):
        tp.rmem_alloc -= segment.truesize
        # what a peer has sent beyond its own FIN is nobody's
        if after(segment.end_seq, tp.rcv_nxt) and not tp.fin_received:
            tcp_queue_rcv(tp, segment)
    if len(queue) == 0:
        tp.ofo = None
        # RFC 5681 4.2: "a TCP receiver SHOULD send an immediate ACK when it receives a data segment that fills in
        # all or part of a gap in the sequence space"
    tp.ack_pending |= ICSK_ACK_SCHED | ICSK_ACK_NOW


def tcp_data_queue_ofo(tp: TcpControl, packet: Packet, segment: RcvSegment) -> None:
    """Text beyond a hole: keep it, and tell the sender where the hole is with a duplicate ACK each time.

    RFC 5681 4.2: "Out-of-order data segments SHOULD be acknowledged immediately, in order to accelerate loss
    recovery." Memory is capped by the receive buffer: when it is full the segments furthest ahead go first.
    """
    if tp.rmem_alloc > tp.rcvbuf and not tcp_prune_queue(tp, segment.seq):
        tp.net.drop(packet, Reason.TCP_OFO_DROP)
    else:
        queue = tp.ofo
        if queue is None:
            queue = tp.ofo = OfoQueue()
        mib = tp.net.mib.tcpext
        mib.TCPOFOQueue += 1
        held, swallowed = queue.memory, queue.swallowed
        if queue.insert(segment, tp.rcv_nxt):
            tp.net.deliver(packet)
        else:
            tp.net.drop(packet, Reason.TCP_OFOMERGE)
        mib.TCPOFOMerge += queue.swallowed - swallowed
        tp.rmem_alloc += queue.memory - held
    tcp_send_ack(tp)


def tcp_prune_queue(tp: TcpControl, seq: i64) -> bool:
    """Over the receive buffer: give up what came out of order beyond ``seq``, furthest first; False if too little.

    It has been acknowledged by nobody and will be sent again (tcp_prune_queue, tcp_prune_ofo_queue).
    """
    mib = tp.net.mib.tcpext
    mib.PruneCalled += 1
    queue = tp.ofo
    if queue is not None:
        held = queue.memory
        while tp.rmem_alloc - held + queue.memory > tp.rcvbuf and queue.prune(seq):
            pass
        if queue.memory != held:
            mib.OfoPruned += 1
            tp.rmem_alloc += queue.memory - held
        if len(queue) == 0:
            tp.ofo = None
    if tp.rmem_alloc <= tp.rcvbuf:
        return True
    mib.RcvPruned += 1
    return False


def tcp_event_data_recv(tp: TcpControl, packet: Packet, th: TcpHeader) -> None:
    """Measure the peer: its segment size, the time between its segments; schedule an ACK (tcp_event_data_recv)."""
    length = th.end - th.payload
    tp.ack_pending |= ICSK_ACK_SCHED
    tcp_measure_rcv_mss(tp, packet, th)
    now = tp.net.now
    if tp.ato == 0:
        # the first data: the sender is in slow start and lives by our ACKs
        tp.incr_quickack(TCP_MAX_QUICKACKS)
        tp.ato = TCP_ATO_MIN
    else:
        gap = now - tp.lrcvtime
        if gap <= TCP_ATO_MIN // 2:
            tp.ato = (tp.ato >> 1) + TCP_ATO_MIN // 2
        elif gap < tp.ato:
            tp.ato = min((tp.ato >> 1) + gap, tp.rto)
        elif gap > tp.rto:
            # too long a gap: the sender has restarted slow start, or lost something
            tp.incr_quickack(TCP_MAX_QUICKACKS)
    tp.lrcvtime = now
    if length >= 128:
        tcp_grow_window(tp, length)


def tcp_measure_rcv_mss(tp: TcpControl, packet: Packet, th: TcpHeader) -> None:
    """Guess the peer's MSS from the largest segment, or from two smaller ones in a row that are equal; at most ours.

    A small segment that ends with PSH may be all there is: the ACK then need not wait for another once it is read.
    """
    last = tp.last_seg_size
    tp.last_seg_size = 0
    length = packet.gso_size or th.end - th.payload
    pushed = th.flags & TCPHDR_PSH != 0
    if length >= tp.rcv_mss:
        tp.rcv_mss = min(length, tp.advmss)
        if pushed:
            tp.ack_pending |= ICSK_ACK_PUSHED
        return
    # options vary from segment to segment, header and text together do not
    size = length + th.payload - th.options
    if size >= TCP_MSS_DEFAULT or (size >= TCP_MIN_MSS and not th.flags & REMNANT):
        tp.last_seg_size = size - (TIMESTAMP_LEN if tp.tstamp_ok else 0)
        if tp.last_seg_size == last:
            tp.rcv_mss = last
            return
    if tp.ack_pending & ICSK_ACK_PUSHED:
        tp.ack_pending |= ICSK_ACK_PUSHED2
    tp.ack_pending |= ICSK_ACK_PUSHED


def tcp_fin(tp: TcpControl) -> None:
    """The peer has no more to send (RFC 9293 section 3.10.7.4, eighth step).

    "If the FIN bit is set, signal the user "connection closing" [...] advance RCV.NXT over the FIN, and send an
    acknowledgment for the FIN. Note that FIN implies PUSH for any segment text not yet delivered to the user."
    """
    tp.ack_pending |= ICSK_ACK_SCHED | ICSK_ACK_NOW
    tp.shutdown |= RCV_SHUTDOWN
    tp.fin_received = True
    tp.move(Event.RCV_FIN)
    if tp.ofo is not None:
        tp.rmem_alloc -= tp.ofo.memory
        tp.ofo = None
    tcp_wake(tp, STATE_CHANGE)


def tcp_ack_snd_check(tp: TcpControl) -> None:
    """Acknowledge now, at the end of the batch, or later (RFC 9293 SHLD-19; __tcp_ack_snd_check)."""
    if not tp.ack_pending & ICSK_ACK_SCHED:
        return
    unacked = distance(tp.rcv_wup, tp.rcv_nxt)
    if tp.ack_pending & ICSK_ACK_NOW or tp.in_quickack_mode() or unacked > tp.rcv_mss:
        tcp_queue_ack(tp)
    else:
        tcp_send_delayed_ack(tp)


def tcp_send_delayed_ack(tp: TcpControl) -> None:
    """Let the ACK wait for company, at most half a second (RFC 9293 MUST-40), in practice 40 to 200 ms."""
    timer = tp.delack_timer
    if timer is None:
        return
    delay = tp.ato
    if delay > TCP_DELACK_MIN and tp.srtt:
        delay = min(delay, max(tp.srtt, TCP_DELACK_MIN))
    delay = min(delay, TCP_DELACK_MAX)
    due = tp.net.now + delay
    if tp.ack_pending & ICSK_ACK_TIMER:
        if timer.expires <= tp.net.now + (delay >> 2):
            # an earlier one is about to go anyway
            return tcp_send_ack(tp)
        due = min(due, timer.expires)
    tp.ack_pending |= ICSK_ACK_TIMER
    tp.net.timers.mod_timer(timer, due)


def window_update_due(tp: TcpControl) -> bool:
    """True if reading has opened the window to at least twice what the peer knows (tcp_cleanup_rbuf)."""
    if tp.shutdown & RCV_SHUTDOWN:
        return False
    known = tp.tcp_receive_window()
    if 2 * known > tp.window_clamp:
        return False
    window = usable_window(tp)
    return window > 0 and window >= 2 * known
