"""Sending again (Linux net/ipv4/tcp_output.c: tcp_retransmit_skb, tcp_xmit_retransmit_queue)."""

from __future__ import annotations

import errno

from mypy_extensions import i64

from ustack.sock import TCP_SYN_SENT
from ustack.tcp.control import (
    ICSK_TIME_REO_TIMEOUT,
    ICSK_TIME_RETRANS,
    TCP_CA_LOSS,
    TcpControl,
)
from ustack.tcp.cwnd import tcp_current_ssthresh, tcp_in_cwnd_reduction
from ustack.tcp.ecn import tcp_ecn_clear_syn
from ustack.tcp.fragment import tcp_fragment_rtx, tcp_retrans_try_collapse, tcp_trim_head
from ustack.tcp.mss import tcp_current_mss
from ustack.tcp.newreno import tcp_limit_reno_sacked
from ustack.tcp.pacing import tcp_pacing_check
from ustack.tcp.prr import tcp_set_ca_state
from ustack.tcp.scoreboard import tcp_adjust_pcount, tcp_mark_skb_lost
from ustack.tcp.segment import (
    TCPCB_EVER_RETRANS,
    TCPCB_LOST,
    TCPCB_RETRANS,
    TCPCB_SACKED_ACKED,
    TCPCB_SACKED_RETRANS,
    TcpSkb,
)
from ustack.tcp.seq import before, signed_distance
from ustack.tcp.trace import retransmit_cause, retransmit_facts
from ustack.tcp.transmit import tcp_transmit_skb
from ustack.tcp.tso import tcp_tso_segs
from ustack.trace.points import Point
from ustack.wire.tcp import TCPHDR_SYN


def tcp_retransmit_skb(tp: TcpControl, skb: TcpSkb, segs: i64) -> i64:
    """Send ``skb`` again, its first ``segs`` segments, and mark it; 0 or an errno, EAGAIN below a shrunk window."""
    code = send_again(tp, skb, segs)
    if code == 0:
        if not skb.sacked & TCPCB_SACKED_RETRANS:  # an undone loss leaves some that are
            tp.retrans_out += skb.pcount
        skb.sacked |= TCPCB_RETRANS
    if tp.retrans_stamp == 0:
        tp.retrans_stamp = tp.net.now
    tp.undo_retrans = max(tp.undo_retrans, 0) + skb.pcount
    return code


def send_again(tp: TcpControl, skb: TcpSkb, segs: i64) -> i64:
    """Send ``skb`` again without marking it as retransmitted: that is what a loss probe does (__tcp_retransmit_skb)."""
    tp.mtup_probe_size = 0  # a probe of the MTU proves nothing now
    if before(skb.seq, tp.snd_una):
        trim_acked(tp, skb)
    mss = tcp_current_mss(tp)
    room = signed_distance(skb.seq, tp.tcp_wnd_end())
    if room <= 0:
        # the peer has shrunk its window: what begins beyond it waits, the first is a probe of the window
        if skb.seq != tp.snd_una:
            return errno.EAGAIN
        room = mss
    length = mss * segs
    if length > room:
        length = room // mss * mss if room >= mss else room
    if skb.len > length:
        if tcp_fragment_rtx(tp, skb, length, mss) is None:
            return errno.ENOMEM
    else:
        recount(tp, skb, mss)
        if skb.len < min(room, mss):
            tcp_retrans_try_collapse(tp, skb, min(room, mss))
    if skb.flags & TCPHDR_SYN:
        tcp_ecn_clear_syn(tp, skb)  # RFC 3168 6.1.1.1: the SYN may have been lost for what it asked
    return transmit_again(tp, skb)


def trim_acked(tp: TcpControl, skb: TcpSkb) -> None:
    """Part of it is acknowledged: not that again. The SYN of a Fast Open may be, and its data not."""
    if skb.flags & TCPHDR_SYN:
        skb.flags &= ~TCPHDR_SYN
        skb.seq = (skb.seq + 1) & 0xFFFF_FFFF
    if before(skb.seq, tp.snd_una):
        tcp_adjust_pcount(tp, skb, tcp_trim_head(tp, skb))


def recount(tp: TcpControl, skb: TcpSkb, mss: i64) -> None:
    """The MSS may have changed since it was sent."""
    had = skb.pcount
    skb.set_pcount(mss)
    if skb.pcount != had:
        tcp_adjust_pcount(tp, skb, had - skb.pcount)


