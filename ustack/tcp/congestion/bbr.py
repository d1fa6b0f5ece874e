"""BBR, version 1 (Linux net/ipv4/tcp_bbr.c; Cardwell et al., "BBR: Congestion-Based Congestion Control", 2016).

It keeps a model of the path, its bandwidth (the most delivered in ten round trips) and its round-trip time without a
queue (the least of ten seconds), and paces at that bandwidth with about twice their product in flight.

    STARTUP    2.89 times the rate each round trip, until the bandwidth stops growing
    DRAIN      the inverse, until the queue that made is gone
    PROBE_BW   eight phases of a round trip: 1.25 to look for more, 0.75 to drain that, six times 1
    PROBE_RTT  four packets for 200 ms, if the round-trip time has not been seen for ten seconds

Bandwidths are in packets a microsecond, times 2**24; gains in 1/256; times ns.
"""

from __future__ import annotations

from struct import pack
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.tcp.congestion.base import CA_EVENT_TX_START, CongestionOps, CongestionState
from ustack.tcp.control import (
    RTT_UNKNOWN,
    SK_PACING_NEEDED,
    TCP_CA_LOSS,
    TCP_CA_OPEN,
    TCP_CA_RECOVERY,
    TCP_INFINITE_SSTHRESH,
    TCP_INIT_CWND,
)
from ustack.tcp.minmax import MinMax
from ustack.tcp.rate import RateSample, tcp_mark_app_limited
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC, NSEC_PER_USEC

if TYPE_CHECKING:
    from ustack.tcp.control import TcpControl

BW_SCALE: Final = 24
BW_UNIT: Final[i64] = 1 << BW_SCALE
#: No path delivers more (4096 packets a microsecond): what is computed from it must fit 64 bits.
BW_MAX: Final[i64] = 0x10_0000_0000
RATE_MAX: Final[i64] = 0x800_0000_0000  #: bytes a microsecond, times 2**24
BDP_MAX: Final[i64] = 0x4_0000_0000_0000  #: packets, times 2**24
WAIT_MAX_US: Final[i64] = 1 << 26  #: a minute
BBR_SCALE: Final = 8
BBR_UNIT: Final[i64] = 1 << BBR_SCALE

BBR_STARTUP: Final = 0
BBR_DRAIN: Final = 1
BBR_PROBE_BW: Final = 2
BBR_PROBE_RTT: Final = 3

CYCLE_LEN: Final[i64] = 8
BW_RTTS: Final[i64] = CYCLE_LEN + 2
MIN_RTT_WIN: Final[i64] = 10 * NSEC_PER_SEC
PROBE_RTT_TIME: Final[i64] = 200 * NSEC_PER_MSEC
#: Below this rate (bytes a second) a burst is a single segment.
MIN_TSO_RATE: Final[i64] = 1_200_000 // 8
#: Paced a little below the bandwidth, so that a queue drains.
PACING_MARGIN_PERCENT: Final[i64] = 1
#: 2/ln 2: the least gain that doubles the rate each round trip.
HIGH_GAIN: Final[i64] = BBR_UNIT * 2885 // 1000 + 1
DRAIN_GAIN: Final[i64] = BBR_UNIT * 1000 // 2885
CWND_GAIN: Final[i64] = BBR_UNIT * 2
PROBE_GAIN: Final[i64] = BBR_UNIT * 5 // 4
PROBE_DRAIN_GAIN: Final[i64] = BBR_UNIT * 3 // 4
#: At which of so many phases the cycle begins is random; never in the draining one.
CYCLE_RAND: Final[i64] = 7
CWND_MIN_TARGET: Final[i64] = 4
FULL_BW_THRESH: Final[i64] = BBR_UNIT * 5 // 4
FULL_BW_CNT: Final[i64] = 3
# long-term bandwidth: a policer drops what is beyond its rate
LT_INTVL_MIN_RTTS: Final[i64] = 4
LT_LOSS_THRESH: Final[i64] = 50
LT_BW_RATIO: Final[i64] = BBR_UNIT // 8
LT_BW_DIFF: Final[i64] = 4000 // 8
LT_BW_MAX_RTTS: Final[i64] = 48
# aggregation of ACKs
EXTRA_ACKED_GAIN: Final[i64] = BBR_UNIT
EXTRA_ACKED_WIN_RTTS: Final[i64] = 5
ACK_EPOCH_ACKED_MAX: Final[i64] = 1 << 20
EXTRA_ACKED_MAX_US: Final[i64] = 100_000
#: Longest burst (GSO_LEGACY_MAX_SIZE less the headers), bytes and packets.
TSO_MAX: Final[i64] = 65_536 - 1 - 320
TSO_SEGS_MAX: Final[i64] = 127


