"""Round-trip time and the retransmission timeout (RFC 6298; Linux tcp_rtt_estimator, tcp_set_rto).

Linux keeps srtt scaled by 8 and mdev by 4; here they are plain nanoseconds and the gains are written out.
"""

from __future__ import annotations

from mypy_extensions import i64

from ustack.tcp.control import TCP_RTO_MAX, TCP_RTO_MIN, TcpControl
from ustack.tcp.seq import after


def tcp_rtt_estimator(tp: TcpControl, rtt: i64) -> None:
    """Take one sample (ns) into srtt, mdev and rttvar.

    RFC 6298 (2.3): "RTTVAR <- (1 - beta) * RTTVAR + beta * |SRTT - R'|", alpha = 1/8, beta = 1/4. As in Linux a
    falling RTT moves the variance by an eighth of that, and the variance used is the largest of one round trip.
    """
    if tp.srtt == 0:
        # RFC 6298 (2.2): "SRTT <- R, RTTVAR <- R/2"
        tp.srtt = rtt
        tp.mdev = rtt >> 1
        tp.rttvar = max(tp.mdev, tp.rto_min() >> 2)
        tp.mdev_max = tp.rttvar
        tp.rtt_seq = tp.snd_nxt
        return
    error = rtt - tp.srtt
    tp.srtt += error >> 3
    if tp.srtt < 1:
        tp.srtt = 1
    deviation = error
    if error < 0:
        deviation = -error - tp.mdev
        if deviation > 0:
            deviation >>= 3
    else:
        deviation = error - tp.mdev
    tp.mdev += deviation >> 2
    if tp.mdev > tp.mdev_max:
        tp.mdev_max = tp.mdev
        if tp.mdev_max > tp.rttvar:
            tp.rttvar = tp.mdev_max
    if after(tp.snd_una, tp.rtt_seq):
        if tp.mdev_max < tp.rttvar:
            tp.rttvar -= (tp.rttvar - tp.mdev_max) >> 2
        tp.rtt_seq = tp.snd_nxt
        tp.mdev_max = tp.rto_min() >> 2


def tcp_set_rto(tp: TcpControl) -> None:
    """RFC 6298 (2.3): "RTO <- SRTT + max (G, K*RTTVAR)", K = 4; bounded by TCP_RTO_MIN's variance and TCP_RTO_MAX."""
    tp.rto = min(tp.srtt + (tp.rttvar << 2), TCP_RTO_MAX)


def tcp_probe0_when(tp: TcpControl) -> i64:
    """When to probe a closed window: from an RTO on, doubled for every probe so far, at most TCP_RTO_MAX."""
    return min(max(rto_after_backoff(tp), TCP_RTO_MIN) << min(tp.probe_backoff, 10), TCP_RTO_MAX)


def rto_after_backoff(tp: TcpControl) -> i64:
    """RTO doubled once for every retransmission so far (RFC 6298 (5.5)), at most TCP_RTO_MAX."""
    shift = min(tp.backoff, 10)
    return min(tp.rto << shift, TCP_RTO_MAX)
