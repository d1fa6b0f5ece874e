"""RACK: a segment is lost once one sent later has arrived, and a while has passed (RFC 8985; Linux tcp_recovery.c)."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from ustack.tcp.control import ICSK_TIME_REO_TIMEOUT, RTT_UNKNOWN, TCP_CA_RECOVERY, TcpControl
from ustack.tcp.rate import RateSample, tcp_skb_sent_after
from ustack.tcp.rtt import TCP_TIMEOUT_MIN
from ustack.tcp.scoreboard import tcp_mark_skb_lost
from ustack.tcp.segment import TCPCB_LOST, TCPCB_RETRANS, TCPCB_SACKED_RETRANS, TcpSkb

# sysctl tcp_recovery
TCP_RACK_STATIC_REO_WND: Final[i64] = 2
TCP_RACK_NO_DUPTHRESH: Final[i64] = 4
#: So many recoveries a larger reordering window is kept (RFC 8985 6.2 step 4: "persist 16 loss recoveries").
TCP_RACK_RECOVERY_THRESH: Final[i64] = 16
MAX_STEPS: Final[i64] = 0xFF


def tcp_rack_reo_wnd(tp: TcpControl) -> i64:
    """How long to wait for what may only be reordered (ns).

    RFC 8985 6.2 step 4: without reordering seen, no time at all in recovery or once three segments were sacked; else
    "RACK.min_RTT / 4 * RACK.reo_wnd_mult", at most SRTT.
    """
    if tp.reord_seen == 0:
        if tp.ca_state >= TCP_CA_RECOVERY:
            return 0
        if tp.sacked_out >= tp.reordering and not tp.net.sysctl.tcp_recovery & TCP_RACK_NO_DUPTHRESH:
            return 0
    if tp.min_rtt == RTT_UNKNOWN:
        return tp.srtt
    return min((tp.min_rtt >> 2) * tp.rack_reo_wnd_steps, tp.srtt)


def tcp_rack_skb_timeout(tp: TcpControl, skb: TcpSkb, reo_wnd: i64) -> i64:
    """How much longer ``skb`` may take (ns)."""
    return tp.rack_rtt + reo_wnd - (tp.net.now - skb.sent_at)


def tcp_rack_detect_loss(tp: TcpControl) -> i64:
    """Mark lost what has had its time; how long until the next must be judged, 0 for none (RFC 8985 6.2 step 5).

    In the order of transmission, so that the walk ends at the first that was sent too late to be judged.
    """
    timeout: i64 = 0
    reo_wnd = tcp_rack_reo_wnd(tp)
    queue = tp.in_flight()
    skb = queue.tsorted_first
    while skb is not None:
        following = skb.tsorted_next
        if not skb.sacked & TCPCB_LOST or skb.sacked & TCPCB_SACKED_RETRANS:
            if not tcp_rack_sent_after(tp, skb):
                break
            remaining = tcp_rack_skb_timeout(tp, skb, reo_wnd)
            if remaining <= 0:
                tcp_mark_skb_lost(tp, skb)
                queue.tsorted_unlink(skb)
            else:
                timeout = max(timeout, remaining)
        skb = following
    return timeout


def tcp_rack_mark_lost(tp: TcpControl) -> bool:
    """Judge again what this ACK gives reason to; True if the timer now waits for the reordering window."""
    if not tp.rack_advanced:
        return False
    tp.rack_advanced = False
    timeout = tcp_rack_detect_loss(tp)
    if timeout:
        tp.reset_xmit_timer(ICSK_TIME_REO_TIMEOUT, min(timeout + TCP_TIMEOUT_MIN, tp.rto))
    return timeout != 0


def tcp_rack_sent_after(tp: TcpControl, skb: TcpSkb) -> bool:
    """True if the latest that was delivered had been sent after ``skb``.

    RFC 8985 6.2 breaks ties of the clock by sequence number. A batch of ACKs is one instant here, and new data may
    leave before a retransmission in it: transmissions are numbered, only parts of one are told apart by the sequence.
    """
    return tcp_skb_sent_after(tp.rack_order, skb.tx_order, tp.rack_end_seq, skb.end_seq)


def tcp_rack_advance(tp: TcpControl, skb: TcpSkb) -> None:
    """``skb`` has arrived (RFC 8985 6.2 step 2)."""
    rtt = tp.net.now - skb.sent_at
    if rtt < tp.min_rtt and skb.sacked & TCPCB_RETRANS:
        # "the acknowledgment is of the original": the retransmission cannot have come back so soon
        return
    tp.rack_advanced = True
    tp.rack_rtt = rtt
    if tcp_skb_sent_after(skb.tx_order, tp.rack_order, skb.end_seq, tp.rack_end_seq):
        tp.rack_end_seq = skb.end_seq
        tp.rack_order = skb.tx_order


def tcp_rack_update_reo_wnd(tp: TcpControl, rs: RateSample) -> None:
    """D-SACK shows that a retransmission was needless: wait longer, one step a round trip (RFC 8985 6.2 step 4)."""
    if tp.net.sysctl.tcp_recovery & TCP_RACK_STATIC_REO_WND or rs.prior_delivered == 0:
        return
    if rs.prior_delivered < tp.rack_last_delivered:
        tp.rack_dsack_seen = False
    if tp.rack_dsack_seen:
        tp.rack_reo_wnd_steps = min(MAX_STEPS, tp.rack_reo_wnd_steps + 1)
        tp.rack_dsack_seen = False
        tp.rack_last_delivered = tp.delivered
        tp.rack_reo_wnd_persist = TCP_RACK_RECOVERY_THRESH
    elif tp.rack_reo_wnd_persist == 0:
        tp.rack_reo_wnd_steps = 1
