"""A congestion window that is not used says nothing of the network: validation, restart after idling.

RFC 2861's and RFC 7661's concern; Linux tcp_cwnd_validate, tcp_cwnd_application_limited, tcp_cwnd_restart.
"""

from __future__ import annotations

from mypy_extensions import i64

from ustack.sock import TCP_CLOSE_WAIT, TCP_ESTABLISHED
from ustack.tcp.chrono import tcp_chrono_start
from ustack.tcp.congestion.base import CA_EVENT_CWND_RESTART
from ustack.tcp.control import (
    TCP_CA_CWR,
    TCP_CA_OPEN,
    TCP_CA_RECOVERY,
    TCP_CHRONO_SNDBUF_LIMITED,
    TcpControl,
)
from ustack.tcp.seq import before


def tcp_in_cwnd_reduction(tp: TcpControl) -> bool:
    """True while cwnd is on its way down to ssthresh (PRR)."""
    return tp.ca_state == TCP_CA_CWR or tp.ca_state == TCP_CA_RECOVERY


def tcp_current_ssthresh(tp: TcpControl) -> i64:
    """ssthresh, or three quarters of cwnd if that is more: how much of the path is known to be good."""
    if tcp_in_cwnd_reduction(tp):
        return tp.snd_ssthresh
    return max(tp.snd_ssthresh, (tp.snd_cwnd >> 1) + (tp.snd_cwnd >> 2))


def tcp_is_cwnd_limited(tp: TcpControl) -> bool:
    """True if cwnd held back what we sent last; in slow start, if half of it was in use."""
    if tp.is_cwnd_limited:
        return True
    return tp.in_slow_start() and tp.snd_cwnd < 2 * tp.max_packets_out


def tcp_cwnd_validate(tp: TcpControl, is_cwnd_limited: bool) -> None:
    """Something was sent, or cwnd kept it from being: remember how much of cwnd this round trip uses."""
    new_round = not before(tp.snd_una, tp.cwnd_usage_seq)
    if new_round or is_cwnd_limited or (not tp.is_cwnd_limited and tp.packets_out > tp.max_packets_out):
        tp.is_cwnd_limited = is_cwnd_limited
        tp.max_packets_out = tp.packets_out
        tp.cwnd_usage_seq = tp.snd_nxt
    if tcp_is_cwnd_limited(tp):
        tp.snd_cwnd_used = 0
        tp.snd_cwnd_stamp = tp.net.now
    else:
        window_unused(tp)


def window_unused(tp: TcpControl) -> None:
    """The network starves; for an RTO already?"""
    if tp.packets_out > tp.snd_cwnd_used:
        tp.snd_cwnd_used = tp.packets_out
    if (
        tp.net.sysctl.tcp_slow_start_after_idle
        and tp.net.now - tp.snd_cwnd_stamp >= tp.rto
        and not tp.congestion.has_cong_control
    ):
        tcp_cwnd_application_limited(tp)
    if not tp.write_queue and tp.sock_nospace and (tp.state == TCP_ESTABLISHED or tp.state == TCP_CLOSE_WAIT):
        # all is sent, cwnd would take more, and the user waits for room: the buffer is too small
        tcp_chrono_start(tp, TCP_CHRONO_SNDBUF_LIMITED)


def tcp_cwnd_application_limited(tp: TcpControl) -> None:
    """RFC 2861 section 3.1: "cwnd = (win_used + cwnd) / 2" after an RTO in which the application used less."""
    if tp.ca_state == TCP_CA_OPEN and not tp.sock_nospace:
        win_used = max(tp.snd_cwnd_used, tp.init_cwnd())
        if win_used < tp.snd_cwnd:
            tp.snd_ssthresh = tcp_current_ssthresh(tp)
            tp.snd_cwnd = (tp.snd_cwnd + win_used) >> 1
        tp.snd_cwnd_used = 0
    tp.snd_cwnd_stamp = tp.net.now


def tcp_slow_start_after_idle_check(tp: TcpControl) -> None:
    """The user has something to send again: after a pause, start over."""
    if not tp.net.sysctl.tcp_slow_start_after_idle or tp.packets_out or tp.congestion.has_cong_control:
        return
    idle = tp.net.now - tp.lsndtime
    if idle > tp.rto:
        tcp_cwnd_restart(tp, idle)


def tcp_cwnd_restart(tp: TcpControl, idle: i64) -> None:
    """RFC 5681 section 4.1: after an idle RTO "cwnd SHOULD be reduced to at most RW", halved once for each RTO idle."""
    restart_cwnd = min(tp.init_cwnd(), tp.snd_cwnd)
    tp.congestion.cwnd_event(tp, CA_EVENT_CWND_RESTART)
    tp.snd_ssthresh = tcp_current_ssthresh(tp)
    cwnd = tp.snd_cwnd
    idle -= tp.rto
    while idle > 0 and cwnd > restart_cwnd:
        cwnd >>= 1
        idle -= tp.rto
    tp.snd_cwnd = max(cwnd, restart_cwnd)
    tp.snd_cwnd_stamp = tp.net.now
    tp.snd_cwnd_used = 0