def transmit_again(tp: TcpControl, skb: TcpSkb) -> i64:
    """Count it and send it; it is the latest of all in flight then."""
    mib = tp.net.mib
    segs = skb.pcount
    mib.tcp.RetransSegs += segs
    if skb.flags & TCPHDR_SYN:
        mib.tcpext.TCPSynRetrans += 1
    tp.total_retrans += segs
    tp.bytes_retrans += skb.len
    if tp.net.tracer is not None:
        tp.net.tracer.note(Point.TCP_RETRANSMIT_SKB, retransmit_cause(tp, skb), retransmit_facts(tp, skb))
    code = tcp_transmit_skb(tp, skb)
    skb.sacked |= TCPCB_EVER_RETRANS  # even if it was not: its RTT must not be taken for short
    if code == 0:
        tp.in_flight().tsorted_append(skb)
    else:
        mib.tcpext.TCPRetransFail += segs
    return code


def tcp_xmit_retransmit_queue(tp: TcpControl) -> None:
    """Send again what is marked lost, in order, as cwnd allows; the walk begins where there was nothing before."""
    if tp.packets_out == 0 or tp.retrans_out >= tp.lost_out:
        return
    if tp.dst_cache is None:
        tp.tables.ipv4.sk_route(tp)  # which device it is says how large a burst may be
    queue = tp.in_flight()
    hint = tp.retransmit_skb_hint
    skb = hint if hint is not None else queue.first()
    max_segs = tcp_tso_segs(tp, tcp_current_mss(tp))
    hole = False  # something was passed that may be marked lost later
    rearm = False
    while skb is not None and not tcp_pacing_check(tp):
        if not hole:
            tp.retransmit_skb_hint = skb
        segs = tp.snd_cwnd - tp.tcp_packets_in_flight()
        if segs <= 0 or tp.retrans_out >= tp.lost_out:
            break
        sacked = skb.sacked
        if not sacked & TCPCB_LOST:
            hole = hole or not sacked & (TCPCB_SACKED_RETRANS | TCPCB_SACKED_ACKED)
        elif not sacked & (TCPCB_SACKED_RETRANS | TCPCB_SACKED_ACKED):
            if tcp_retransmit_skb(tp, skb, min(segs, max_segs)):
                break
            count_retransmission(tp, skb)
            rearm = rearm or (skb is queue.first() and tp.icsk_pending != ICSK_TIME_REO_TIMEOUT)
        skb = queue.next(skb)
    if rearm:
        tp.reset_xmit_timer(ICSK_TIME_RETRANS, tp.rto + tp.pacing_delay())


def count_retransmission(tp: TcpControl, skb: TcpSkb) -> None:
    mib = tp.net.mib.tcpext
    if tp.ca_state == TCP_CA_LOSS:
        mib.TCPSlowStartRetrans += skb.pcount
    else:
        mib.TCPFastRetrans += skb.pcount
    if tcp_in_cwnd_reduction(tp):
        tp.prr_out += skb.pcount


def tcp_simple_retransmit(tp: TcpControl) -> None:
    """What is in flight was dropped for its size, not by congestion: again, without touching the window (RFC 1191)."""
    mss = tcp_current_mss(tp)
    whole = tp.syn_data and tp.state == TCP_SYN_SENT  # one datagram, though SYN and data are two in the queue
    for skb in tp.in_flight():
        if whole or min(skb.len, skb.mss if skb.mss else skb.len) > mss:
            tcp_mark_skb_lost(tp, skb)
    if tp.lost_out == 0:
        return
    if not tp.sack_ok:
        tcp_limit_reno_sacked(tp)
    tcp_non_congestion_loss_retransmit(tp)


def tcp_non_congestion_loss_retransmit(tp: TcpControl) -> None:
    """Send again what is marked lost; that it was lost says nothing of the network."""
    if tp.ca_state != TCP_CA_LOSS:
        tp.high_seq = tp.snd_nxt
        tp.snd_ssthresh = tcp_current_ssthresh(tp)
        tp.prior_ssthresh = 0
        tp.undo_marker = 0
        tcp_set_ca_state(tp, TCP_CA_LOSS)
    tcp_xmit_retransmit_queue(tp)
