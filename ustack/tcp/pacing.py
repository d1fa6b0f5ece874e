"""Pacing: how fast, and when the next burst may go (Linux tcp_update_pacing_rate, tcp_pacing_check).

The rate also sizes the bursts of a connection that is not paced (tso.py). A paced one, because its algorithm asks for
it or the user has set SO_MAX_PACING_RATE, sends each burst when the last one has left at that rate; the stack's timer
wakes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.tcp.control import PACING_UNLIMITED, SK_PACING_NONE, TIMER_PACING, TcpControl
from ustack.timer import NSEC_PER_SEC, NSEC_PER_USEC

if TYPE_CHECKING:
    from ustack.tcp.segment import TcpSkb

_USEC_PER_SEC: Final[i64] = 1_000_000
#: More packets than this in a window would only make the product below overflow.
_PACKETS_MAX: Final[i64] = 1 << 20
#: The first segments of a connection go unpaced, as in Linux (sch_fq's initial quantum).
UNPACED_SEGMENTS: Final[i64] = 10


def tcp_update_pacing_rate(tp: TcpControl) -> None:
    """Two windows a round trip while slow start doubles them, 1.2 windows after it (tcp_pacing_ss_ratio, _ca_ratio).

    From half of ssthresh on the end of slow start is near, and it is slower already.
    """
    sysctl = tp.net.sysctl
    ratio = sysctl.tcp_pacing_ss_ratio if tp.snd_cwnd < tp.snd_ssthresh // 2 else sysctl.tcp_pacing_ca_ratio
    packets = min(max(tp.snd_cwnd, tp.packets_out), _PACKETS_MAX)
    rate = tp.mss_cache * packets * ratio // 100 * _USEC_PER_SEC
    if tp.srtt:
        rate //= max(tp.srtt // NSEC_PER_USEC, 1)
    tp.pacing_rate = min(rate, tp.max_pacing_rate)


def tcp_pacing_check(tp: TcpControl) -> bool:
    """True if the last burst has not left yet at the pacing rate: nothing may go, the timer says when."""
    if tp.pacing_status == SK_PACING_NONE or tp.tcp_wstamp <= tp.net.now:
        return False
    timer = tp.pacing_timer
    if timer is None:
        timer = tp.pacing_timer = tp.tables.new_timer(tp, TIMER_PACING)
    if not timer.pending:
        tp.net.timers.mod_timer(timer, tp.tcp_wstamp)
    return True


def tcp_update_skb_after_send(tp: TcpControl, skb: TcpSkb, prior_wstamp: i64) -> None:
    """``skb`` has just left; ``prior_wstamp`` is when it might have. The next one may when this one is through.

    Half of what a burst takes may be made up for if it left late: timers are not exact.
    """
    now = tp.net.now
    wstamp = max(prior_wstamp, now)
    rate = tp.pacing_rate
    if tp.pacing_status != SK_PACING_NONE and 0 < rate < PACING_UNLIMITED and tp.data_segs_out >= UNPACED_SEGMENTS:
        duration = skb.len * NSEC_PER_SEC // rate
        wstamp += duration - min(duration >> 1, wstamp - prior_wstamp)
    tp.tcp_wstamp = wstamp
