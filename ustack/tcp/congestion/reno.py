"""NewReno (RFC 5681 and RFC 6582; Linux net/ipv4/tcp_cong.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64, mypyc_attr

from ustack.tcp.congestion.base import CongestionOps
from ustack.tcp.cwnd import tcp_is_cwnd_limited

if TYPE_CHECKING:
    from ustack.tcp.control import TcpControl


@mypyc_attr(allow_interpreted_subclasses=True)
class Reno(CongestionOps):
    """Slow start, congestion avoidance, half the window at a loss."""

    name = "reno"

    def ssthresh(self, tp: TcpControl) -> i64:
        """RFC 5681 (4): "ssthresh = max (FlightSize / 2, 2*SMSS)"; cwnd stands for FlightSize, as in Linux."""
        return max(tp.snd_cwnd >> 1, 2)

    def cong_avoid(self, tp: TcpControl, ack: i64, acked: i64) -> None:
        """Only a window that was in use may open (RFC 7661's concern; tcp_is_cwnd_limited)."""
        if not tcp_is_cwnd_limited(tp):
            return
        if tp.in_slow_start():
            acked = tcp_slow_start(tp, acked)
            if acked == 0:
                return
        tcp_cong_avoid_ai(tp, tp.snd_cwnd, acked)

    def undo_cwnd(self, tp: TcpControl) -> i64:
        return max(tp.snd_cwnd, tp.prior_cwnd)


def tcp_slow_start(tp: TcpControl, acked: i64) -> i64:
    """Grow by what was acknowledged up to ssthresh; what of it is left for congestion avoidance.

    Appropriate byte counting without RFC 3465's limit L, as Linux: stretch ACKs would otherwise halve slow start.
    """
    cwnd = min(tp.snd_cwnd + acked, tp.snd_ssthresh)
    left = acked - (cwnd - tp.snd_cwnd)
    tp.snd_cwnd = min(cwnd, tp.snd_cwnd_clamp)
    return left


def tcp_cong_avoid_ai(tp: TcpControl, window: i64, acked: i64) -> None:
    """RFC 5681 section 3.1: about one packet more for every ``window`` packets acknowledged."""
    if tp.snd_cwnd_cnt >= window:
        tp.snd_cwnd_cnt = 0
        tp.snd_cwnd += 1
    tp.snd_cwnd_cnt += acked
    if tp.snd_cwnd_cnt >= window:
        delta = tp.snd_cwnd_cnt // window
        tp.snd_cwnd_cnt -= delta * window
        tp.snd_cwnd += delta
    tp.snd_cwnd = min(tp.snd_cwnd, tp.snd_cwnd_clamp)
