"""Delivery rate: how fast the network has been delivering lately (Linux net/ipv4/tcp_rate.c).

draft-cheng-iccrg-delivery-rate-estimation: each segment remembers how much had been delivered when it was sent; when it
is delivered itself, the difference over the time between is a sample of the path's bandwidth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.tcp.control import RTT_UNKNOWN, TcpControl
from ustack.tcp.segment import TCPCB_RETRANS, TCPCB_SACKED_ACKED
from ustack.tcp.seq import after, distance

if TYPE_CHECKING:
    from ustack.tcp.segment import TcpSkb


class RateSample:
    """What one ACK says of the path (struct rate_sample); packets and ns, -1 where nothing is known."""

    def __init__(self) -> None:
        self.prior_mstamp: i64 = 0  #: when the sample's interval began
        self.prior_delivered: i64 = 0  #: ``tp.delivered`` then
        self.prior_delivered_ce: i64 = 0
        self.delivered: i64 = -1  #: packets delivered over the interval
        self.delivered_ce: i64 = 0
        self.interval: i64 = -1
        self.snd_interval: i64 = 0
        self.rcv_interval: i64 = 0
        self.rtt: i64 = -1
        self.losses: i64 = 0  #: packets marked lost by this ACK
        self.acked_sacked: i64 = 0  #: packets newly acknowledged or sacked
        self.prior_in_flight: i64 = 0
        self.last_end_seq: i64 = 0
        self.is_app_limited: bool = False
        self.is_retrans: bool = False
        self.is_ack_delayed: bool = False


def tcp_skb_sent_after(t1: i64, t2: i64, seq1: i64, seq2: i64) -> bool:
    """True if what was sent at ``t1`` and ends at ``seq1`` left after what was sent at ``t2`` and ends at ``seq2``.

    Times, or the numbers of transmissions.
    """
    return t1 > t2 or (t1 == t2 and after(seq1, seq2))


def tcp_rate_skb_sent(tp: TcpControl, skb: TcpSkb) -> None:
    """``skb`` was just sent, or sent again, at ``skb.sent_at``: note how much had been delivered by then.

    The draft: "If (C.bytes_in_flight == 0) C.first_sent_time = C.delivered_time = SND.TIME": an interval without
    anything in flight says nothing of the network, so the clock starts again with the first packet after it.
    """
    if tp.packets_out == 0:
        tp.first_tx_mstamp = tp.delivered_mstamp = skb.sent_at
    skb.tx_first_mstamp = tp.first_tx_mstamp
    skb.tx_delivered_mstamp = tp.delivered_mstamp
    skb.tx_delivered = tp.delivered
    skb.tx_delivered_ce = tp.delivered_ce
    skb.tx_is_app_limited = tp.app_limited != 0


def tcp_rate_skb_delivered(tp: TcpControl, skb: TcpSkb, rs: RateSample) -> None:
    """``skb`` was acknowledged, or sacked: the sample is of the one of all this ACK delivers that was sent last."""
    if skb.tx_delivered_mstamp == 0:
        return
    sent = skb.sent_at
    if rs.prior_delivered == 0 or tcp_skb_sent_after(sent, tp.first_tx_mstamp, skb.end_seq, rs.last_end_seq):
        rs.prior_delivered_ce = skb.tx_delivered_ce
        rs.prior_delivered = skb.tx_delivered
        rs.prior_mstamp = skb.tx_delivered_mstamp
        rs.is_app_limited = skb.tx_is_app_limited
        rs.is_retrans = skb.sacked & TCPCB_RETRANS != 0
        rs.last_end_seq = skb.end_seq
        # the send phase of this sample ends here, and that of the next begins
        tp.first_tx_mstamp = sent
        rs.interval = max(sent - skb.tx_first_mstamp, 0)
    if skb.sacked & TCPCB_SACKED_ACKED:
        skb.tx_delivered_mstamp = 0  # it counts once, not again when it is acknowledged cumulatively


def tcp_rate_gen(tp: TcpControl, delivered: i64, lost: i64, is_sack_reneg: bool, rs: RateSample) -> None:
    """Finish the sample of one ACK, which delivered ``delivered`` packets and marked ``lost`` lost.

    The draft, 3.3: the rate is what was delivered over the longer of the send and the ACK phase, since "it is
    physically impossible to have data delivered faster than it is sent": ACKs that were bunched up must not raise it.
    """
    if tp.app_limited != 0 and tp.delivered > tp.app_limited:
        tp.app_limited = 0  # the bubble is through
    if delivered:
        tp.delivered_mstamp = tp.net.now
    rs.acked_sacked = delivered
    rs.losses = lost
    if rs.prior_mstamp == 0 or is_sack_reneg:
        rs.delivered = -1
        rs.interval = -1
        return
    rs.delivered = tp.delivered - rs.prior_delivered
    rs.delivered_ce = tp.delivered_ce - rs.prior_delivered_ce
    rs.snd_interval = rs.interval
    rs.rcv_interval = max(tp.net.now - rs.prior_mstamp, 0)
    rs.interval = max(rs.snd_interval, rs.rcv_interval)
    if rs.interval < tp.min_rtt and tp.min_rtt != RTT_UNKNOWN:
        # delivered in less than the path can take: after a spurious retransmission the send times tell nothing
        rs.interval = -1
    else:
        keep_for_the_user(tp, rs)


def keep_for_the_user(tp: TcpControl, rs: RateSample) -> None:
    """What tcp_info tells is the latest rate that the network limited, or a higher one that the application did."""
    if not rs.is_app_limited or rs.delivered * tp.rate_interval >= tp.rate_delivered * rs.interval:
        tp.rate_delivered = rs.delivered
        tp.rate_interval = rs.interval
        tp.rate_app_limited = rs.is_app_limited


def tcp_rate_check_app_limited(tp: TcpControl) -> None:
    """Mark the flight a bubble if only the application holds the sender back: its samples are a lower bound."""
    if (
        distance(tp.snd_nxt, tp.write_seq) < tp.mss_cache
        and not tp.tsq_throttled
        and tp.tcp_packets_in_flight() < tp.snd_cwnd
        and tp.lost_out <= tp.retrans_out
    ):
        tcp_mark_app_limited(tp)


def tcp_mark_app_limited(tp: TcpControl) -> None:
    """What is in flight now is a bubble, and what is sent until it is through."""
    tp.app_limited = max(tp.delivered + tp.tcp_packets_in_flight(), 1)
