"""Received bytes: in order, early, late, beyond the window (RFC 9293 section 3.10.7.4, seventh and eighth steps).

Linux tcp_data_queue, tcp_data_queue_ofo, tcp_event_data_recv, tcp_fin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.drop import Reason
from ustack.sock import RCV_SHUTDOWN, TCP_CLOSE_WAIT, TCP_FIN_WAIT1, TCP_FIN_WAIT2
from ustack.tcp.control import (
    ICSK_ACK_NOMEM,
    ICSK_ACK_NOW,
    ICSK_ACK_PUSHED,
    ICSK_ACK_PUSHED2,
    ICSK_ACK_SCHED,
    TCP_ATO_MIN,
    TCP_MAX_QUICKACKS,
    TCP_MIN_MSS,
    TCP_MSS_DEFAULT,
    TIMESTAMP_LEN,
    TcpControl,
)
from ustack.tcp.ecn import tcp_ecn_check_ce
from ustack.tcp.memory import sk_forced_mem_schedule, tcp_under_memory_pressure
from ustack.tcp.notify import DATA_READY, STATE_CHANGE, tcp_wake
from ustack.tcp.ofo import COALESCE_MAX, RCV_OVERHEAD, OfoQueue, RcvSegment
from ustack.tcp.prune import tcp_try_rmem_schedule
from ustack.tcp.rightsize import tcp_rcv_rtt_measure, tcp_rcvbuf_grow
from ustack.tcp.sack_out import (
    tcp_dsack_extend,
    tcp_dsack_set,
    tcp_sack_new_ofo_skb,
    tcp_sack_remove,
    tcp_sack_reset,
)
from ustack.tcp.seq import after, before, distance
from ustack.tcp.states import Event
from ustack.tcp.trace import ofo_facts, where_text_lies, window_in
from ustack.tcp.transmit import tcp_send_ack
from ustack.tcp.window import tcp_follow_clamp, tcp_grow_window
from ustack.trace.given import Numbers
from ustack.trace.points import Point
from ustack.wire.tcp import TCPHDR_FIN, TCPHDR_PSH, TCPHDR_SYN, TCPHDR_URG, TcpHeader

if TYPE_CHECKING:
    from ustack.packet import Buffer, Packet

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
        return
    tp.duplicate_sack = None
    if packet.journey is not None:
        packet.journey.step(Point.TCP_DATA_QUEUE, where_text_lies(tp, th, end_seq), window_in(tp))
    if not after(end_seq, tp.rcv_nxt):
        # a retransmission: the peer has not seen our ACK, so it gets one at once
        tp.net.mib.tcpext.DelayedACKLost += 1
        tcp_dsack_set(tp, th.seq, end_seq)
        refuse(tp, packet, Reason.TCP_OLD_DATA)
    elif after(th.seq, tp.rcv_nxt):
        if before(th.seq, (tp.rcv_nxt + tp.tcp_receive_window()) & 0xFFFF_FFFF):
            tcp_data_queue_ofo(tp, packet, th, take_text(packet, th, end_seq, fin))
        else:
            refuse(tp, packet, Reason.TCP_OVERWINDOW)
    else:
        if before(th.seq, tp.rcv_nxt):
            tcp_dsack_set(tp, th.seq, tp.rcv_nxt)
        if length and tp.tcp_receive_window() == 0:
            # a bare FIN needs no buffer and is taken, as by Linux: there are senders that let it through
            refuse(tp, packet, Reason.TCP_ZEROWINDOW)
        else:
            queue_in_order(tp, packet, th, take_text(packet, th, end_seq, fin))


def queue_in_order(tp: TcpControl, packet: Packet, th: TcpHeader, segment: RcvSegment) -> None:
    """Text that continues the stream, on the slow path: is there room for it, and what follows it."""
    truesize = segment.truesize
    if not tcp_try_rmem_schedule(tp, segment):
        tp.ack_pending |= ICSK_ACK_NOMEM | ICSK_ACK_NOW | ICSK_ACK_SCHED
        tcp_wake(tp, DATA_READY)
        if tp.receive_queue and th.end > th.payload:
            return tp.net.drop(packet, Reason.PROTO_MEM)
        # nothing else would ever be read: an empty queue takes one segment whatever it costs
    tp.net.deliver(packet)
    tcp_queue_rcv(tp, segment)
    if tp.rmem_alloc + tp.wmem_queued > tp.mem_charged:
        sk_forced_mem_schedule(tp)
    if th.end > th.payload:
        tcp_event_data_recv(tp, packet, th, truesize)
    if segment.fin:
        tcp_fin(tp)
    if tp.ofo is not None:
        tcp_ofo_queue(tp)
    if tp.selective_acks:
        tcp_sack_remove(tp)
    if th.end > th.payload:
        tcp_data_ready(tp)


def take_text(packet: Packet, th: TcpHeader, end_seq: i64, fin: bool) -> RcvSegment:
    """The bytes of a segment: a copy of few, a view of many. A view keeps the whole frame alive, and is charged it."""
    length = th.end - th.payload
    if length <= RX_COPYBREAK:
        return RcvSegment(th.seq, end_seq, packet.buf[th.payload : th.end], fin, length + RCV_OVERHEAD)
    data: Buffer = memoryview(packet.buf)[th.payload : th.end]
    size: i64 = len(packet.buf)
    return RcvSegment(th.seq, end_seq, data, fin, size + RCV_OVERHEAD)


def refuse(tp: TcpControl, packet: Packet, reason: Reason) -> None:
    """Drop a segment whose sender must learn where we stand: ACK at once, but for a window that lags behind."""
    tp.enter_quickack_mode(TCP_MAX_QUICKACKS)
    tp.ack_pending |= ICSK_ACK_SCHED
    tp.net.drop(packet, reason)


def tcp_queue_rcv(tp: TcpControl, segment: RcvSegment) -> None:
    """Text that continues the stream: to the reader (tcp_queue_rcv). The caller tells him, and takes the FIN."""
    if before(segment.seq, tp.rcv_nxt):
        segment.cut_head(tp.rcv_nxt)
    tp.bytes_received += distance(tp.rcv_nxt, segment.end_seq)
    tp.rcv_nxt = segment.end_seq
    length: i64 = len(segment.data)
    if length == 0:
        return
    queue = tp.received()
    if length <= COALESCE_MAX and queue and queue[-1].try_coalesce(segment):
        tp.net.mib.tcpext.TCPRcvCoalesce += 1
        tp.charge(length)
        return
    queue.append(segment)
    tp.charge(segment.truesize)


def tcp_data_ready(tp: TcpControl) -> None:
    """Tell the reader, if there is as much as he asked for (SO_RCVLOWAT)."""
    if tp.rcvlowat <= 1 or tp.fin_received or tcp_epollin_ready(tp, tp.rcvlowat):
        if tp.net.tracer is not None:
            unread = Numbers("unread", distance(tp.copied_seq, tp.rcv_nxt), "rmem", tp.rmem_alloc)
            tp.net.tracer.here(Point.TCP_DATA_READY, "the reader is woken with the batch", unread)
        tcp_wake(tp, DATA_READY)


def tcp_epollin_ready(tp: TcpControl, target: i64) -> bool:
    """True if ``target`` bytes can be read, or fewer and no more can come before they are: memory or window is out."""
    available = distance(tp.copied_seq, tp.rcv_nxt)
    if available == 0 or available > 0x7FFF_FFFF:
        return False
    return available >= target or tcp_rmem_pressure(tp) or tp.tcp_receive_window() <= tp.rcv_mss


def tcp_rmem_pressure(tp: TcpControl) -> bool:
    """Seven eighths of the receive buffer are taken, or memory is short."""
    return tcp_under_memory_pressure(tp) or tp.rmem_alloc > tp.rcvbuf - (tp.rcvbuf >> 3)


# -- out of order


def tcp_ofo_queue(tp: TcpControl) -> None:
    """The hole is filled: what came early follows."""
    queue = tp.ofo
    if queue is None:
        return
    dsack_high = tp.rcv_nxt
    for segment in queue.take_ready(tp.rcv_nxt):
        tp.rmem_alloc -= segment.truesize
        if before(segment.seq, dsack_high):
            dsack = segment.end_seq if before(segment.end_seq, dsack_high) else dsack_high
            tcp_dsack_extend(tp, segment.seq, dsack)
        # what a peer has sent beyond its own FIN is nobody's
        if after(segment.end_seq, tp.rcv_nxt) and not tp.fin_received:
            tcp_queue_rcv(tp, segment)
            if segment.fin:
                tcp_fin(tp)
    if tp.ofo is None or len(queue) == 0:
        tp.ofo = None
        # RFC 5681 4.2: "a TCP receiver SHOULD send an immediate ACK when it receives a data segment that fills in
        # all or part of a gap in the sequence space"
        tp.ack_pending |= ICSK_ACK_SCHED | ICSK_ACK_NOW


def tcp_data_queue_ofo(tp: TcpControl, packet: Packet, th: TcpHeader, segment: RcvSegment) -> None:
    """Text beyond a hole: keep it, and tell the sender where the hole is and what lies beyond.

    RFC 5681 4.2: "Out-of-order data segments SHOULD be acknowledged immediately, in order to accelerate loss
    recovery." Memory is capped by the receive buffer: when it is full the segments furthest ahead go first.
    """
    if tp.ecn_flags:
        tcp_ecn_check_ce(tp, packet)
    seq, end_seq = segment.seq, segment.end_seq
    length: i64 = len(segment.data)
    if not tcp_try_rmem_schedule(tp, segment):
        tcp_wake(tp, DATA_READY)  # let the reader make room
        return tp.net.drop(packet, Reason.TCP_OFO_DROP)
    truesize = segment.truesize
    tcp_measure_rcv_mss(tp, packet, th, truesize)
    tp.ack_pending |= ICSK_ACK_SCHED
    queue = tp.ofo
    if queue is None:
        queue = tp.ofo = OfoQueue()
    mib = tp.net.mib.tcpext
    mib.TCPOFOQueue += 1
    tp.rcv_ooopack += segment_count(packet, length)
    held, swallowed, coalesced = queue.memory, queue.swallowed, queue.coalesced
    kept = queue.insert(segment, tp.rcv_nxt)
    mib.TCPOFOMerge += queue.swallowed - swallowed
    mib.TCPRcvCoalesce += queue.coalesced - coalesced
    tp.rmem_alloc += queue.memory - held
    for first, beyond in queue.overlaps:
        tcp_dsack_extend(tp, first, beyond)
    if tp.sack_ok:
        tcp_sack_new_ofo_skb(tp, seq, end_seq)
    if packet.journey is not None:
        packet.journey.step(Point.TCP_DATA_QUEUE_OFO, "kept" if kept else "held already", ofo_facts(tp))
    if not kept:
        return tp.net.drop(packet, Reason.TCP_OFOMERGE)
    tp.net.deliver(packet)
    if tp.sack_ok:
        # without SACK the window stays as it is: a duplicate ACK changes nothing else
        tcp_grow_window(tp, length, truesize)
    if not tp.dead and tp.parent is None:
        tcp_rcvbuf_grow(tp, tp.rcvq_space)
    return None


def segment_count(packet: Packet, length: i64) -> i64:
    """How many segments of the wire a packet is."""
    return 1 if packet.gso_size == 0 else max((length + packet.gso_size - 1) // packet.gso_size, 1)


# -- what segments tell of their sender


def tcp_event_data_recv(tp: TcpControl, packet: Packet, th: TcpHeader, truesize: i64) -> None:
    """Measure the peer: its segment size, the time between its segments; schedule an ACK (tcp_event_data_recv)."""
    length = th.end - th.payload
    tp.ack_pending |= ICSK_ACK_SCHED
    tcp_measure_rcv_mss(tp, packet, th, truesize)
    tcp_rcv_rtt_measure(tp)
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
    if tp.ecn_flags:
        tcp_ecn_check_ce(tp, packet)
    if length >= 128:
        tcp_grow_window(tp, length, truesize)


def tcp_measure_rcv_mss(tp: TcpControl, packet: Packet, th: TcpHeader, truesize: i64) -> None:
    """Guess the peer's MSS from the largest segment, or from two smaller ones in a row that are equal; at most ours.

    A small segment that ends with PSH may be all there is: the ACK then need not wait for another once it is read.
    """
    last = tp.last_seg_size
    tp.last_seg_size = 0
    length = packet.gso_size or th.end - th.payload
    pushed = th.flags & TCPHDR_PSH != 0
    if length >= tp.rcv_mss:
        if length != tp.rcv_mss:
            measure_scaling_ratio(tp, th.end - th.payload, truesize)
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


def measure_scaling_ratio(tp: TcpControl, length: i64, truesize: i64) -> None:
    """A larger segment than before: how much of what the peer's segments cost is text; windows are scaled by that."""
    ratio = min(max((length << 8) // truesize, 1), 255)
    if ratio != tp.scaling_ratio:
        tp.scaling_ratio = ratio
        tcp_follow_clamp(tp, tp.tcp_full_space())
        tp.rcvq_space = min(tp.rcvq_space, tp.window_clamp)


def tcp_fin(tp: TcpControl) -> None:
    """The peer has no more to send (RFC 9293 section 3.10.7.4, eighth step).

    "If the FIN bit is set, signal the user "connection closing" [...] advance RCV.NXT over the FIN, and send an
    acknowledgment for the FIN. Note that FIN implies PUSH for any segment text not yet delivered to the user."
    """
    tp.ack_pending |= ICSK_ACK_SCHED
    tp.shutdown |= RCV_SHUTDOWN
    again = tp.fin_received  # further on than the first, by a peer that has lost count: nothing new
    tp.fin_received = True
    if tp.state == TCP_FIN_WAIT1 or tp.state == TCP_FIN_WAIT2:
        tcp_send_ack(tp)  # before anything else, and still with what has come out of order
    if not again:
        tp.fin_unread = not tp.receive_queue
        tp.move(Event.RCV_FIN)
        if tp.state == TCP_CLOSE_WAIT:
            tp.enter_pingpong_mode()  # what is left to say, and our own FIN, may carry the ACK
    if tp.ofo is not None:
        tp.rmem_alloc -= tp.ofo.memory
        tp.ofo = None
    if tp.sack_ok:
        tcp_sack_reset(tp)
    tcp_wake(tp, STATE_CHANGE)
