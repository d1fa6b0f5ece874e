"""What happens when a connection's timers fire (Linux net/ipv4/tcp_timer.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.sock import TCP_CLOSE, TCP_FIN_WAIT2, TCP_LISTEN, TCP_SYN_SENT
from ustack.tcp.compress import tcp_sack_compress_send_ack
from ustack.tcp.control import (
    ICSK_ACK_SCHED,
    ICSK_ACK_TIMER,
    ICSK_TIME_LOSS_PROBE,
    ICSK_TIME_NONE,
    ICSK_TIME_PROBE0,
    ICSK_TIME_REO_TIMEOUT,
    ICSK_TIME_RETRANS,
    TCP_ATO_MIN,
    TIMER_DELACK,
    TIMER_PACING,
    TIMER_RETRANSMIT,
    TcpControl,
    TcpTimer,
)
from ustack.tcp.finish import fin_wait2_timeout, tcp_send_active_reset, tcp_write_err
from ustack.tcp.loss_probe import tcp_send_loss_probe
from ustack.tcp.output import WAKEUP_LOST, WAKEUP_PROBED, tcp_tsq_write, tcp_write_wakeup
from ustack.tcp.recovery import tcp_rack_reo_timeout
from ustack.tcp.rtt import tcp_probe0_when
from ustack.tcp.timeout import (
    RESOURCE_PROBE_INTERVAL,
    orphan_retries,
    tcp_clamp_to_user_timeout,
    tcp_out_of_resources,
    tcp_retransmit_timer,
)
from ustack.tcp.trace import timer_facts, which_timer
from ustack.tcp.transmit import tcp_send_ack
from ustack.trace.points import Point
from ustack.trace.words import SocketGiven, socket_name

if TYPE_CHECKING:
    from ustack.trace.journey import Facts


class RetransmitTimer(TcpTimer):
    """Retransmission, loss probe, reordering window or window probe: one timer that waits for one thing at a time."""

    def fire(self) -> None:
        tp = self.tp
        pending = tp.icsk_pending
        if tp.net.tracer is not None:
            tp.net.tracer.call(Point.TCP_WRITE_TIMER_HANDLER, which_timer(pending), timer_facts(tp))
        if tp.state == TCP_CLOSE or tp.state == TCP_LISTEN:
            tp.icsk_pending = ICSK_TIME_NONE
        elif pending == ICSK_TIME_REO_TIMEOUT:
            tcp_rack_reo_timeout(tp)
        elif pending == ICSK_TIME_LOSS_PROBE:
            tcp_send_loss_probe(tp)
        else:
            tp.icsk_pending = ICSK_TIME_NONE
            if pending == ICSK_TIME_RETRANS:
                tcp_retransmit_timer(tp)
            elif pending == ICSK_TIME_PROBE0:
                tcp_probe_timer(tp)


class DelackTimer(TcpTimer):
    """An ACK has waited long enough."""

    def fire(self) -> None:
        tracer = self.tp.net.tracer
        if tracer is not None:
            tracer.call(Point.TCP_DELACK_TIMER, "no data to carry the ACK", SocketGiven(self.tp))
            tracer.resume(self.tp.journey)
        tcp_delack_timer(self.tp)


class KeepaliveTimer(TcpTimer):
    """Nothing has been heard for long."""

    def fire(self) -> None:
        tp = self.tp
        if tp.net.tracer is not None:
            facts: Facts = {"socket": socket_name(tp), "probes_out": int(tp.probes_out)}
            tp.net.tracer.call(Point.TCP_KEEPALIVE_TIMER, "", facts)
        tcp_keepalive_timer(tp)


class PacingTimer(TcpTimer):
    """The last burst has left: the next may go."""

    def fire(self) -> None:
        tracer = self.tp.net.tracer
        if tracer is not None:
            tracer.call(Point.TCP_PACE_KICK, "the last burst has left", SocketGiven(self.tp))
        tcp_tsq_write(self.tp)


def tcp_new_timer(tp: TcpControl, kind: i64) -> TcpTimer:
    """The timer of a connection that is ``kind`` (TIMER_…)."""
    if kind == TIMER_RETRANSMIT:
        return RetransmitTimer(tp)
    if kind == TIMER_DELACK:
        return DelackTimer(tp)
    return PacingTimer(tp) if kind == TIMER_PACING else KeepaliveTimer(tp)


def tcp_probe_timer(tp: TcpControl) -> None:
    """The peer's window is closed: ask again. It may stay closed for ever while it answers (RFC 9293 MUST-37).

    But not to a connection without owner, nor beyond the patience of one who has set TCP_USER_TIMEOUT.
    """
    if tp.packets_out or tp.send_head() is None:
        tp.probes_out = 0
        tp.probes_tstamp = 0
    elif probes_exhausted(tp):
        tcp_write_err(tp)
    elif not tp.dead or not tcp_out_of_resources(tp, True):
        tcp_send_probe0(tp)


def probes_exhausted(tp: TcpControl) -> bool:
    """True if the window has been probed often or long enough."""
    if tp.probes_tstamp == 0:
        tp.probes_tstamp = tp.net.now
    elif tp.user_timeout and tp.net.now - tp.probes_tstamp >= tp.user_timeout:
        return True
    limit = tp.net.sysctl.tcp_retries2
    if tp.dead:
        alive = tcp_probe0_when(tp) < tp.rto_max()
        limit = orphan_retries(tp, alive)
        if not alive and tp.backoff >= limit:
            return True
    return tp.probes_out >= limit


def tcp_send_probe0(tp: TcpControl) -> None:
    """One probe, and the next twice as late (RFC 9293 SHLD-30), unless it has not even left this host."""
    went = tcp_write_wakeup(tp)
    if went & WAKEUP_PROBED:
        tp.net.mib.tcpext.TCPWinProbe += 1
    if tp.packets_out or tp.send_head() is None:
        tp.probes_out = 0
        tp.backoff = 0
        tp.probes_tstamp = 0
        return
    tp.probes_out += 1
    when = RESOURCE_PROBE_INTERVAL
    if not went & WAKEUP_LOST:
        if tp.backoff < tp.net.sysctl.tcp_retries2:
            tp.backoff += 1
        when = tcp_probe0_when(tp)
    tp.reset_xmit_timer(ICSK_TIME_PROBE0, tcp_clamp_to_user_timeout(tp, when, tp.probes_tstamp))


def tcp_delack_timer(tp: TcpControl) -> None:
    """No data came along to carry the ACK: send it alone, and wait less for company next time."""
    tp.ack_pending &= ~ICSK_ACK_TIMER
    if tp.compressed_ack:
        tcp_sack_compress_send_ack(tp)
        return
    if tp.state == TCP_CLOSE or not tp.ack_pending & ICSK_ACK_SCHED:
        return
    if tp.in_pingpong_mode():
        tp.ack_pingpong = 0
        tp.ato = TCP_ATO_MIN
    else:
        tp.ato = min(tp.ato << 1, tp.rto)
    tp.net.mib.tcpext.DelayedACKs += 1
    tcp_send_ack(tp)


def tcp_keepalive_timer(tp: TcpControl) -> None:
    """RFC 9293 section 3.8.4: probe a silent peer, off by default (MUST-25), and give up after so many probes."""
    if tp.state == TCP_FIN_WAIT2 and tp.dead:
        return fin_wait2_timeout(tp)
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
        tcp_send_active_reset(tp, "keepalive unanswered")
        tp.err_soft = tp.err_soft or errno.ETIMEDOUT
        tcp_write_err(tp)
    else:
        went = tcp_write_wakeup(tp)
        if went & WAKEUP_PROBED:
            tp.net.mib.tcpext.TCPKeepAlive += 1
        if went & WAKEUP_LOST:
            tp.reset_keepalive_timer(RESOURCE_PROBE_INTERVAL)
        else:
            tp.probes_out += 1
            tp.reset_keepalive_timer(tp.keepalive_intvl_when())


def keepalive_exhausted(tp: TcpControl, elapsed: i64) -> bool:
    """So many probes unanswered, or the user's own timeout over."""
    if tp.user_timeout:
        return tp.probes_out > 0 and elapsed >= tp.user_timeout
    return tp.probes_out >= tp.keepalive_probes()
