"""What an acceptable acknowledgement does (RFC 9293 section 3.10.7.4, fifth step; Linux tcp_ack)."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from ustack.dst import rt_nexthop
from ustack.tcp.challenge import tcp_send_challenge_ack
from ustack.tcp.control import (
    ICSK_TIME_PROBE0,
    TCP_CA_OPEN,
    TCP_CA_RECOVERY,
    TcpControl,
)
from ustack.tcp.output import tcp_rearm_rto, tcp_sync_mss, tcp_xmit_retransmit_queue
from ustack.tcp.recovery import tcp_fastretrans_alert
from ustack.tcp.rtt import tcp_probe0_when, tcp_rtt_estimator, tcp_set_rto
from ustack.tcp.segment import SKB_OVERHEAD, TCPCB_EVER_RETRANS, TCPCB_LOST, TCPCB_SACKED_RETRANS, TcpSkb
from ustack.tcp.seq import after, before, distance
from ustack.timer import NSEC_PER_MSEC
from ustack.wire.tcp import TCPHDR_SYN, TcpHeader

#: What tcp_ack found.
ACK_OLD: Final = 0  #: acceptable, but acknowledges nothing new
ACK_NEW: Final = 1
ACK_TOO_OLD: Final = -1  #: RFC 5961 section 5.2: a challenge ACK was sent
ACK_UNSENT: Final = -2  #: acknowledges what we never sent


def tcp_ack(tp: TcpControl, th: TcpHeader, length: i64) -> i64:
    """Process th.ack_seq of a segment that takes ``length`` sequence numbers; the caller has checked where it lies."""
    ack = th.ack_seq
    prior_una = tp.snd_una
    if before(ack, prior_una):
        # RFC 5961 5.2: "The ACK value is considered acceptable only if it is in the range of
        # ((SND.UNA - MAX.SND.WND) <= SEG.ACK <= SND.NXT)"
        if distance(ack, prior_una) > tp.max_window:
            tcp_send_challenge_ack(tp)
            return ACK_TOO_OLD
        return ACK_OLD
    if after(ack, tp.snd_nxt):
        return ACK_UNSENT
    window_changed = tcp_ack_update_window(tp, th)
    tp.rcv_tstamp = tp.net.now
    tp.probes_out = 0
    advanced = ack != prior_una
    if advanced:
        tp.retransmits = 0
        tp.snd_una = ack
    if not tp.rtx_queue:
        if tp.write_queue:
            tcp_ack_probe(tp)
        return ACK_NEW if advanced else ACK_OLD
    acked = tcp_clean_rtx_queue(tp) if advanced else 0
    # RFC 5681 section 2: a duplicate ACK carries no data and no FIN, acknowledges nothing new and changes no window; a
    # closed window answers a probe, and says nothing of segments that arrived
    is_dupack = not advanced and length == 0 and not window_changed and tp.snd_wnd != 0
    if is_dupack or tp.ca_state != TCP_CA_OPEN or (advanced and tp.sacked_out):
        tcp_fastretrans_alert(tp, is_dupack, advanced, acked)
    if advanced:
        if tp.ca_state != TCP_CA_RECOVERY:
            tp.congestion.cong_avoid(tp, ack, acked)
    if tp.ca_state >= TCP_CA_RECOVERY:
        tcp_xmit_retransmit_queue(tp)  # as far as the window reaches that this ACK has opened
    if advanced:
        confirm_neighbour(tp)
        return ACK_NEW
    return ACK_OLD


def tcp_ack_update_window(tp: TcpControl, th: TcpHeader) -> bool:
    """Take the peer's window from a segment not older than the last that gave one; True if it changed.

    RFC 9293 3.10.7.4: "If SND.UNA =< SEG.ACK =< SND.NXT, the send window should be updated" when SEG.SEQ and SEG.ACK
    are newer than SND.WL1 and SND.WL2; as in Linux an ACK that advances, or opens the window, counts as newer.
    """
    window = th.window if th.flags & TCPHDR_SYN else th.window << tp.snd_wscale
    if not tcp_may_update_window(tp, th, window):
        return False
    tp.snd_wl1 = th.seq
    if window == tp.snd_wnd:
        return False
    tp.snd_wnd = window
    if window > tp.max_window:
        tp.max_window = window
        tcp_sync_mss(tp, tp.pmtu)
    return True


def tcp_may_update_window(tp: TcpControl, th: TcpHeader, window: i64) -> bool:
    """True if the segment is not older than the last that gave a window."""
    return (
        after(th.ack_seq, tp.snd_una)
        or after(th.seq, tp.snd_wl1)
        or (th.seq == tp.snd_wl1 and (window > tp.snd_wnd or window == 0))
    )


def tcp_ack_probe(tp: TcpControl) -> None:
    """Nothing in flight and data waits: stop probing if the window has opened, else go on (tcp_ack_probe)."""
    head = tp.send_head()
    if head is None:
        return
    if not after(head.end_seq, tp.tcp_wnd_end()):
        tp.probe_backoff = 0
        tp.probes_tstamp = 0
        if tp.icsk_pending == ICSK_TIME_PROBE0:
            tp.clear_xmit_timer()
    else:
        tp.reset_xmit_timer(ICSK_TIME_PROBE0, tcp_probe0_when(tp))


def tcp_clean_rtx_queue(tp: TcpControl) -> i64:
    """Take what is acknowledged off the retransmission queue; how many packets it was. Feeds the RTT and the RTO."""
    queue = tp.in_flight()
    acked: i64 = 0
    rtt: i64 = -1
    retransmitted = False
    while queue:
        skb = queue[0]
        if after(skb.end_seq, tp.snd_una):
            if after(tp.snd_una, skb.seq):
                retransmitted = retransmitted or skb.sacked & TCPCB_EVER_RETRANS != 0
                acked += tcp_tso_acked(tp, skb)
            break
        if skb.sacked & TCPCB_EVER_RETRANS:
            retransmitted = True
        elif rtt < 0:
            rtt = tp.net.now - skb.sent_at  # of the oldest: what a delayed ACK adds belongs to the RTO
        acked += skb.pcount
        forget(tp, skb, skb.pcount)
        tp.wmem_queued -= skb.len + (0 if skb.flags & TCPHDR_SYN else SKB_OVERHEAD)
        queue.popleft()
    tp.net.mib.tcpext.TCPDelivered += acked
    tcp_ack_update_rtt(tp, rtt, retransmitted)
    tcp_rearm_rto(tp)
    return acked


def tcp_tso_acked(tp: TcpControl, skb: TcpSkb) -> i64:
    """Part of a super-segment is acknowledged: keep the rest; how many packets went."""
    had = skb.pcount
    gone = distance(skb.seq, tp.snd_una)
    skb.trim_head(gone)
    tp.wmem_queued -= gone
    skb.set_pcount(tp.mss_cache)
    if skb.pcount > had:
        skb.pcount = had
    forget(tp, skb, had - skb.pcount)
    return had - skb.pcount


def forget(tp: TcpControl, skb: TcpSkb, packets: i64) -> None:
    """``packets`` of ``skb`` are no longer in flight."""
    tp.packets_out -= packets
    if skb.sacked & TCPCB_LOST:
        tp.lost_out -= packets
    if skb.sacked & TCPCB_SACKED_RETRANS:
        tp.retrans_out -= packets


def tcp_ack_update_rtt(tp: TcpControl, rtt: i64, retransmitted: bool) -> None:
    """Feed the estimator, and end the back-off.

    RFC 6298 section 3 (Karn): "RTT samples MUST NOT be made using segments that were retransmitted [...] unless" the
    timestamp option says which transmission is acknowledged; its clock ticks in milliseconds.
    """
    if retransmitted or rtt < 0:
        rtt = -1
        if tp.saw_tstamp and tp.rcv_tsecr:
            ticks: i64 = (tp.mstamp() - tp.rcv_tsecr) & 0xFFFF_FFFF
            if ticks < 0x7FFF_FFFF // 1000:
                rtt = max(ticks, 1) * NSEC_PER_MSEC
    if rtt < 0:
        return
    tcp_rtt_estimator(tp, rtt)
    tcp_set_rto(tp)
    tp.backoff = 0


def confirm_neighbour(tp: TcpControl) -> None:
    """Forward progress proves that the next hop receives (RFC 1122 section 2.3.2.1 (3); sk_dst_confirm)."""
    dst = tp.dst_cache
    if dst is not None:
        tp.tables.neighbours.confirm(rt_nexthop(dst, tp.daddr), dst.dev)
