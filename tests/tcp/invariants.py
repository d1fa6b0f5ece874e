"""What must hold of a connection between any two events, whatever has happened: counters, queues, timers, windows.

Every counter that Linux keeps beside a queue, so that nobody has to walk it, is compared with the walk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ustack.sock import TCP_CLOSE, TCP_LISTEN, TCP_SYN_RECV, TCP_SYN_SENT, TCP_TIME_WAIT
from ustack.tcp.segment import TCPCB_LOST, TCPCB_SACKED_ACKED, TCPCB_SACKED_RETRANS
from ustack.tcp.seq import after, before
from ustack.wire.tcp import TCPHDR_SYN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ustack.tcp.segment import TcpSkb
    from ustack.tcp.sock import TcpSock

M32: Final = 0xFFFF_FFFF


def check(tp: TcpSock) -> None:
    """AssertionError with what is wrong with ``tp``."""
    if tp.state in (TCP_CLOSE, TCP_LISTEN):
        check_closed(tp)
        return
    sent = list(tp.rtx_queue or ())
    unsent = list(tp.write_queue or ())
    check_sequence(tp, sent, unsent)
    check_scoreboard(tp, sent)
    check_congestion(tp)
    check_memory(tp, sent, unsent)
    check_receiver(tp)
    check_timers(tp)


def check_closed(tp: TcpSock) -> None:
    """Nothing of what is over stays (CVE-2022-1678); what was received may still be read."""
    timers = (tp.retransmit_timer, tp.delack_timer, tp.keepalive_timer, tp.pacing_timer, tp.compressed_ack_timer)
    if tp.state == TCP_CLOSE:
        assert [timer for timer in timers if timer is not None and timer.pending] == []
        assert not tp.rtx_queue and not tp.write_queue and tp.packets_out == 0


def check_sequence(tp: TcpSock, sent: list[TcpSkb], unsent: list[TcpSkb]) -> None:
    """SND.UNA =< SND.NXT =< what was written, and the queues are exactly what lies between them.

    A segment that is acknowledged in part stays whole until it is sent again (tcp_clean_rtx_queue).
    """
    assert not after(tp.snd_una, tp.snd_nxt) and not after(tp.snd_nxt, tp.write_seq)
    first = int(tp.snd_una)
    if sent and before(sent[0].seq, tp.snd_una):
        assert after(sent[0].end_seq, tp.snd_una)
        first = int(sent[0].seq)
    chain(sent, first, int(tp.snd_nxt), "in flight")
    chain(unsent, int(tp.snd_nxt), int(tp.write_seq), "not sent")


def chain(queue: list[TcpSkb], start: int, end: int, what: str) -> None:
    """Without gaps or overlaps from ``start`` to ``end``."""
    at = start
    for skb in queue:
        assert skb.seq == at, f"{what}: an skb begins at {skb.seq} and not at {at}"
        assert skb.len == sum(len(piece) for piece in skb.pieces), what
        flags = (skb.end_seq - skb.seq - skb.len) & M32
        assert flags == bool(skb.flags & 3), f"{what}: {skb.len} bytes from {skb.seq} to {skb.end_seq}"
        at = int(skb.end_seq)
    assert at == end, f"{what}: ends at {at} and not at {end}"


def packets(queue: Iterable[TcpSkb], bit: int) -> int:
    return sum(int(skb.pcount) for skb in queue if skb.sacked & bit)


def check_scoreboard(tp: TcpSock, sent: list[TcpSkb]) -> None:
    """packets_out, sacked_out, lost_out and retrans_out are the sums over what is in flight."""
    assert all(skb.pcount >= 1 for skb in sent)
    assert tp.packets_out == sum(skb.pcount for skb in sent)
    assert tp.lost_out == packets(sent, TCPCB_LOST)
    assert tp.retrans_out == packets(sent, TCPCB_SACKED_RETRANS)
    if tp.sack_ok:
        assert tp.sacked_out == packets(sent, TCPCB_SACKED_ACKED)
    assert tp.sacked_out + tp.lost_out <= tp.packets_out and tp.sacked_out >= 0
    assert tp.tcp_packets_in_flight() >= 0
    assert not any(skb.sacked & TCPCB_SACKED_ACKED and skb.sacked & (TCPCB_LOST | TCPCB_SACKED_RETRANS) for skb in sent)
    by_time: list[TcpSkb] = []
    queue = tp.rtx_queue
    link = None if queue is None else queue.tsorted_first
    while link is not None:
        assert link.tsorted and not (by_time and link.tsorted_prev is not by_time[-1])
        by_time.append(link)
        link = link.tsorted_next
    assert {id(skb) for skb in by_time} <= {id(skb) for skb in sent}
    times = [int(skb.sent_at) for skb in by_time]
    assert times == sorted(times)


def check_congestion(tp: TcpSock) -> None:
    assert 1 <= tp.snd_cwnd <= tp.snd_cwnd_clamp
    assert tp.snd_ssthresh >= 1
    assert 0 <= tp.ca_state <= 4
    assert tp.rto > 0 and tp.srtt >= 0 and tp.rttvar >= 0


def check_memory(tp: TcpSock, sent: list[TcpSkb], unsent: list[TcpSkb]) -> None:
    """wmem_queued and rmem_alloc are what the queues hold, and reserved in whole pages of the stack's sum."""
    held = sum(int(skb.len if skb.flags & TCPHDR_SYN else skb.truesize) for skb in sent + unsent)
    assert tp.wmem_queued == held, f"wmem_queued {tp.wmem_queued}, in the queues {held}"
    read = sum(int(segment.truesize) for segment in tp.receive_queue or ())
    assert tp.mem_charged >= 0 and tp.mem_charged % 4096 == 0 and tp.mem_charged <= tp.tables.memory.allocated * 4096
    early = 0 if tp.ofo is None else int(tp.ofo.memory)
    assert tp.rmem_alloc == read + early, f"rmem_alloc {tp.rmem_alloc}, in the queues {read} and {early}"


