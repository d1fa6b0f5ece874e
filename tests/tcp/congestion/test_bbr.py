"""BBR: its parts by hand, and whole connections over a cable of a given rate (Linux tcp_bbr.c, version 1)."""

from __future__ import annotations

from struct import unpack
from typing import TYPE_CHECKING

import pytest

from tests.harness import MSEC, SEC, Pair, connection
from tests.tcp.block import control_block
from ustack.device.cable import Impairments
from ustack.tcp.congestion.base import CA_EVENT_TX_START
from ustack.tcp.congestion.bbr import (
    BBR_DRAIN,
    BBR_PROBE_BW,
    BBR_PROBE_RTT,
    BBR_STARTUP,
    BBR_UNIT,
    BW_UNIT,
    DRAIN_GAIN,
    HIGH_GAIN,
    BbrState,
    bbr_state,
    bdp,
)
from ustack.tcp.control import (
    RTT_UNKNOWN,
    SK_PACING_NEEDED,
    TCP_CA_LOSS,
    TCP_CA_OPEN,
    TCP_CA_RECOVERY,
    TCP_INFINITE_SSTHRESH,
    TcpControl,
)
from ustack.tcp.rate import RateSample

if TYPE_CHECKING:
    from ustack.tcp.sock import TcpSock

START = 1000 * SEC


