"""CUBIC (RFC 9438; Linux net/ipv4/tcp_cubic.c), with Linux's HyStart to end slow start before it overshoots.

After a loss at W_max the window follows W(t) = C (t - K)^3 + W_max: fast at first, flat around W_max, then fast again
to look for more. Fixed point as in Linux: t in 1/1024 s, C = 0.4 as 410/1024, beta = 0.7 as 717/1024.

HyStart is Linux's, not RFC 9406's HyStart++: it leaves slow start at once when the round trip grows by an eighth (4 to
16 ms) or when a train of ACKs lasts as long as half a round trip, where HyStart++ first tries conservative slow start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from ustack.tcp.congestion.base import CA_EVENT_TX_START, CongestionOps, CongestionState
from ustack.tcp.congestion.reno import tcp_cong_avoid_ai, tcp_slow_start
from ustack.tcp.control import RTT_UNKNOWN, SK_PACING_NONE, TCP_CA_LOSS
from ustack.tcp.cwnd import tcp_is_cwnd_limited
from ustack.tcp.mss import sk_gso_max_size
from ustack.tcp.seq import after
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC

if TYPE_CHECKING:
    from ustack.tcp.control import TcpControl

BETA_SCALE: Final[i64] = 1024
BETA: Final[i64] = 717
#: 1024 * C / (10 * 1.024): what Linux's bic_scale of 41 comes to.
CUBE_RTT_SCALE: Final[i64] = 410
#: 2**40 / CUBE_RTT_SCALE: K = cbrt((W_max - cwnd) / C), in 1/1024 s.
CUBE_FACTOR: Final[i64] = 0x100_0000_0000 // CUBE_RTT_SCALE
#: RFC 9438 (4): alpha_cubic = 3 (1 - beta) / (1 + beta); its inverse, times 8, rounded as Linux does.
FRIENDLY_SCALE: Final[i64] = 8 * (BETA_SCALE + BETA) // 3 // (BETA_SCALE - BETA)
#: Nobody waits longer for a loss, in 1/1024 s: the cube of more would not fit 64 bits.
OFFSET_MAX: Final[i64] = 1 << 18
#: The window is computed anew when it has changed, or after this time (HZ / 32).
UPDATE_INTERVAL: Final[i64] = NSEC_PER_SEC // 32

HYSTART_LOW_WINDOW: Final[i64] = 16
HYSTART_ACK_DELTA: Final[i64] = 2 * NSEC_PER_MSEC
HYSTART_MIN_SAMPLES: Final[i64] = 8
HYSTART_DELAY_MIN: Final[i64] = 4 * NSEC_PER_MSEC
HYSTART_DELAY_MAX: Final[i64] = 16 * NSEC_PER_MSEC


class CubicState(CongestionState):
    """struct bictcp; times in ns, windows in packets."""

    def __init__(self) -> None:
        self.cnt: i64 = 0  #: ACKs for one more packet
        self.last_max_cwnd: i64 = 0
        self.last_cwnd: i64 = 0
        self.last_time: i64 = 0  #: when cnt was computed
        self.origin_point: i64 = 0
        self.k: i64 = 0  #: 1/1024 s
        self.delay_min: i64 = 0  #: 0 for none yet
        self.epoch_start: i64 = 0  #: 0 for none since the last loss
        self.ack_cnt: i64 = 0
        self.tcp_cwnd: i64 = 0  #: what Reno would have
        # HyStart
        self.found: bool = False  #: slow start has been ended
        self.sample_cnt: i64 = 0
        self.curr_rtt: i64 = RTT_UNKNOWN  #: smallest of this round
        self.round_start: i64 = 0
        self.end_seq: i64 = 0
        self.last_ack: i64 = 0

    def reset(self) -> None:
        """bictcp_reset: all but the round."""
        self.cnt = self.last_max_cwnd = self.last_cwnd = self.last_time = 0
        self.origin_point = self.k = self.delay_min = self.epoch_start = self.ack_cnt = self.tcp_cwnd = 0
        self.found = False


def cubic_state(tp: TcpControl) -> CubicState:
    """The connection's own; made when it is first asked for."""
    state = tp.ca_priv
    if not isinstance(state, CubicState):
        state = CubicState()
        tp.ca_priv = state
    return state


