"""Delivery rate: how fast the network has been delivering lately (Linux net/ipv4/tcp_rate.c).

draft-cheng-iccrg-delivery-rate-estimation: each segment remembers how much had been delivered when it was sent; when it
is delivered itself, the difference over the time between is a sample of the path's bandwidth.
"""

from __future__ import annotations

from mypy_extensions import i64


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
        self.is_ece: bool = False
