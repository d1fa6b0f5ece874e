"""What happens when a connection's timers fire (Linux net/ipv4/tcp_timer.c)."""

from __future__ import annotations

import errno
from typing import Final

from mypy_extensions import i64

from ustack.sock import TCP_CLOSE, TCP_LISTEN, TCP_SYN_RECV, TCP_SYN_SENT
from ustack.tcp.control import (
    ICSK_ACK_SCHED,
    ICSK_ACK_TIMER,
    ICSK_TIME_PROBE0,
    ICSK_TIME_RETRANS,
    TCP_ATO_MIN,
    TCP_CA_DISORDER,
    TCP_CA_LOSS,
    TCP_CA_RECOVERY,
    TCP_RTO_MAX,
    TCP_RTO_MIN,
    TcpControl,
)
from ustack.tcp.finish import tcp_send_active_reset, tcp_write_err
from ustack.tcp.output import tcp_retransmit_skb, tcp_write_wakeup
from ustack.tcp.recovery import tcp_enter_loss
from ustack.tcp.rtt import rto_after_backoff, tcp_probe0_when
from ustack.tcp.transmit import tcp_send_ack
from ustack.timer import NSEC_PER_MSEC, Timer

#: After a retransmission that could not even leave this host (TCP_RESOURCE_PROBE_INTERVAL).
RESOURCE_PROBE_INTERVAL: Final[i64] = 500 * NSEC_PER_MSEC
#: Retries of a connection without owner when tcp_orphan_retries is 0 (tcp_orphan_retries()).
ORPHAN_RETRIES: Final[i64] = 8


class RetransmitTimer(Timer):
    """Retransmission or window probe: one timer that waits for one thing at a time."""

    def __init__(self, tp: TcpControl) -> None:
        super().__init__()
        self.tp: TcpControl = tp

    def fire(self) -> None:
        tp = self.tp
        pending = tp.icsk_pending
        tp.icsk_pending = 0
        if tp.state == TCP_CLOSE or tp.state == TCP_LISTEN:
            return
        if pending == ICSK_TIME_RETRANS:
            tcp_retransmit_timer(tp)
        elif pending == ICSK_TIME_PROBE0:
            tcp_probe_timer(tp)


class DelackTimer(Timer):
    """An ACK has waited long enough."""

    def __init__(self, tp: TcpControl) -> None:
        super().__init__()
        self.tp: TcpControl = tp

    def fire(self) -> None:
        tcp_delack_timer(self.tp)


class KeepaliveTimer(Timer):
    """Nothing has been heard for long."""

    def __init__(self, tp: TcpControl) -> None:
        super().__init__()
        self.tp: TcpControl = tp

    def fire(self) -> None:
        tcp_keepalive_timer(self.tp)


def attach_timers(tp: TcpControl) -> None:
    tp.retransmit_timer = RetransmitTimer(tp)
    tp.delack_timer = DelackTimer(tp)
    tp.keepalive_timer = KeepaliveTimer(tp)


def tcp_retransmit_timer(tp: TcpControl) -> None:
    """RFC 6298 (5.4) to (5.6): "Retransmit the earliest segment that has not been acknowledged", back off, restart."""
    head = tp.rtx_head()
    if head is None or tp.packets_out == 0:
        return
    if tp.snd_wnd == 0 and not tp.dead and tp.state != TCP_SYN_SENT and tp.state != TCP_SYN_RECV:
        # the peer shrank its window over data in flight: a live one may take for ever (RFC 9293 MUST-37), and what we
        # retransmit is a probe
        if tcp_rtx_probe0_timed_out(tp):
            tcp_write_err(tp)
            return
        tcp_enter_loss(tp)
        tcp_retransmit_skb(tp, head, 1)
    else:
        tp.net.mib.tcpext.TCPTimeouts += 1
        if tcp_write_timeout(tp):
            return
        if tp.retransmits == 0:
            tp.retrans_stamp = 0  # RFC 9293 3.8.3: R2 is about "the same segment"; the last run got through
            count_failure(tp)
        tcp_enter_loss(tp)
        tp.retransmits += 1
        if tcp_retransmit_skb(tp, head, 1):
            # not sent for want of local resources: no back-off for that
            tp.reset_xmit_timer(ICSK_TIME_RETRANS, min(tp.rto, RESOURCE_PROBE_INTERVAL))
            return
    tp.backoff += 1
    tp.reset_xmit_timer(ICSK_TIME_RETRANS, tcp_clamp_to_user_timeout(tp, rto_after_backoff(tp), tp.retrans_stamp))