def check_receiver(tp: TcpSock) -> None:
    """The receive queue leads up to RCV.NXT, the out-of-order queue is sorted, disjoint and beyond it."""
    if tp.state in (TCP_SYN_SENT, TCP_SYN_RECV):
        return
    assert not after(tp.rcv_wup, tp.rcv_nxt) or tp.state == TCP_TIME_WAIT
    at = int(tp.copied_seq)
    for segment in tp.receive_queue or ():
        assert segment.seq == at or after(at, segment.seq), "a hole in what can be read"
        at = int(segment.end_seq)
    if tp.receive_queue:
        assert at == tp.rcv_nxt or (tp.fin_received and (at + 1) & M32 == tp.rcv_nxt)
    if tp.ofo is not None:
        check_ofo(tp)
    for start, end in tp.selective_acks:
        assert before(start, end) and before(tp.rcv_nxt, end)


def check_ofo(tp: TcpSock) -> None:
    assert tp.ofo is not None
    segments = list(tp.ofo.segments)
    assert tp.ofo.memory == sum(segment.truesize for segment in segments)
    at = int(tp.rcv_nxt)
    for segment in segments:
        assert not before(segment.seq, at), "the out-of-order queue overlaps"
        at = int(segment.end_seq)


def check_timers(tp: TcpSock) -> None:
    """One retransmission timer for one purpose; and nothing that is in flight or stuck waits for nobody."""
    armed = tp.retransmit_timer is not None and tp.retransmit_timer.pending
    assert armed == (tp.icsk_pending != 0), f"pending {armed}, for {tp.icsk_pending}"
    if tp.packets_out:
        assert armed, "in flight without a timer"
    elif tp.write_queue and tp.state not in (TCP_SYN_SENT, TCP_SYN_RECV):
        pacing = tp.pacing_timer is not None and tp.pacing_timer.pending
        assert armed or pacing or tp.tsq_throttled, "what is to be sent waits for nobody"


def held_beyond(tp: TcpSock, start: int, end: int) -> bool:
    """Whether every byte of [start, end) waits in the out-of-order queue."""
    at = start
    for segment in tp.ofo.segments if tp.ofo is not None else ():
        if not after(segment.seq, at) and after(segment.end_seq, at):
            at = int(segment.end_seq)
    return not before(at, end)
