"""The counts of the scoreboard, and what one mark does to them (Linux tcp_mark_skb_lost, tcp_adjust_pcount, ...).

packets_out were sent, sacked_out of them have left the network, lost_out are given up, retrans_out were sent again:
tp.tcp_packets_in_flight() is RFC 6675's pipe. Each is the sum of pcount over the skbs with that mark; without SACK
sacked_out counts duplicate ACKs and no skb is marked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.tcp.control import RTT_UNKNOWN, TCP_CA_OPEN
from ustack.tcp.segment import (
    TCPCB_EVER_RETRANS,
    TCPCB_LOST,
    TCPCB_RETRANS,
    TCPCB_SACKED_ACKED,
    TCPCB_SACKED_RETRANS,
    TcpSkb,
)
from ustack.tcp.seq import before
from ustack.timer import NSEC_PER_MSEC

if TYPE_CHECKING:
    from ustack.tcp.control import TcpControl


def tcp_left_out(tp: TcpControl) -> i64:
    return tp.sacked_out + tp.lost_out


def tcp_adjust_pcount(tp: TcpControl, skb: TcpSkb, decrease: i64) -> None:
    """``skb`` counts as so many packets less, or as more if negative."""
    tp.packets_out -= decrease
    if skb.sacked & TCPCB_SACKED_ACKED:
        tp.sacked_out -= decrease
    if skb.sacked & TCPCB_SACKED_RETRANS:
        tp.retrans_out -= decrease
    if skb.sacked & TCPCB_LOST:
        tp.lost_out -= decrease
    if not tp.sack_ok and decrease > 0:
        tp.sacked_out -= min(tp.sacked_out, decrease)


def tcp_mark_skb_lost(tp: TcpControl, skb: TcpSkb) -> None:
    """Give up on ``skb``, or on its retransmission."""
    sacked = skb.sacked
    if sacked & TCPCB_SACKED_ACKED:
        return
    tcp_verify_retransmit_hint(tp, skb)
    if not sacked & TCPCB_LOST:
        tp.lost_out += skb.pcount
        skb.sacked |= TCPCB_LOST
        tp.lost += skb.pcount
    elif sacked & TCPCB_SACKED_RETRANS:
        # what was sent again is lost again
        skb.sacked &= ~TCPCB_SACKED_RETRANS
        tp.retrans_out -= skb.pcount
        tp.net.mib.tcpext.TCPLostRetransmit += skb.pcount
        tp.lost += skb.pcount


def tcp_verify_retransmit_hint(tp: TcpControl, skb: TcpSkb) -> None:
    """Let the search for what to send again begin no later than at ``skb``."""
    hint = tp.retransmit_skb_hint
    if hint is None:
        if tp.retrans_out >= tp.lost_out:
            tp.retransmit_skb_hint = skb
    elif before(skb.seq, hint.seq):
        tp.retransmit_skb_hint = skb


def tcp_any_retrans_done(tp: TcpControl) -> bool:
    """True if something in flight was sent more than once."""
    if tp.retrans_out:
        return True
    head = tp.rtx_head()
    return head is not None and head.sacked & TCPCB_EVER_RETRANS != 0


def tcp_retrans_stamp_cleanup(tp: TcpControl) -> None:
    """A new run of retransmissions begins, unless one is still going on."""
    if not tcp_any_retrans_done(tp):
        tp.retrans_stamp = 0


def tcp_count_delivered(tp: TcpControl, packets: i64, ece_ack: bool) -> None:
    tp.delivered += packets
    if ece_ack:
        tp.delivered_ce += packets


# -- highest_sack: the first skb above all that was sacked


def tcp_highest_sack_seq(tp: TcpControl) -> i64:
    """One past the highest byte sacked, as far as whole skbs go; snd_una if nothing is."""
    if tp.sacked_out == 0:
        return tp.snd_una
    highest = tp.highest_sack
    return tp.snd_nxt if highest is None else highest.seq


def tcp_advance_highest_sack(tp: TcpControl, skb: TcpSkb) -> None:
    tp.highest_sack = tp.in_flight().next(skb)


def tcp_highest_sack_replace(tp: TcpControl, old: TcpSkb, new: TcpSkb | None) -> None:
    if old is tp.highest_sack:
        tp.highest_sack = new


# -- timestamps


def tcp_skb_timestamp_ts(tp: TcpControl, when: i64) -> i64:
    """The timestamp that a segment sent at ``when`` (ns) carried."""
    return (when // NSEC_PER_MSEC + tp.tsoffset) & 0xFFFF_FFFF


def tcp_tsopt_ecr_before(tp: TcpControl, when: i64) -> bool:
    """True if the ACK echoes a timestamp older than ``when`` (ns)."""
    return tp.saw_tstamp and tp.rcv_tsecr != 0 and before(tp.rcv_tsecr, tcp_skb_timestamp_ts(tp, when))


def tcp_skb_spurious_retrans(tp: TcpControl, skb: TcpSkb) -> bool:
    """True if it was sent again, and what the ACK echoes was sent before that."""
    return skb.sacked & TCPCB_RETRANS != 0 and tcp_tsopt_ecr_before(tp, skb.sent_at)


# -- nothing is in flight any more


def tcp_clear_all_retrans_hints(tp: TcpControl) -> None:
    """The queue is gone: nothing may point into it."""
    tp.retransmit_skb_hint = None
    tp.highest_sack = None
    tp.recv_sack_cache = []


def tcp_init_recovery(tp: TcpControl) -> None:
    """As before the first segment: what was learnt of one path says nothing of the next (tcp_disconnect)."""
    tcp_clear_all_retrans_hints(tp)
    tp.ca_state = TCP_CA_OPEN
    tp.sacked_out = tp.lost_out = tp.retrans_out = 0
    tp.reordering = tp.net.sysctl.tcp_reordering
    tp.reord_seen = tp.dsack_dups = 0
    tp.is_sack_reneg = False
    tp.rack_rtt = tp.rack_end_seq = tp.rack_order = tp.rack_last_delivered = 0
    tp.rack_reo_wnd_steps = 1
    tp.rack_reo_wnd_persist = 0
    tp.rack_dsack_seen = tp.rack_advanced = False
    tp.tlp_high_seq = 0
    tp.tlp_retrans = tp.frto = False
    tp.undo_marker = tp.undo_retrans = 0
    tp.prior_cwnd = tp.prior_ssthresh = tp.prr_delivered = tp.prr_out = 0
    tp.high_seq = tp.retrans_stamp = 0
    tp.min_rtt = RTT_UNKNOWN
    tp.rtt_min = None