def count_failure(tp: TcpControl) -> None:
    """The first timeout of a run: say what it put an end to."""
    mib = tp.net.mib.tcpext
    if tp.ca_state == TCP_CA_RECOVERY:
        mib.TCPRenoRecoveryFail += 1
    elif tp.ca_state == TCP_CA_LOSS:
        mib.TCPLossFailures += 1
    elif tp.ca_state == TCP_CA_DISORDER or tp.sacked_out:
        mib.TCPRenoFailures += 1


def tcp_rtx_probe0_timed_out(tp: TcpControl) -> bool:
    """A peer with a closed window and our data in flight has said nothing for long."""
    limit = tp.user_timeout if tp.user_timeout else 2 * TCP_RTO_MAX
    if tp.net.now - tp.rcv_tstamp <= limit:
        return False
    return tp.net.now - (tp.retrans_stamp or tp.net.now) > limit


def tcp_clamp_to_user_timeout(tp: TcpControl, delay: i64, since: i64) -> i64:
    """``delay``, or what is left of TCP_USER_TIMEOUT if that is less; it began at ``since``, 0 for not at all."""
    if tp.user_timeout == 0 or since == 0:
        return delay
    remaining = since + tp.user_timeout - tp.net.now
    return min(delay, max(remaining, NSEC_PER_MSEC))


def tcp_write_timeout(tp: TcpControl) -> bool:
    """Give up? True if the connection was ended (RFC 9293 section 3.8.3, R1 and R2)."""
    sysctl = tp.net.sysctl
    if tp.state == TCP_SYN_SENT or tp.state == TCP_SYN_RECV:
        limit = tp.syn_retries if tp.syn_retries else sysctl.tcp_syn_retries
        expired = tp.retransmits >= limit
    else:
        if tp.retransmits == sysctl.tcp_retries1 and tp.dst_cache is not None:
            tp.dst_cache = None  # R1: "pass negative advice to the IP layer": look for another route
        limit = orphan_retries(tp, rto_after_backoff(tp) < TCP_RTO_MAX) if tp.dead else sysctl.tcp_retries2
        expired = retransmits_timed_out(tp, limit)
    if expired:
        tcp_write_err(tp)
    return expired


def orphan_retries(tp: TcpControl, alive: bool) -> i64:
    """How often a connection without owner retries: few, and once it has backed off all the way (not ``alive``) the
    sysctl alone says so, or ICMP that nobody is there (tcp_orphan_retries)."""
    if tp.err_soft and not alive:
        return 0
    return tp.net.sysctl.tcp_orphan_retries or (ORPHAN_RETRIES if alive else 0)


def retransmits_timed_out(tp: TcpControl, boundary: i64) -> bool:
    """True if as much time has passed as ``boundary`` retransmissions from an RTO of 200 ms on would take."""
    if tp.retransmits == 0:
        return False
    elapsed = tp.net.now - (tp.retrans_stamp or tp.net.now)
    if tp.user_timeout:
        return elapsed >= tp.user_timeout
    doublings: i64 = 9  # ilog2(TCP_RTO_MAX / TCP_RTO_MIN)
    if boundary <= doublings:
        return elapsed >= ((2 << boundary) - 1) * TCP_RTO_MIN
    return elapsed >= ((2 << doublings) - 1) * TCP_RTO_MIN + (boundary - doublings) * TCP_RTO_MAX


