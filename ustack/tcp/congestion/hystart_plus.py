"""CUBIC with HyStart++ (RFC 9406) in place of Linux's HyStart: slow start is left by way of conservative slow start.

A round trip that has grown by an eighth may be a burst's own doing. So the window grows on at a quarter of the speed
for five rounds (CSS); if the round trip falls again slow start goes on, else that was the end of it.

Section 4.3: "An implementation SHOULD use HyStart++ only for the initial slow start (when the ssthresh is at its
initial value of arbitrarily high [...]) and fall back to using standard slow start for the remainder".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.tcp.congestion.cubic import Cubic, CubicState
from ustack.tcp.control import RTT_UNKNOWN, SK_PACING_NONE, TCP_INFINITE_SSTHRESH
from ustack.tcp.cwnd import tcp_is_cwnd_limited
from ustack.tcp.seq import before
from ustack.timer import NSEC_PER_MSEC

if TYPE_CHECKING:
    from ustack.tcp.control import TcpControl

# RFC 9406 section 4.3
MIN_RTT_THRESH: Final[i64] = 4 * NSEC_PER_MSEC
MAX_RTT_THRESH: Final[i64] = 16 * NSEC_PER_MSEC
MIN_RTT_DIVISOR: Final[i64] = 8
N_RTT_SAMPLE: Final[i64] = 8
CSS_GROWTH_DIVISOR: Final[i64] = 4
CSS_ROUNDS: Final[i64] = 5
#: "For non-paced TCP implementations, L SHOULD be set to 8": packets that one ACK may add.
L: Final[i64] = 8


class HystartPlusState(CubicState):
    """CUBIC's, and the rounds of section 4.2."""

    def __init__(self) -> None:
        super().__init__()
        self.window_end: i64 = 0  #: the round ends when this is acknowledged
        self.last_round_min_rtt: i64 = RTT_UNKNOWN
        self.current_round_min_rtt: i64 = RTT_UNKNOWN
        self.rtt_sample_count: i64 = 0
        self.css_baseline_min_rtt: i64 = RTT_UNKNOWN  #: known while in CSS
        self.css_rounds: i64 = 0
        self.growth: i64 = 0  #: acknowledged in CSS and not yet a packet's worth


class CubicHystartPlus(Cubic):
    """Not one of Linux's; it is there for who asks for it by name."""

    name = "cubic-rfc9406"

    def init(self, tp: TcpControl) -> None:
        ca = HystartPlusState()
        tp.ca_priv = ca
        ca.window_end = tp.snd_nxt

    def cong_avoid(self, tp: TcpControl, ack: i64, acked: i64) -> None:
        """4.2: "cwnd = cwnd + min(N, L * SMSS)", in CSS a quarter of that."""
        ca = tp.ca_priv
        if not initial_slow_start(tp) or not isinstance(ca, HystartPlusState):
            super().cong_avoid(tp, ack, acked)
        elif tcp_is_cwnd_limited(tp):
            if tp.pacing_status == SK_PACING_NONE:
                acked = min(acked, L)
            if ca.css_baseline_min_rtt != RTT_UNKNOWN:
                ca.growth += acked
                acked = ca.growth // CSS_GROWTH_DIVISOR
                ca.growth -= acked * CSS_GROWTH_DIVISOR
            tp.snd_cwnd = min(tp.snd_cwnd + acked, tp.snd_cwnd_clamp)

    def pkts_acked(self, tp: TcpControl, acked: i64, rtt: i64, in_flight: i64) -> None:
        ca = tp.ca_priv
        if rtt < 0 or not isinstance(ca, HystartPlusState):
            return
        if ca.delay_min == 0 or ca.delay_min > rtt:
            ca.delay_min = max(rtt, 1)
        if initial_slow_start(tp):
            if not before(tp.snd_una, ca.window_end):
                next_round(tp, ca)
            ca.current_round_min_rtt = min(ca.current_round_min_rtt, rtt)
            ca.rtt_sample_count += 1
            if ca.rtt_sample_count >= N_RTT_SAMPLE:
                judge(ca)


def initial_slow_start(tp: TcpControl) -> bool:
    """True until a loss, or these rules, have found where slow start ends."""
    return tp.snd_ssthresh >= TCP_INFINITE_SSTHRESH


def next_round(tp: TcpControl, ca: HystartPlusState) -> None:
    """ "At the start of each round during standard slow start and CSS", and after five of CSS the end of both."""
    ca.last_round_min_rtt = ca.current_round_min_rtt
    ca.current_round_min_rtt = RTT_UNKNOWN
    ca.rtt_sample_count = 0
    ca.window_end = tp.snd_nxt
    if ca.css_baseline_min_rtt != RTT_UNKNOWN:
        ca.css_rounds += 1
        if ca.css_rounds >= CSS_ROUNDS:
            tp.snd_ssthresh = tp.snd_cwnd


def judge(ca: HystartPlusState) -> None:
    """Into CSS if this round took longer than the last one, out of it if it was the burst's own queue."""
    if ca.css_baseline_min_rtt != RTT_UNKNOWN:
        if ca.current_round_min_rtt < ca.css_baseline_min_rtt:
            ca.css_baseline_min_rtt = RTT_UNKNOWN
        return
    if ca.last_round_min_rtt == RTT_UNKNOWN:
        return
    threshold = min(max(ca.last_round_min_rtt // MIN_RTT_DIVISOR, MIN_RTT_THRESH), MAX_RTT_THRESH)
    if ca.current_round_min_rtt >= ca.last_round_min_rtt + threshold:
        ca.css_baseline_min_rtt = ca.current_round_min_rtt
        ca.css_rounds = 0
        ca.growth = 0
