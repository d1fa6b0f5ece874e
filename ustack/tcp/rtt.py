"""Round-trip time and the retransmission timeout (RFC 6298; Linux tcp_rtt_estimator, tcp_set_rto).

Linux keeps srtt scaled by 8 and mdev by 4; here they are plain nanoseconds and the gains are written out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.tcp.ack_state import FLAG_ACK_MAYBE_DELAYED, FLAG_ACKED, FLAG_SYN_ACKED
from ustack.tcp.control import (
    ICSK_TIME_LOSS_PROBE,
    ICSK_TIME_REO_TIMEOUT,
    ICSK_TIME_RETRANS,
    TCP_RTO_MIN,
    TcpControl,
)
from ustack.tcp.minmax import MinMax
from ustack.tcp.seq import after
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC, NSEC_PER_USEC

if TYPE_CHECKING:
    from ustack.tcp.rate import RateSample

#: So many doublings bring a microsecond to more than a minute, and the longest RTO to less than 2**63 ns.
BACKOFF_MAX: Final[i64] = 26
#: From TCP_RTO_MIN on it takes no more of them to TCP_RTO_MAX (tcp_probe0_when).
PROBE0_BACKOFF_MAX: Final[i64] = 10
#: The shortest wait of a retransmission timer, and what RACK and the loss probe add to theirs, against timers that come
#: early: two ticks of 1000 Hz.
TCP_TIMEOUT_MIN: Final[i64] = 2 * NSEC_PER_MSEC


def tcp_rtt_estimator(tp: TcpControl, rtt: i64) -> None:
    """Take one sample (ns) into srtt, mdev and rttvar.

    RFC 6298 (2.3): "RTTVAR <- (1 - beta) * RTTVAR + beta * |SRTT - R'|", alpha = 1/8, beta = 1/4. As in Linux a
    falling RTT moves the variance by an eighth of that, and the variance used is the largest of one round trip.
    """
    if tp.srtt == 0:
        # RFC 6298 (2.2): "SRTT <- R, RTTVAR <- R/2"
        tp.srtt = max(rtt, 1)
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
    # in whole microseconds, as Linux measures
    rto = (tp.srtt + (tp.rttvar << 2)) // NSEC_PER_USEC * NSEC_PER_USEC
    tp.rto = min(rto, tp.rto_max())


def tcp_update_rtt_min(tp: TcpControl, rtt: i64, flag: i64) -> None:
    """Feed the filter of the smallest RTT; not with what a delayed ACK made larger (tcp_update_rtt_min)."""
    if flag & FLAG_ACK_MAYBE_DELAYED and rtt > tp.min_rtt:
        return
    rtt = rtt if rtt else NSEC_PER_MSEC
    if tp.rtt_min is None:
        tp.rtt_min = MinMax()
        tp.min_rtt = tp.rtt_min.reset(tp.net.now, rtt)
    else:
        window = tp.net.sysctl.tcp_min_rtt_wlen * NSEC_PER_SEC
        tp.min_rtt = tp.rtt_min.running_min(window, tp.net.now, rtt)


def tcp_rtt_tsopt(tp: TcpControl) -> i64:
    """How long ago the timestamp echoed was sent (ns, whole milliseconds, at least one); -1 if that makes no sense."""
    ticks: i64 = (tp.mstamp() - tp.rcv_tsecr) & 0xFFFF_FFFF
    return max(ticks, 1) * NSEC_PER_MSEC if ticks < 0x7FFF_FFFF // 1000 else -1


def tcp_ack_update_rtt(
    tp: TcpControl, flag: i64, seq_rtt: i64, sack_rtt: i64, ca_rtt: i64, rs: RateSample | None
) -> bool:
    """Feed the estimator with what one ACK tells, and end the back-off; False if it tells nothing.

    ``seq_rtt`` is of the oldest newly acknowledged segment, ``sack_rtt`` of the oldest newly sacked, ``ca_rtt`` of the
    newest of either; ns, -1 where unknown. RFC 6298 section 3 (Karn): "RTT samples MUST NOT be made using segments that
    were retransmitted [...] unless" the timestamp option says which transmission is acknowledged.
    """
    if seq_rtt < 0:
        seq_rtt = sack_rtt
    if seq_rtt < 0 and tp.saw_tstamp and tp.rcv_tsecr and flag & FLAG_ACKED:
        seq_rtt = ca_rtt = tcp_rtt_tsopt(tp)
    if rs is not None:
        rs.rtt = ca_rtt
    if seq_rtt < 0:
        return False
    tcp_update_rtt_min(tp, ca_rtt, flag)
    tcp_rtt_estimator(tp, seq_rtt)
    tcp_set_rto(tp)
    tp.backoff = 0
    return True


def tcp_synack_rtt_meas(tp: TcpControl, rtt: i64) -> None:
    """The handshake's ACK came ``rtt`` ns after our SYN-ACK, -1 if that was sent more than once."""
    tcp_ack_update_rtt(tp, FLAG_SYN_ACKED, rtt, -1, rtt, None)


# -- when the retransmission timer is due


def tcp_probe0_when(tp: TcpControl) -> i64:
    """When to probe a closed window: from an RTO on, doubled for every probe so far, at most TCP_RTO_MAX."""
    return min(max(tp.rto, TCP_RTO_MIN) << min(tp.backoff, PROBE0_BACKOFF_MAX), tp.rto_max())


def inet_csk_rto_backoff(tp: TcpControl) -> i64:
    """An RTO as it was measured, doubled once for every time that the timer has backed off, at most TCP_RTO_MAX."""
    return min(tp.rto << min(tp.backoff, BACKOFF_MAX), tp.rto_max())


def tcp_rto_delta(tp: TcpControl) -> i64:
    """How far off the RTO of the oldest segment in flight is (ns); negative if it is overdue."""
    head = tp.rtx_head()
    rto = tp.rto
    return rto if head is None else head.sent_at + rto - tp.net.now


def tcp_rearm_rto(tp: TcpControl) -> None:
    """RFC 6298 (5.1) to (5.3): running while data is in flight, off when all is acknowledged, restarted by new ACKs.

    What waited meanwhile for a loss probe or the reordering window has taken its time from the RTO.
    """
    if tp.fastopen_rsk is not None:
        return  # the timer is the SYN-ACK's
    if tp.packets_out == 0:
        tp.clear_xmit_timer()
        return
    delay = tp.rto
    if tp.icsk_pending == ICSK_TIME_REO_TIMEOUT or tp.icsk_pending == ICSK_TIME_LOSS_PROBE:
        delay = max(tcp_rto_delta(tp), NSEC_PER_USEC)
    tp.reset_xmit_timer(ICSK_TIME_RETRANS, delay + tp.pacing_delay())


def tcp_update_rto_stats(tp: TcpControl) -> None:
    """The timer has fired in vain once more: the run of timeouts, and the totals (tcp_info)."""
    if tp.retransmits == 0:
        tp.total_rto_recoveries += 1
        tp.rto_stamp = tp.net.now
    tp.retransmits += 1
    tp.total_rto += 1


def tcp_update_rto_time(tp: TcpControl) -> None:
    """The run of timeouts is over: how long it took."""
    if tp.rto_stamp:
        tp.total_rto_time += tp.net.now - tp.rto_stamp
        tp.rto_stamp = 0