class Path:
    """A connection driven by samples: ``rate`` packets a millisecond, ``rtt`` ms."""

    def __init__(self, seed: bytes = b"a seed for tests", rtt: int = 20) -> None:
        self.tp: TcpSock = control_block(seed)
        tp = self.tp
        tp.congestion = tp.tables.congestion.find("bbr")
        tp.net.now = tp.delivered_mstamp = START
        tp.mss_cache = 1000
        tp.delivered = 1
        tp.app_limited = 0
        tp.srtt = tp.min_rtt = rtt * MSEC
        self.rtt = rtt
        tp.congestion.init(tp)
        self.bbr: BbrState = bbr_state(tp)

    def round(self, rate: float, acks: int = 10, losses: int = 0, limited: bool = False, rtt: float = 0) -> None:
        """A round trip at that rate, in so many ACKs."""
        tp = self.tp
        prior_delivered = tp.delivered
        packets = max(round(rate * self.rtt) // acks, 1)
        flight = packets * acks
        for number in range(acks):
            tp.net.now += self.rtt * MSEC // acks
            tp.delivered += packets
            tp.delivered_mstamp = tp.net.now
            tp.lost += losses if number == 0 else 0
            tp.packets_out = max(tp.snd_cwnd, flight)
            rs = RateSample()
            rs.prior_delivered = prior_delivered
            rs.prior_mstamp = tp.net.now - self.rtt * MSEC
            rs.delivered = round(rate * self.rtt)
            rs.interval = self.rtt * MSEC
            rs.rtt = int((rtt or self.rtt) * int(MSEC))
            rs.acked_sacked = packets
            rs.losses = losses if number == 0 else 0
            rs.prior_in_flight = tp.packets_out
            rs.is_app_limited = limited
            tp.congestion.cong_control(tp, 0, 0, rs)

    def ack(self, **fields: int) -> None:
        rs = RateSample()
        rs.rtt = self.rtt * MSEC
        for name, value in fields.items():
            setattr(rs, name, value)
        self.tp.congestion.cong_control(self.tp, 0, 0, rs)

    def filled(self, rate: float = 5) -> Path:
        """In PROBE_BW, the bandwidth known."""
        for _ in range(8):
            self.round(rate)
        self.tp.packets_out = 0
        self.round(rate, acks=1)
        self.tp.packets_out = 0
        self.ack()
        assert self.bbr.mode == BBR_PROBE_BW
        return self


# -- the beginning


def test_it_begins_with_the_initial_window_in_a_round_trip() -> None:
    """2.89 times 10 segments of 1000 bytes in 20 ms, less a hundredth."""
    p = Path()
    assert (p.bbr.mode, p.bbr.pacing_gain, p.bbr.cwnd_gain) == (BBR_STARTUP, HIGH_GAIN, HIGH_GAIN)
    assert p.tp.pacing_rate == pytest.approx(500_000 * 739 / 256 * 0.99, rel=1e-3)
    assert p.tp.pacing_status == SK_PACING_NEEDED
    assert p.tp.snd_ssthresh == TCP_INFINITE_SSTHRESH
    assert p.tp.congestion.sndbuf_expand(p.tp) == 3


def test_before_a_round_trip_is_known_it_is_a_millisecond() -> None:
    tp = control_block()
    tp.mss_cache = 1000
    tp.congestion = tp.tables.congestion.find("bbr")
    tp.congestion.init(tp)
    assert tp.pacing_rate == pytest.approx(10_000_000 * 739 / 256 * 0.99, rel=1e-3)
    bbr = bbr_state(tp)
    assert bdp(bbr, BW_UNIT, BBR_UNIT) == 10 and bbr.min_rtt == RTT_UNKNOWN
    tp.srtt = 100 * MSEC
    tp.pacing_rate = 0
    tp.congestion.cong_control(tp, 0, 0, RateSample())
    assert tp.pacing_rate == pytest.approx(100_000 * 739 / 256 * 0.99, rel=1e-3)


def test_startup_ends_after_three_rounds_without_a_quarter_more() -> None:
    p = Path()
    for rate in (1, 2, 4):
        p.round(rate)
        assert p.bbr.mode == BBR_STARTUP and not p.bbr.full_bw_reached
    p.round(4.9)
    p.round(4.9)
    assert not p.bbr.full_bw_reached
    p.round(4.9)
    assert p.bbr.full_bw_reached
    assert (p.bbr.mode, p.bbr.pacing_gain, p.bbr.cwnd_gain) == (BBR_DRAIN, DRAIN_GAIN, HIGH_GAIN)
    # what drains is all beyond one bandwidth times delay: 4.9 a ms, 20 ms, and what the ends hold: three bursts
    burst = int(4_900_000 * 2.89 * 0.99) // 1024 // 1000
    assert 98 + 3 * burst <= p.tp.snd_ssthresh <= 98 + 3 * burst + 2


def test_what_the_application_limits_ends_nothing() -> None:
    p = Path()
    p.round(2)
    for _ in range(10):
        p.round(1, limited=True)
    assert not p.bbr.full_bw_reached and abs(int(p.bbr.bw.v0) - int(BW_UNIT) * 2 // 1000) < 100
    p.round(3, limited=True)
    assert abs(int(p.bbr.bw.v0) - int(BW_UNIT) * 3 // 1000) < 100, "more than was known is believed"


# -- the steady state


def test_the_gains_of_a_cycle() -> None:
    """1.25, 0.75, six times 1: a round trip each."""
    p = Path().filled()
    seen = []
    for _ in range(16):
        p.tp.packets_out = p.tp.snd_cwnd
        p.round(5, acks=1)
        p.tp.net.now += MSEC
        seen.append(int(p.bbr.pacing_gain))
    start = seen.index(320)
    assert seen[start : start + 8].count(320) >= 1 and 192 in seen and seen.count(256) >= 8


def test_the_cycle_begins_at_random_but_never_in_the_draining_phase() -> None:
    """get_random_u32_below(7): the stack's seed decides, and the same seed decides the same."""
    first = [int(Path(f"seed number {n:04}".encode()).filled().bbr.cycle_idx) for n in range(40)]
    again = [int(Path(f"seed number {n:04}".encode()).filled().bbr.cycle_idx) for n in range(40)]
    assert first == again
    assert len(set(first)) >= 5 and 1 not in first


def test_cwnd_is_twice_the_pipe_and_what_the_ends_hold() -> None:
    p = Path().filled()
    for _ in range(30):
        p.round(5)
    assert 200 <= p.tp.snd_cwnd <= 200 + 3 * 127 + 2 + 100
    assert abs(int(p.tp.pacing_rate) - 5_000_000 * 0.99 * int(p.bbr.pacing_gain) / 256) < 60_000


def test_the_bandwidth_is_the_most_of_ten_rounds() -> None:
    p = Path().filled(5)
    for _ in range(9):
        p.round(2)
    assert abs(int(p.bbr.bw.v0) - int(BW_UNIT) * 5 // 1000) < 100
    for _ in range(4):
        p.round(2)
    assert abs(int(p.bbr.bw.v0) - int(BW_UNIT) * 2 // 1000) < 100


def test_min_rtt_of_ten_seconds_and_the_probe_for_it() -> None:
    p = Path().filled()
    p.tp.net.now += 9 * SEC
    p.ack(rtt=30 * MSEC)
    assert p.bbr.min_rtt == 20 * MSEC and p.bbr.mode == BBR_PROBE_BW
    p.tp.snd_cwnd = 50
    p.tp.packets_out = 50
    p.tp.net.now += 2 * SEC
    p.ack(rtt=30 * MSEC, acked_sacked=1)
    assert p.bbr.min_rtt == 30 * MSEC
    assert (p.bbr.mode, p.tp.snd_cwnd, p.bbr.pacing_gain) == (BBR_PROBE_RTT, 4, BBR_UNIT)
    p.tp.packets_out = 4
    p.ack(acked_sacked=1)
    assert p.tp.app_limited, "what is delivered now says nothing of the bandwidth"
    p.tp.net.now += 199 * MSEC
    p.ack(delivered=1, interval=20 * MSEC, prior_delivered=p.tp.delivered)
    assert p.bbr.mode == BBR_PROBE_RTT
    p.tp.net.now += 2 * MSEC
    p.ack()
    assert p.bbr.mode == BBR_PROBE_BW and p.tp.snd_cwnd >= 50


def test_a_restart_after_idling_does_not_burst() -> None:
    p = Path().filled()
    p.tp.app_limited = 1
    p.tp.pacing_rate = 1
    p.tp.congestion.cwnd_event(p.tp, CA_EVENT_TX_START)
    assert p.bbr.idle_restart
    assert abs(int(p.tp.pacing_rate) - 5_000_000 * 0.99) < 60_000
    p.tp.net.now += 20 * SEC
    p.ack(rtt=25 * MSEC)
    assert p.bbr.mode == BBR_PROBE_BW, "an idle path has no queue to drain for a look at min_rtt"
    p.ack(delivered=1, interval=20 * MSEC)
    assert not p.bbr.idle_restart


# -- losses


def test_recovery_conserves_packets_for_a_round_and_gives_the_window_back() -> None:
    p = Path().filled()
    tp = p.tp
    tp.snd_cwnd = 100
    assert tp.congestion.ssthresh(tp) == tp.snd_ssthresh
    assert p.bbr.prior_cwnd == 100
    tp.ca_state = TCP_CA_RECOVERY
    tp.packets_out = 60
    p.ack(acked_sacked=2, losses=1)
    assert tp.snd_cwnd == 62 and p.bbr.packet_conservation
    tp.packets_out = 58
    p.ack(acked_sacked=3)
    assert tp.snd_cwnd == 62
    tp.ca_state = TCP_CA_OPEN
    p.ack(acked_sacked=1)
    assert tp.snd_cwnd >= 100 and not p.bbr.packet_conservation


def test_a_timeout_ends_a_round() -> None:
    p = Path()
    p.round(4)
    p.tp.congestion.set_state(p.tp, TCP_CA_LOSS)
    assert (p.bbr.full_bw, p.bbr.round_start, p.bbr.prev_ca_state) == (0, True, TCP_CA_LOSS)
    assert p.bbr.lt_is_sampling


def test_an_undo_leaves_the_window_to_the_model() -> None:
    p = Path().filled()
    p.tp.snd_cwnd = 33
    assert p.tp.congestion.undo_cwnd(p.tp) == 33
    assert p.bbr.full_bw == 0


def test_a_policer_is_found_and_believed_for_48_rounds() -> None:
    """A fifth lost in two intervals of four rounds, delivered at the same rate."""
    p = Path().filled(8)
    rounds = 0
    while not p.bbr.lt_use_bw:
        p.round(2, losses=15)
        rounds += 1
        assert rounds < 40
    assert abs(int(p.bbr.bandwidth()) - int(BW_UNIT) * 2 // 1000) < BW_UNIT // 2000
    assert p.bbr.pacing_gain == BBR_UNIT
    for _ in range(47):
        p.round(2)
    assert p.bbr.lt_use_bw
    p.round(2)
    assert not p.bbr.lt_use_bw


def test_a_few_losses_are_no_policer() -> None:
    p = Path().filled(8)
    for _ in range(60):
        p.round(8, losses=8)  # a twentieth
    assert not p.bbr.lt_use_bw


def test_acks_that_come_together_get_more_window() -> None:
    p = Path().filled()
    for _ in range(12):
        p.round(5, acks=1)
    assert max(p.bbr.extra_acked0, p.bbr.extra_acked1) > 0


def test_what_ss_shows() -> None:
    """struct tcp_bbr_info: bandwidth in two words, min_rtt in µs, the gains."""
    p = Path().filled()
    low, high, rtt, pacing_gain, cwnd_gain = unpack("=5I", p.tp.congestion.get_info(p.tp))
    assert abs((high << 32 | low) - 5_000_000) < 5000
    assert (rtt, pacing_gain, cwnd_gain) == (20_000, p.bbr.pacing_gain, 512)


def test_slow_paths_send_single_segments() -> None:
    p = Path()
    for rate, segs in ((149_999, 1), (150_000, 2)):
        p.tp.pacing_rate = rate
        assert p.tp.congestion.min_tso_segs(p.tp) == segs


# -- whole connections


def transfer(
    rate: int, delay: int, limit: int, seconds: int, congestion: str, loss: float = 0.0
) -> tuple[float, float]:
    """(share of the bottleneck's rate in the last half, mean queue there in bytes / bandwidth-delay product)."""
    there = Impairments(delay=delay, rate=rate, limit=limit, loss=loss)
    with Pair(there=there, back=Impairments(delay=delay), resolved=True, super_segments=False) as pair:
        pair.a.sysctl.set("net.ipv4.tcp_congestion_control", congestion)
        sender, receiver = connection(pair)
        tp = sender.sk
        assert isinstance(tp, TcpControl)
        chunk = bytes(1 << 16)
        got = half = 0
        queue = samples = 0
        began = pair.now
        end = began + seconds * SEC
        while pair.now < end:
            try:
                while sender.send(chunk):
                    pass
            except BlockingIOError:
                pass
            pair.run(2 * MSEC)
            try:
                while True:
                    got += len(receiver.recv(1 << 20))
            except BlockingIOError:
                pass
            if pair.now < began + seconds * SEC // 2:
                half = got
            else:
                samples += 1
                queue += max(tp.srtt - 2 * delay, 0)
        share = (got - half) * 8 / (rate * seconds / 2)
        return share, queue / samples / (2 * delay)


@pytest.mark.parametrize(("rate", "delay", "seconds"), [(10_000_000, 20 * MSEC, 4), (30_000_000, 5 * MSEC, 2)])
def test_it_reaches_the_rate_of_the_path_without_filling_the_buffer(rate: int, delay: int, seconds: int) -> None:
    """A buffer of eight bandwidth-delay products: cubic fills it, BBR keeps a fraction of one."""
    limit = rate // 8 * 2 * delay // SEC * 8
    share, queue = transfer(rate, delay, limit, seconds, "bbr")
    assert 0.85 < share <= 1.01
    assert queue < 1.0


def test_random_loss_does_not_slow_it_down() -> None:
    share, _ = transfer(10_000_000, 10 * MSEC, 100_000, 4, "bbr", loss=0.02)
    assert share > 0.8