@mypyc_attr(allow_interpreted_subclasses=True)
class Cubic(CongestionOps):
    """Linux's default."""

    name = "cubic"

    def init(self, tp: TcpControl) -> None:
        ca = cubic_state(tp)
        ca.reset()
        hystart_reset(tp, ca)

    def ssthresh(self, tp: TcpControl) -> i64:
        """RFC 9438 4.6 and 4.7: beta of the window; W_max lower if it had not been reached again (fast convergence)."""
        ca = cubic_state(tp)
        ca.epoch_start = 0
        cwnd = tp.snd_cwnd
        if cwnd < ca.last_max_cwnd:
            ca.last_max_cwnd = cwnd * (BETA_SCALE + BETA) // (2 * BETA_SCALE)
        else:
            ca.last_max_cwnd = cwnd
        return max(cwnd * BETA // BETA_SCALE, 2)

    def cong_avoid(self, tp: TcpControl, ack: i64, acked: i64) -> None:
        if not tcp_is_cwnd_limited(tp):
            return
        if tp.in_slow_start():
            acked = tcp_slow_start(tp, acked)
            if acked == 0:
                return
        ca = cubic_state(tp)
        bictcp_update(ca, tp.snd_cwnd, acked, tp.net.now)
        tcp_cong_avoid_ai(tp, ca.cnt, acked)

    def set_state(self, tp: TcpControl, ca_state: i64) -> None:
        if ca_state == TCP_CA_LOSS:
            self.init(tp)

    def cwnd_event(self, tp: TcpControl, event: i64) -> None:
        """Time without anything in flight is no time of the curve: RFC 9438 5.8."""
        if event == CA_EVENT_TX_START:
            ca = cubic_state(tp)
            idle = tp.net.now - tp.lsndtime
            if ca.epoch_start and idle > 0:
                ca.epoch_start = min(ca.epoch_start + idle, tp.net.now)

    def pkts_acked(self, tp: TcpControl, acked: i64, rtt: i64, in_flight: i64) -> None:
        """Feed HyStart; not in the first second after a recovery, whose queue is not ours to judge."""
        if rtt < 0:
            return
        ca = cubic_state(tp)
        if ca.epoch_start and tp.net.now - ca.epoch_start < NSEC_PER_SEC:
            return
        delay = max(rtt, 1)
        if ca.delay_min == 0 or ca.delay_min > delay:
            ca.delay_min = delay
        if not ca.found and tp.in_slow_start():
            hystart_update(tp, ca, delay)

    def undo_cwnd(self, tp: TcpControl) -> i64:
        return max(tp.snd_cwnd, tp.prior_cwnd)


# -- the curve


def bictcp_update(ca: CubicState, cwnd: i64, acked: i64, now: i64) -> None:
    """Find ``ca.cnt``: how many packets must be acknowledged for the window to grow by one."""
    ca.ack_cnt += acked
    if ca.last_cwnd == cwnd and now - ca.last_time <= UPDATE_INTERVAL:
        return
    # once in a millisecond is often enough for the cube (Linux: once in a tick)
    if not (ca.epoch_start and now // NSEC_PER_MSEC == ca.last_time // NSEC_PER_MSEC):
        ca.last_cwnd = cwnd
        ca.last_time = now
        if ca.epoch_start == 0:
            begin_epoch(ca, cwnd, acked, now)
        target = cubic_target(ca, now)
        ca.cnt = cwnd // (target - cwnd) if target > cwnd else 100 * cwnd
        # as long as no loss has told W_max: at least 5 % a round trip
        if ca.last_max_cwnd == 0 and ca.cnt > 20:
            ca.cnt = 20
    tcp_friendliness(ca, cwnd)
    # RFC 9438 4.4: the target is bounded to 1.5 windows: a packet more for two acknowledged
    ca.cnt = max(ca.cnt, 2)


def begin_epoch(ca: CubicState, cwnd: i64, acked: i64, now: i64) -> None:
    """RFC 9438 4.2: the first window increase after a reduction; the curve starts at today's window."""
    ca.epoch_start = max(now, 1)
    ca.ack_cnt = acked
    ca.tcp_cwnd = cwnd
    if ca.last_max_cwnd <= cwnd:
        ca.k = 0
        ca.origin_point = cwnd
    else:
        ca.k = cubic_root(CUBE_FACTOR * (ca.last_max_cwnd - cwnd))
        ca.origin_point = ca.last_max_cwnd


def cubic_target(ca: CubicState, now: i64) -> i64:
    """RFC 9438 (1), one round trip ahead."""
    ticks = (now - ca.epoch_start + ca.delay_min) // NSEC_PER_MSEC
    t = (ticks << 10) // 1000
    offset = min(max(t - ca.k, ca.k - t), OFFSET_MAX)
    delta = (CUBE_RTT_SCALE * offset * offset * offset) >> 40
    return ca.origin_point - delta if t < ca.k else ca.origin_point + delta


def tcp_friendliness(ca: CubicState, cwnd: i64) -> None:
    """RFC 9438 4.3: where Reno would be faster, on short and slow paths, be as fast."""
    delta = (cwnd * FRIENDLY_SCALE) >> 3
    if ca.ack_cnt > delta > 0:
        rounds = (ca.ack_cnt - 1) // delta
        ca.ack_cnt -= rounds * delta
        ca.tcp_cwnd += rounds
    if ca.tcp_cwnd > cwnd:
        ca.cnt = min(ca.cnt, cwnd // (ca.tcp_cwnd - cwnd))


def cubic_root(a: i64) -> i64:
    """The largest integer whose cube is at most ``a`` (0 <= a < 2**62), bit by bit; Linux looks up and approximates."""
    root: i64 = 0
    shift: i64 = 60
    while shift >= 0:
        root <<= 1
        b = 3 * root * (root + 1) + 1
        if a >> shift >= b:
            a -= b << shift
            root += 1
        shift -= 3
    return root


# -- HyStart


def hystart_reset(tp: TcpControl, ca: CubicState) -> None:
    """A round of slow start begins: it ends when all that is in flight now is acknowledged."""
    ca.round_start = ca.last_ack = tp.net.now
    ca.end_seq = tp.snd_nxt
    ca.curr_rtt = RTT_UNKNOWN
    ca.sample_cnt = 0


def hystart_update(tp: TcpControl, ca: CubicState, delay: i64) -> None:
    """An ACK in slow start, for a packet ``delay`` ns under way: is the path full?"""
    if after(tp.snd_una, ca.end_seq):
        hystart_reset(tp, ca)
    if tp.snd_cwnd < HYSTART_LOW_WINDOW:
        return
    mib = tp.net.mib.tcpext
    if hystart_ack_train(tp, ca):
        ca.found = True
        mib.TCPHystartTrainDetect += 1
        mib.TCPHystartTrainCwnd += tp.snd_cwnd
        tp.snd_ssthresh = tp.snd_cwnd
    if hystart_delay(ca, delay):
        ca.found = True
        mib.TCPHystartDelayDetect += 1
        mib.TCPHystartDelayCwnd += tp.snd_cwnd
        tp.snd_ssthresh = tp.snd_cwnd


def hystart_ack_train(tp: TcpControl, ca: CubicState) -> bool:
    """True if ACKs have come close together for half a round trip: what they let go fills the path."""
    now = tp.net.now
    if now - ca.last_ack > HYSTART_ACK_DELTA:
        return False
    ca.last_ack = now
    threshold = ca.delay_min + hystart_ack_delay(tp)
    if tp.pacing_status == SK_PACING_NONE:
        threshold >>= 1  # pacing alone would stretch the train to half a round trip
    return now - ca.round_start > threshold


def hystart_ack_delay(tp: TcpControl) -> i64:
    """What bursts may add to the train: four of the longest, at most a millisecond."""
    rate = tp.pacing_rate
    return min(NSEC_PER_MSEC, sk_gso_max_size(tp) * 4 * NSEC_PER_SEC // rate) if rate > 0 else 0


def hystart_delay(ca: CubicState, delay: i64) -> bool:
    """True if even the fastest of this round's first packets waited in a queue."""
    if ca.curr_rtt > delay:
        ca.curr_rtt = delay
    if ca.sample_cnt < HYSTART_MIN_SAMPLES:
        ca.sample_cnt += 1
        return False
    threshold = min(max(ca.delay_min >> 3, HYSTART_DELAY_MIN), HYSTART_DELAY_MAX)
    return ca.curr_rtt > ca.delay_min + threshold