class BbrState(CongestionState):
    """struct bbr."""

    def __init__(self) -> None:
        self.mode: i64 = BBR_STARTUP
        self.min_rtt: i64 = RTT_UNKNOWN
        self.min_rtt_stamp: i64 = 0
        self.probe_rtt_done_stamp: i64 = 0
        self.probe_rtt_round_done: bool = False
        self.bw: MinMax = MinMax()  #: over rounds
        self.rtt_cnt: i64 = 0  #: rounds
        self.next_rtt_delivered: i64 = 0  #: tp.delivered at which the next round begins
        self.round_start: bool = False
        self.cycle_mstamp: i64 = 0
        self.cycle_idx: i64 = 0
        self.prev_ca_state: i64 = TCP_CA_OPEN
        self.packet_conservation: bool = False
        self.idle_restart: bool = False
        self.has_seen_rtt: bool = False
        self.pacing_gain: i64 = HIGH_GAIN
        self.cwnd_gain: i64 = HIGH_GAIN
        self.full_bw_reached: bool = False
        self.full_bw_cnt: i64 = 0
        self.full_bw: i64 = 0
        self.prior_cwnd: i64 = 0
        self.lt_is_sampling: bool = False
        self.lt_rtt_cnt: i64 = 0
        self.lt_use_bw: bool = False
        self.lt_bw: i64 = 0
        self.lt_last_delivered: i64 = 0
        self.lt_last_stamp: i64 = 0
        self.lt_last_lost: i64 = 0
        self.ack_epoch_mstamp: i64 = 0
        self.ack_epoch_acked: i64 = 0
        self.extra_acked0: i64 = 0  #: of two windows of rounds
        self.extra_acked1: i64 = 0
        self.extra_acked_win_rtts: i64 = 0
        self.extra_acked_win_idx: i64 = 0

    def bandwidth(self) -> i64:
        """The policer's, if there is one, else the most of the last rounds (bbr_bw)."""
        return self.lt_bw if self.lt_use_bw else self.bw.v0


def bbr_state(tp: TcpControl) -> BbrState:
    """The connection's own; made when it is first asked for."""
    state = tp.ca_priv
    if not isinstance(state, BbrState):
        state = BbrState()
        tp.ca_priv = state
    return state


