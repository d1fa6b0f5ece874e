"""The retransmission timer: what it sends, and when it gives up (RFC 6298, RFC 9293 section 3.8.3; tcp_timer.c)."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from ustack.packet import NET_XMIT_DROP
from ustack.sock import TCP_ESTABLISHED, TCP_SYN_RECV, TCP_SYN_SENT
from ustack.tcp.control import (
    ICSK_TIME_RETRANS,
    TCP_CA_DISORDER,
    TCP_CA_LOSS,
    TCP_CA_RECOVERY,
    TCP_INFINITE_SSTHRESH,
    TCP_RTO_MIN,
    TCP_TIMEOUT_INIT,
    TCP_TIMEWAIT_LEN,
    TcpControl,
)
from ustack.tcp.fastopen import tcp_fastopen_synack_timer
from ustack.tcp.fastopen_syn import tcp_fastopen_active_detect_blackhole
from ustack.tcp.finish import tcp_done, tcp_send_active_reset, tcp_write_err
from ustack.tcp.loss import tcp_enter_loss
from ustack.tcp.memory import tcp_check_oom
from ustack.tcp.mtu import tcp_mtu_probing
from ustack.tcp.retransmit import tcp_retransmit_skb
from ustack.tcp.rtt import tcp_set_rto, tcp_update_rto_stats
from ustack.timer import NSEC_PER_MSEC

#: After a retransmission that could not even leave this host (TCP_RESOURCE_PROBE_INTERVAL).
RESOURCE_PROBE_INTERVAL: Final[i64] = 500 * NSEC_PER_MSEC
#: Retries of a connection without owner when tcp_orphan_retries is 0 (tcp_orphan_retries()).
ORPHAN_RETRIES: Final[i64] = 8
#: So many timeouts a thin stream does not back off (TCP_THIN_LINEAR_RETRIES).
THIN_LINEAR_RETRIES: Final[i64] = 6


def tcp_retransmit_timer(tp: TcpControl) -> None:
    """RFC 6298 (5.4) to (5.6): "Retransmit the earliest segment that has not been acknowledged", back off, restart."""
    if tp.fastopen_rsk is not None:
        return tcp_fastopen_synack_timer(tp)
    head = tp.rtx_head()
    if head is None or tp.packets_out == 0:
        return
    if tp.snd_wnd == 0 and not tp.dead and not opening(tp):
        # the peer shrank its window over data in flight: a live one may take for ever (RFC 9293 MUST-37), and what we
        # retransmit is a probe
        if tcp_rtx_probe0_timed_out(tp, head.sent_at):
            tcp_write_err(tp)
            return
        tcp_enter_loss(tp)
        tcp_retransmit_skb(tp, head, 1)
        tp.dst_cache = None
    else:
        tp.net.mib.tcpext.TCPTimeouts += 1
        if tcp_write_timeout(tp):
            return
        if tp.retransmits == 0:
            count_failure(tp)
        tcp_enter_loss(tp)
        tcp_update_rto_stats(tp)
        if tcp_retransmit_skb(tp, head, 1) == NET_XMIT_DROP:
            # not sent for want of local resources: no back-off for that
            tp.reset_xmit_timer(ICSK_TIME_RETRANS, RESOURCE_PROBE_INTERVAL)
            return
    back_off(tp)
    tp.reset_xmit_timer(ICSK_TIME_RETRANS, tcp_clamp_to_user_timeout(tp, tp.rto, tp.retrans_stamp))


def opening(tp: TcpControl) -> bool:
    return tp.state == TCP_SYN_SENT or tp.state == TCP_SYN_RECV


def back_off(tp: TcpControl) -> None:
    """RFC 6298 (5.5): "RTO <- RTO * 2 ("back off the timer")"; not for the first SYNs, nor at once for thin streams."""
    sysctl = tp.net.sysctl
    thin = tp.thin_lto or sysctl.tcp_thin_linear_timeouts != 0
    if thin and tp.state == TCP_ESTABLISHED and tcp_stream_is_thin(tp) and tp.retransmits <= THIN_LINEAR_RETRIES:
        tp.backoff = 0
        tcp_set_rto(tp)
        tp.rto = min(max(tp.rto, tp.rto_min()), tp.rto_max())
    elif tp.state != TCP_SYN_SENT or tp.total_rto > sysctl.tcp_syn_linear_timeouts:
        tp.backoff += 1
        tp.rto = min(tp.rto << 1, tp.rto_max())


def tcp_stream_is_thin(tp: TcpControl) -> bool:
    """Too little in flight for duplicate ACKs to tell of a loss, and not because it has just begun."""
    return tp.packets_out < 4 and tp.snd_ssthresh < TCP_INFINITE_SSTHRESH


def count_failure(tp: TcpControl) -> None:
    """The first timeout of a run: say what it put an end to."""
    mib = tp.net.mib.tcpext
    if tp.ca_state == TCP_CA_RECOVERY:
        if tp.sack_ok:
            mib.TCPSackRecoveryFail += 1
        else:
            mib.TCPRenoRecoveryFail += 1
    elif tp.ca_state == TCP_CA_LOSS:
        mib.TCPLossFailures += 1
    elif tp.ca_state == TCP_CA_DISORDER or tp.sacked_out:
        if tp.sack_ok:
            mib.TCPSackFailures += 1
        else:
            mib.TCPRenoFailures += 1


# -- giving up


def tcp_rtx_probe0_timed_out(tp: TcpControl, sent_at: i64) -> bool:
    """A peer with a closed window and our data in flight has said nothing for long."""
    limit = 2 * tp.rto_max()
    retransmitting = tp.net.now - (tp.retrans_stamp or sent_at)
    if tp.user_timeout:
        if retransmitting > tp.user_timeout:
            return True
        limit = min(limit, tp.user_timeout)
    return tp.net.now - tp.rcv_tstamp > limit and retransmitting > limit


def tcp_clamp_to_user_timeout(tp: TcpControl, delay: i64, since: i64) -> i64:
    """``delay``, or what is left of TCP_USER_TIMEOUT if that is less; it began at ``since``, 0 for not at all."""
    if tp.user_timeout == 0 or since == 0:
        return delay
    remaining = since + tp.user_timeout - tp.net.now
    return min(delay, max(remaining, NSEC_PER_MSEC))


def tcp_write_timeout(tp: TcpControl) -> bool:
    """Give up? True if the connection was ended (RFC 9293 section 3.8.3, R1 and R2)."""
    sysctl = tp.net.sysctl
    expired = False
    if opening(tp):
        limit = tp.syn_retries if tp.syn_retries else sysctl.tcp_syn_retries
        linear = sysctl.tcp_syn_linear_timeouts if tp.state == TCP_SYN_SENT else 0
        expired = tp.retransmits >= limit + linear
    else:
        if retransmits_timed_out(tp, sysctl.tcp_retries1, 0):
            tcp_mtu_probing(tp)
            tcp_look_elsewhere(tp)
        limit = sysctl.tcp_retries2
        if tp.dead:
            alive = tp.rto < tp.rto_max()
            limit = orphan_retries(tp, alive)
            if tcp_out_of_resources(tp, alive or not retransmits_timed_out(tp, limit, 0)):
                return True
    expired = expired or retransmits_timed_out(tp, limit, tp.user_timeout)
    tcp_fastopen_active_detect_blackhole(tp, expired)
    if expired:
        tcp_write_err(tp)
    return expired


def tcp_look_elsewhere(tp: TcpControl) -> None:
    """R1 is reached: "pass negative advice [...] to the IP layer, thereby triggering dead-gateway diagnosis"."""
    tp.dst_cache = None


def tcp_out_of_resources(tp: TcpControl, do_reset: bool) -> bool:
    """Too many connections without owner, or too much memory in them: this one is of no use, and ends."""
    quiet = tp.net.now - tp.lsndtime
    shift = 0
    if quiet > 2 * tp.rto_max() or not do_reset:
        shift += 1
    if tp.err_soft:
        shift += 1
    if not tcp_check_oom(tp, shift):
        return False
    if do_reset or quiet <= TCP_TIMEWAIT_LEN or (tp.snd_wnd == 0 and tp.packets_out == 0):
        tcp_send_active_reset(tp, "out of memory")
    tcp_done(tp)
    tp.net.mib.tcpext.TCPAbortOnMemory += 1
    return True


def orphan_retries(tp: TcpControl, alive: bool) -> i64:
    """How often a connection without owner retries: few, and once it has backed off all the way (not ``alive``) the
    sysctl alone says so, or ICMP that nobody is there (tcp_orphan_retries)."""
    if tp.err_soft and not alive:
        return 0
    return tp.net.sysctl.tcp_orphan_retries or (ORPHAN_RETRIES if alive else 0)


def retransmits_timed_out(tp: TcpControl, boundary: i64, timeout: i64) -> bool:
    """True if retransmissions have gone on for ``timeout`` (ns), or with 0 for as long as ``boundary`` would take."""
    if tp.retransmits == 0:
        return False
    if timeout == 0:
        timeout = tcp_model_timeout(tp, boundary, TCP_TIMEOUT_INIT if opening(tp) else TCP_RTO_MIN)
    return tp.net.now - (tp.retrans_stamp or tp.net.now) >= timeout


def tcp_model_timeout(tp: TcpControl, boundary: i64, rto_base: i64) -> i64:
    """How long ``boundary`` retransmissions take from an RTO of ``rto_base`` on."""
    rto_max = tp.rto_max()
    doublings: i64 = 0
    while rto_base << (doublings + 1) <= rto_max:
        doublings += 1
    if boundary <= doublings:
        return ((2 << boundary) - 1) * rto_base
    return ((2 << doublings) - 1) * rto_base + (boundary - doublings) * rto_max