def tcp_probe_timer(tp: TcpControl) -> None:
    """The peer's window is closed: ask again. It may stay closed for ever while it answers (RFC 9293 MUST-37).

    But not to a connection without owner, nor beyond the patience of one who has set TCP_USER_TIMEOUT.
    """
    if tp.packets_out or tp.send_head() is None:
        tp.probes_out = 0
        tp.probes_tstamp = 0
    elif probes_exhausted(tp):
        tcp_write_err(tp)
    else:
        tcp_send_probe0(tp)


def probes_exhausted(tp: TcpControl) -> bool:
    """True if the window has been probed often or long enough."""
    if tp.probes_tstamp == 0:
        tp.probes_tstamp = tp.net.now
    elif tp.user_timeout and tp.net.now - tp.probes_tstamp >= tp.user_timeout:
        return True
    limit = tp.net.sysctl.tcp_retries2
    if tp.dead:
        alive = tcp_probe0_when(tp) < TCP_RTO_MAX
        limit = orphan_retries(tp, alive)
        if not alive and tp.probe_backoff >= limit:
            return True
    return tp.probes_out >= limit


def tcp_send_probe0(tp: TcpControl) -> None:
    """One probe, and the next twice as late (RFC 9293 SHLD-30)."""
    if tcp_write_wakeup(tp):
        tp.net.mib.tcpext.TCPWinProbe += 1
    if tp.packets_out or tp.send_head() is None:
        tp.probes_out = 0
        tp.probe_backoff = 0
        tp.probes_tstamp = 0
        return
    tp.probes_out += 1
    if tp.probe_backoff < tp.net.sysctl.tcp_retries2:
        tp.probe_backoff += 1
    tp.reset_xmit_timer(ICSK_TIME_PROBE0, tcp_clamp_to_user_timeout(tp, tcp_probe0_when(tp), tp.probes_tstamp))


def tcp_delack_timer(tp: TcpControl) -> None:
    """No data came along to carry the ACK: send it alone, and wait less for company next time."""
    tp.ack_pending &= ~ICSK_ACK_TIMER
    if tp.state == TCP_CLOSE or not tp.ack_pending & ICSK_ACK_SCHED:
        return
    if tp.ack_pingpong:
        tp.ack_pingpong = False
        tp.ato = TCP_ATO_MIN
    else:
        tp.ato = min(tp.ato << 1, tp.rto)
    tp.net.mib.tcpext.DelayedACKs += 1
    tcp_send_ack(tp)


def tcp_keepalive_timer(tp: TcpControl) -> None:
    """RFC 9293 section 3.8.4: probe a silent peer, off by default (MUST-25), and give up after so many probes."""
    if not tp.keepopen or tp.state in (TCP_CLOSE, TCP_SYN_SENT, TCP_LISTEN):
        return
    idle = tp.keepalive_time_when()
    if tp.packets_out or tp.send_head() is not None:
        tp.reset_keepalive_timer(idle)
        return
    elapsed = tp.net.now - max(tp.rcv_tstamp, tp.lrcvtime)
    if elapsed < idle:
        tp.reset_keepalive_timer(idle - elapsed)
    elif keepalive_exhausted(tp, elapsed):
        tcp_send_active_reset(tp)
        tp.err_soft = tp.err_soft or errno.ETIMEDOUT
        tcp_write_err(tp)
    else:
        if tcp_write_wakeup(tp):
            tp.net.mib.tcpext.TCPKeepAlive += 1
        tp.probes_out += 1
        tp.reset_keepalive_timer(tp.keepalive_intvl_when())


def keepalive_exhausted(tp: TcpControl, elapsed: i64) -> bool:
    """So many probes unanswered, or the user's own timeout over."""
    if tp.user_timeout:
        return tp.probes_out > 0 and elapsed >= tp.user_timeout
    return tp.probes_out >= tp.keepalive_probes()