class Bbr(CongestionOps):
    """Sets cwnd and the pacing rate at every ACK; loss matters little to it."""

    name = "bbr"
    has_cong_control = True

    def init(self, tp: TcpControl) -> None:
        tp.ca_priv = None
        bbr = bbr_state(tp)
        tp.snd_ssthresh = TCP_INFINITE_SSTHRESH
        bbr.next_rtt_delivered = tp.delivered
        bbr.min_rtt = tp.min_rtt
        bbr.min_rtt_stamp = tp.net.now
        bbr.ack_epoch_mstamp = tp.net.now
        init_pacing_rate_from_rtt(tp, bbr)
        reset_lt_bw_sampling(tp, bbr)
        tp.pacing_status = SK_PACING_NEEDED

    def cong_control(self, tp: TcpControl, ack: i64, flag: i64, rs: RateSample) -> None:
        """bbr_main."""
        bbr = bbr_state(tp)
        update_model(tp, bbr, rs)
        bw = bbr.bandwidth()
        set_pacing_rate(tp, bbr, bw, bbr.pacing_gain)
        set_cwnd(tp, bbr, rs, bw)

    def cong_avoid(self, tp: TcpControl, ack: i64, acked: i64) -> None:
        """cong_control does it all."""

    def ssthresh(self, tp: TcpControl) -> i64:
        save_cwnd(tp, bbr_state(tp))
        return tp.snd_ssthresh

    def undo_cwnd(self, tp: TcpControl) -> i64:
        """The loss was none: nor did the bandwidth stop growing."""
        bbr = bbr_state(tp)
        bbr.full_bw = bbr.full_bw_cnt = 0
        reset_lt_bw_sampling(tp, bbr)
        return tp.snd_cwnd

    def set_state(self, tp: TcpControl, ca_state: i64) -> None:
        """A timeout is the end of a round, and a loss to the policer's sampling."""
        if ca_state == TCP_CA_LOSS:
            bbr = bbr_state(tp)
            bbr.prev_ca_state = TCP_CA_LOSS
            bbr.full_bw = 0
            bbr.round_start = True
            rs = RateSample()
            rs.losses = 1
            lt_bw_sampling(tp, bbr, rs)

    def cwnd_event(self, tp: TcpControl, event: i64) -> None:
        """After idling: no burst, and no probing with what the application does not fill."""
        if event != CA_EVENT_TX_START or not tp.app_limited:
            return
        bbr = bbr_state(tp)
        bbr.idle_restart = True
        bbr.ack_epoch_mstamp = tp.net.now
        bbr.ack_epoch_acked = 0
        if bbr.mode == BBR_PROBE_BW:
            set_pacing_rate(tp, bbr, bbr.bandwidth(), BBR_UNIT)
        elif bbr.mode == BBR_PROBE_RTT:
            check_probe_rtt_done(tp, bbr)

    def min_tso_segs(self, tp: TcpControl) -> i64:
        return 1 if tp.pacing_rate < MIN_TSO_RATE else 2

    def sndbuf_expand(self, tp: TcpControl) -> i64:
        """Twice the window while it grows, and what the third round trip adds."""
        return 3

    def get_info(self, tp: TcpControl) -> bytes:
        """struct tcp_bbr_info: bandwidth (bytes a second, low and high word), min_rtt (µs), the two gains."""
        bbr = bbr_state(tp)
        bw = int(bbr.bandwidth()) * int(tp.mss_cache) * 1_000_000 >> BW_SCALE
        rtt = min(bbr.min_rtt // NSEC_PER_USEC, 0xFFFF_FFFF)
        return pack("=5I", bw & 0xFFFF_FFFF, bw >> 32, rtt, bbr.pacing_gain, bbr.cwnd_gain)


# -- rates and windows from the model


def rate_bytes_per_sec(tp: TcpControl, bw: i64, gain: i64) -> i64:
    """What ``gain`` times ``bw`` is in bytes a second, less the margin (bbr_rate_bytes_per_sec)."""
    rate = min(bw * tp.mss_cache * gain >> BBR_SCALE, RATE_MAX)
    return rate * (1_000_000 // 100 * (100 - PACING_MARGIN_PERCENT)) >> BW_SCALE


def set_pacing_rate(tp: TcpControl, bbr: BbrState, bw: i64, gain: i64) -> None:
    """Until the pipe is full the rate only grows."""
    rate = min(rate_bytes_per_sec(tp, bw, gain), tp.max_pacing_rate)
    if not bbr.has_seen_rtt and tp.srtt:
        init_pacing_rate_from_rtt(tp, bbr)
    if bbr.full_bw_reached or rate > tp.pacing_rate:
        tp.pacing_rate = rate


def init_pacing_rate_from_rtt(tp: TcpControl, bbr: BbrState) -> None:
    """Nothing was delivered yet: the initial window in a round trip, or in a millisecond before any is known."""
    rtt = NSEC_PER_MSEC
    if tp.srtt:
        rtt = tp.srtt
        bbr.has_seen_rtt = True
    bw = min(tp.snd_cwnd * BW_UNIT // max(rtt // NSEC_PER_USEC, 1), BW_MAX)
    tp.pacing_rate = min(rate_bytes_per_sec(tp, bw, HIGH_GAIN), tp.max_pacing_rate)


def tso_segs_goal(tp: TcpControl) -> i64:
    """Packets in a burst, as tcp_tso_autosize would have them."""
    size = min(tp.pacing_rate >> tp.pacing_shift, TSO_MAX)
    return min(max(size // tp.mss_cache, tp.congestion.min_tso_segs(tp)), TSO_SEGS_MAX)


def bdp(bbr: BbrState, bw: i64, gain: i64) -> i64:
    """``gain`` times bandwidth and delay, in packets; before any delay is known the initial window."""
    if bbr.min_rtt == RTT_UNKNOWN:
        return TCP_INIT_CWND
    product = min(bw * min(bbr.min_rtt // NSEC_PER_USEC, WAIT_MAX_US), BDP_MAX)
    return ((product * gain >> BBR_SCALE) + BW_UNIT - 1) // BW_UNIT


def quantization_budget(tp: TcpControl, bbr: BbrState, cwnd: i64) -> i64:
    """Room for a burst at the sender, one on its way, one at the receiver; even; and more where more is probed for."""
    cwnd += 3 * tso_segs_goal(tp)
    cwnd = (cwnd + 1) & ~1
    if bbr.mode == BBR_PROBE_BW and bbr.cycle_idx == 0:
        cwnd += 2
    return cwnd


def inflight(tp: TcpControl, bbr: BbrState, bw: i64, gain: i64) -> i64:
    """Packets in flight that fill ``gain`` times the pipe."""
    return quantization_budget(tp, bbr, bdp(bbr, bw, gain))


def packets_in_net_at_edt(tp: TcpControl, bbr: BbrState, inflight_now: i64) -> i64:
    """What will be in the network when the next burst leaves, which pacing may have put off."""
    wait_us = tp.pacing_delay() // NSEC_PER_USEC
    delivered = bbr.bandwidth() * min(wait_us, WAIT_MAX_US) >> BW_SCALE
    at_edt = inflight_now
    if bbr.pacing_gain > BBR_UNIT:
        at_edt += tso_segs_goal(tp)
    return max(at_edt - delivered, 0)


def ack_aggregation_cwnd(bbr: BbrState) -> i64:
    """Room to go on sending while ACKs are held back to come together: as much as lately came beyond expectation."""
    if not bbr.full_bw_reached:
        return 0
    extra = max(bbr.extra_acked0, bbr.extra_acked1)
    return min(EXTRA_ACKED_GAIN * extra >> BBR_SCALE, bbr.bandwidth() * EXTRA_ACKED_MAX_US // BW_UNIT)


def save_cwnd(tp: TcpControl, bbr: BbrState) -> None:
    """The last window that was good, for after recovery or PROBE_RTT."""
    if bbr.prev_ca_state < TCP_CA_RECOVERY and bbr.mode != BBR_PROBE_RTT:
        bbr.prior_cwnd = tp.snd_cwnd
    else:
        bbr.prior_cwnd = max(bbr.prior_cwnd, tp.snd_cwnd)


def cwnd_to_recover_or_restore(tp: TcpControl, bbr: BbrState, rs: RateSample) -> i64:
    """cwnd through a recovery: in its first round a packet out for each that left, at its end what it was before."""
    prev_state, state = bbr.prev_ca_state, tp.ca_state
    cwnd = tp.snd_cwnd
    if rs.losses > 0:
        cwnd = max(cwnd - rs.losses, 1)
    if state == TCP_CA_RECOVERY and prev_state != TCP_CA_RECOVERY:
        bbr.packet_conservation = True
        bbr.next_rtt_delivered = tp.delivered
        cwnd = tp.tcp_packets_in_flight() + rs.acked_sacked
    elif prev_state >= TCP_CA_RECOVERY and state < TCP_CA_RECOVERY:
        cwnd = max(cwnd, bbr.prior_cwnd)
        bbr.packet_conservation = False
    bbr.prev_ca_state = state
    return cwnd


def set_cwnd(tp: TcpControl, bbr: BbrState, rs: RateSample, bw: i64) -> None:
    """Slow start towards the target, never more than twice what was acknowledged at once."""
    cwnd = tp.snd_cwnd
    acked = rs.acked_sacked
    if acked > 0:
        cwnd = cwnd_to_recover_or_restore(tp, bbr, rs)
        if bbr.packet_conservation:
            cwnd = max(cwnd, tp.tcp_packets_in_flight() + acked)
        else:
            target = bdp(bbr, bw, bbr.cwnd_gain) + ack_aggregation_cwnd(bbr)
            target = quantization_budget(tp, bbr, target)
            if bbr.full_bw_reached:
                cwnd = min(cwnd + acked, target)
            elif cwnd < target or tp.delivered < TCP_INIT_CWND:
                cwnd += acked
            cwnd = max(cwnd, CWND_MIN_TARGET)
    tp.snd_cwnd = min(cwnd, tp.snd_cwnd_clamp)
    if bbr.mode == BBR_PROBE_RTT:
        tp.snd_cwnd = min(tp.snd_cwnd, CWND_MIN_TARGET)


# -- the model


def update_model(tp: TcpControl, bbr: BbrState, rs: RateSample) -> None:
    update_bw(tp, bbr, rs)
    update_ack_aggregation(tp, bbr, rs)
    if bbr.mode == BBR_PROBE_BW and is_next_cycle_phase(tp, bbr, rs):
        advance_cycle_phase(tp, bbr)
    check_full_bw_reached(bbr, rs)
    check_drain(tp, bbr)
    update_min_rtt(tp, bbr, rs)
    update_gains(bbr)


def update_bw(tp: TcpControl, bbr: BbrState, rs: RateSample) -> None:
    """Count rounds, and take the sample in; of the application's bubbles only what is more than we knew."""
    bbr.round_start = False
    if rs.delivered < 0 or rs.interval <= 0:
        return
    if rs.prior_delivered >= bbr.next_rtt_delivered:
        bbr.next_rtt_delivered = tp.delivered
        bbr.rtt_cnt += 1
        bbr.round_start = True
        bbr.packet_conservation = False
    lt_bw_sampling(tp, bbr, rs)
    bw = min(rs.delivered * BW_UNIT // max(rs.interval // NSEC_PER_USEC, 1), BW_MAX)
    if not rs.is_app_limited or bw >= bbr.bw.v0:
        bbr.bw.running_max(BW_RTTS, bbr.rtt_cnt, bw)


def update_ack_aggregation(tp: TcpControl, bbr: BbrState, rs: RateSample) -> None:
    """How much more has been acknowledged at once than the bandwidth explains, over five to ten rounds."""
    if rs.acked_sacked <= 0 or rs.delivered < 0 or rs.interval <= 0:
        return
    if bbr.round_start:
        next_extra_acked_window(bbr)
    epoch_us = min((tp.delivered_mstamp - bbr.ack_epoch_mstamp) // NSEC_PER_USEC, WAIT_MAX_US)
    expected = bbr.bandwidth() * epoch_us // BW_UNIT
    if bbr.ack_epoch_acked <= expected or bbr.ack_epoch_acked + rs.acked_sacked >= ACK_EPOCH_ACKED_MAX:
        bbr.ack_epoch_acked = 0
        bbr.ack_epoch_mstamp = tp.delivered_mstamp
        expected = 0
    bbr.ack_epoch_acked = min(bbr.ack_epoch_acked + rs.acked_sacked, ACK_EPOCH_ACKED_MAX - 1)
    extra = min(bbr.ack_epoch_acked - expected, tp.snd_cwnd)
    if bbr.extra_acked_win_idx:
        bbr.extra_acked1 = max(bbr.extra_acked1, extra)
    else:
        bbr.extra_acked0 = max(bbr.extra_acked0, extra)


def next_extra_acked_window(bbr: BbrState) -> None:
    """After five rounds the older of the two windows is forgotten."""
    bbr.extra_acked_win_rtts += 1
    if bbr.extra_acked_win_rtts < EXTRA_ACKED_WIN_RTTS:
        return
    bbr.extra_acked_win_rtts = 0
    if bbr.extra_acked_win_idx:
        bbr.extra_acked_win_idx = 0
        bbr.extra_acked0 = 0
    else:
        bbr.extra_acked_win_idx = 1
        bbr.extra_acked1 = 0


def is_next_cycle_phase(tp: TcpControl, bbr: BbrState, rs: RateSample) -> bool:
    """Probing lasts until it has filled the pipe to its gain, or lost something; draining until that is gone."""
    is_full_length = tp.delivered_mstamp - bbr.cycle_mstamp > bbr.min_rtt
    if bbr.pacing_gain == BBR_UNIT:
        return is_full_length
    in_net = packets_in_net_at_edt(tp, bbr, rs.prior_in_flight)
    bw = bbr.bw.v0
    if bbr.pacing_gain > BBR_UNIT:
        return is_full_length and (rs.losses > 0 or in_net >= inflight(tp, bbr, bw, bbr.pacing_gain))
    return is_full_length or in_net <= inflight(tp, bbr, bw, BBR_UNIT)


def advance_cycle_phase(tp: TcpControl, bbr: BbrState) -> None:
    bbr.cycle_idx = (bbr.cycle_idx + 1) & (CYCLE_LEN - 1)
    bbr.cycle_mstamp = tp.delivered_mstamp


def reset_mode(tp: TcpControl, bbr: BbrState) -> None:
    if bbr.full_bw_reached:
        reset_probe_bw_mode(tp, bbr)
    else:
        bbr.mode = BBR_STARTUP


def reset_probe_bw_mode(tp: TcpControl, bbr: BbrState) -> None:
    """Begin the cycle at a random phase, lest flows probe together; the stack's seed decides."""
    bbr.mode = BBR_PROBE_BW
    bbr.cycle_idx = CYCLE_LEN - 1 - tp.net.entropy.below(CYCLE_RAND)
    advance_cycle_phase(tp, bbr)


def check_full_bw_reached(bbr: BbrState, rs: RateSample) -> None:
    """The pipe is full when three rounds have not brought a quarter more."""
    if bbr.full_bw_reached or not bbr.round_start or rs.is_app_limited:
        return
    if bbr.bw.v0 >= bbr.full_bw * FULL_BW_THRESH >> BBR_SCALE:
        bbr.full_bw = bbr.bw.v0
        bbr.full_bw_cnt = 0
        return
    bbr.full_bw_cnt += 1
    bbr.full_bw_reached = bbr.full_bw_cnt >= FULL_BW_CNT


def check_drain(tp: TcpControl, bbr: BbrState) -> None:
    if bbr.mode == BBR_STARTUP and bbr.full_bw_reached:
        bbr.mode = BBR_DRAIN
        tp.snd_ssthresh = inflight(tp, bbr, bbr.bw.v0, BBR_UNIT)
    if bbr.mode == BBR_DRAIN:
        in_net = packets_in_net_at_edt(tp, bbr, tp.tcp_packets_in_flight())
        if in_net <= inflight(tp, bbr, bbr.bw.v0, BBR_UNIT):
            reset_probe_bw_mode(tp, bbr)


def update_min_rtt(tp: TcpControl, bbr: BbrState, rs: RateSample) -> None:
    """The least of ten seconds; if that is older, look for it again with next to nothing in flight."""
    now = tp.net.now
    filter_expired = now > bbr.min_rtt_stamp + MIN_RTT_WIN
    if rs.rtt >= 0 and (rs.rtt < bbr.min_rtt or (filter_expired and not rs.is_ack_delayed)):
        bbr.min_rtt = rs.rtt
        bbr.min_rtt_stamp = now
    if filter_expired and not bbr.idle_restart and bbr.mode != BBR_PROBE_RTT:
        bbr.mode = BBR_PROBE_RTT
        save_cwnd(tp, bbr)
        bbr.probe_rtt_done_stamp = 0
    if bbr.mode == BBR_PROBE_RTT:
        probe_rtt(tp, bbr)
    if rs.delivered > 0:
        bbr.idle_restart = False


def probe_rtt(tp: TcpControl, bbr: BbrState) -> None:
    """From when the window is small: 200 ms and a round."""
    tcp_mark_app_limited(tp)  # these samples say nothing of the bandwidth
    if bbr.probe_rtt_done_stamp == 0:
        if tp.tcp_packets_in_flight() <= CWND_MIN_TARGET:
            bbr.probe_rtt_done_stamp = tp.net.now + PROBE_RTT_TIME
            bbr.probe_rtt_round_done = False
            bbr.next_rtt_delivered = tp.delivered
        return
    if bbr.round_start:
        bbr.probe_rtt_round_done = True
    if bbr.probe_rtt_round_done:
        check_probe_rtt_done(tp, bbr)


def check_probe_rtt_done(tp: TcpControl, bbr: BbrState) -> None:
    if bbr.probe_rtt_done_stamp and tp.net.now > bbr.probe_rtt_done_stamp:
        bbr.min_rtt_stamp = tp.net.now
        tp.snd_cwnd = max(tp.snd_cwnd, bbr.prior_cwnd)
        reset_mode(tp, bbr)


def update_gains(bbr: BbrState) -> None:
    if bbr.mode == BBR_STARTUP:
        bbr.pacing_gain = bbr.cwnd_gain = HIGH_GAIN
    elif bbr.mode == BBR_DRAIN:
        bbr.pacing_gain = DRAIN_GAIN
        bbr.cwnd_gain = HIGH_GAIN
    elif bbr.mode == BBR_PROBE_BW:
        bbr.pacing_gain = BBR_UNIT if bbr.lt_use_bw else cycle_gain(bbr.cycle_idx)
        bbr.cwnd_gain = CWND_GAIN
    else:
        bbr.pacing_gain = bbr.cwnd_gain = BBR_UNIT


def cycle_gain(cycle_idx: i64) -> i64:
    if cycle_idx == 0:
        return PROBE_GAIN
    return PROBE_DRAIN_GAIN if cycle_idx == 1 else BBR_UNIT


# -- policers


def reset_lt_bw_sampling_interval(tp: TcpControl, bbr: BbrState) -> None:
    bbr.lt_last_stamp = tp.delivered_mstamp
    bbr.lt_last_delivered = tp.delivered
    bbr.lt_last_lost = tp.lost
    bbr.lt_rtt_cnt = 0


def reset_lt_bw_sampling(tp: TcpControl, bbr: BbrState) -> None:
    bbr.lt_bw = 0
    bbr.lt_use_bw = False
    bbr.lt_is_sampling = False
    reset_lt_bw_sampling_interval(tp, bbr)


def lt_bw_sampling(tp: TcpControl, bbr: BbrState, rs: RateSample) -> None:
    """Two intervals, each between losses, much lost in both and the same rate in both: that is a policer's."""
    if bbr.lt_use_bw:
        if bbr.mode == BBR_PROBE_BW and bbr.round_start:
            bbr.lt_rtt_cnt += 1
            if bbr.lt_rtt_cnt >= LT_BW_MAX_RTTS:
                reset_lt_bw_sampling(tp, bbr)  # it may be gone: look again
                reset_probe_bw_mode(tp, bbr)
        return
    if not bbr.lt_is_sampling:
        if rs.losses == 0:
            return
        # the first loss: a policer's tokens are used up, what is delivered from here on is its rate
        reset_lt_bw_sampling_interval(tp, bbr)
        bbr.lt_is_sampling = True
    if rs.is_app_limited:
        reset_lt_bw_sampling(tp, bbr)
        return
    if bbr.round_start:
        bbr.lt_rtt_cnt += 1
    if bbr.lt_rtt_cnt > 4 * LT_INTVL_MIN_RTTS:
        reset_lt_bw_sampling(tp, bbr)
    elif bbr.lt_rtt_cnt >= LT_INTVL_MIN_RTTS and rs.losses:
        lt_bw_interval_ends(tp, bbr)


def lt_bw_interval_ends(tp: TcpControl, bbr: BbrState) -> None:
    """A loss after four rounds or more: was a fifth lost in them, and how fast was the rest?"""
    lost = tp.lost - bbr.lt_last_lost
    delivered = tp.delivered - bbr.lt_last_delivered
    if delivered <= 0 or lost << BBR_SCALE < LT_LOSS_THRESH * delivered:
        return
    millis = tp.delivered_mstamp // NSEC_PER_MSEC - bbr.lt_last_stamp // NSEC_PER_MSEC
    if millis >= 1:
        lt_bw_interval_done(tp, bbr, min(delivered * BW_UNIT // (millis * 1000), BW_MAX))


def lt_bw_interval_done(tp: TcpControl, bbr: BbrState, bw: i64) -> None:
    if bbr.lt_bw:
        diff = max(bw - bbr.lt_bw, bbr.lt_bw - bw)
        if diff * BBR_UNIT <= LT_BW_RATIO * bbr.lt_bw or rate_bytes_per_sec(tp, diff, BBR_UNIT) <= LT_BW_DIFF:
            bbr.lt_bw = (bw + bbr.lt_bw) >> 1
            bbr.lt_use_bw = True
            bbr.pacing_gain = BBR_UNIT
            bbr.lt_rtt_cnt = 0
            return
    bbr.lt_bw = bw
    reset_lt_bw_sampling_interval(tp, bbr)
