"""CUBIC against RFC 9438's own formulas in floating point, and Linux's HyStart to the packet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tcp.block import control_block
from ustack.tcp.congestion.base import CA_EVENT_TX_START
from ustack.tcp.congestion.cubic import CubicState, bictcp_update, cubic_root, cubic_state
from ustack.tcp.control import SK_PACING_NEEDED, TCP_CA_LOSS, TCP_INFINITE_SSTHRESH

if TYPE_CHECKING:
    from ustack.tcp.sock import TcpSock

MSEC = 1_000_000
SEC = 1_000_000_000
START = 1000 * SEC
#: RFC 9438 section 4.6 and 5.1.
C, BETA = 0.4, 0.7
#: RFC 9438 section 4.3: "alpha_cubic = 3 * (1 - beta_cubic) / (1 + beta_cubic)".
ALPHA = 3 * (1 - BETA) / (1 + BETA)


def connection(cwnd: int = 10, ssthresh: int = TCP_INFINITE_SSTHRESH) -> TcpSock:
    """A connection with cubic, which uses all of its window."""
    tp = control_block()
    assert tp.congestion.name == "cubic"
    tp.net.now = START
    tp.snd_cwnd = cwnd
    tp.snd_ssthresh = ssthresh
    tp.is_cwnd_limited = True
    tp.pacing_rate = 1 << 40
    tp.congestion.init(tp)
    return tp


def pass_round(tp: TcpSock, rtt: int) -> None:
    """A window is acknowledged, packet by packet, over one round trip."""
    cwnd = tp.snd_cwnd
    for number in range(cwnd):
        tp.net.now += rtt // cwnd + (1 if number < rtt % cwnd else 0)
        tp.congestion.pkts_acked(tp, 1, rtt, cwnd)
        tp.congestion.cong_avoid(tp, 0, 1)


# -- the curve


@settings(max_examples=200, deadline=None)
@given(st.integers(0, (1 << 62) - 1))
def test_cube_root(a: int) -> None:
    root = int(cubic_root(a))
    assert root**3 <= a < (root + 1) ** 3


def test_a_loss_takes_three_tenths() -> None:
    """RFC 9438 4.6: "ssthresh = flight_size * beta_cubic", at least two segments."""
    for cwnd, ssthresh in ((100, 70), (10, 7), (3, 2), (2, 2), (1, 2)):
        tp = connection(cwnd)
        assert tp.congestion.ssthresh(tp) == ssthresh


def test_fast_convergence() -> None:
    """RFC 9438 4.7: a window that did not reach W_max again leaves more: "W_max = cwnd * (1 + beta_cubic) / 2"."""
    tp = connection(100)
    tp.congestion.ssthresh(tp)
    assert cubic_state(tp).last_max_cwnd == 100
    tp.snd_cwnd = 80
    tp.congestion.ssthresh(tp)
    assert cubic_state(tp).last_max_cwnd == int(80 * (1 + BETA) / 2)
    tp.snd_cwnd = 80
    tp.congestion.ssthresh(tp)
    assert cubic_state(tp).last_max_cwnd == 80


@pytest.mark.parametrize(("w_max", "rtt"), [(1000, 100 * MSEC), (200, 50 * MSEC), (2000, 200 * MSEC)])
def test_the_window_follows_the_cubic_function(w_max: int, rtt: int) -> None:
    """RFC 9438 (1) and (2): W(t) = C (t - K)^3 + W_max, K = cbrt((W_max - cwnd_epoch) / C), a round trip ahead; where
    Reno would be faster, section 4.3, as fast as that.

    The window moves a packet at a time towards where the curve will be, so it is behind by a few packets at most.
    """
    tp = connection(w_max)
    tp.snd_ssthresh = tp.snd_cwnd = tp.congestion.ssthresh(tp)
    pass_round(tp, rtt)  # the epoch begins with the first packet acknowledged
    k = ((w_max - BETA * w_max) / C) ** (1 / 3)
    began = cubic_state(tp).epoch_start
    while tp.net.now < began + 2 * k * SEC:
        pass_round(tp, rtt)
        t = (tp.net.now - began) / SEC
        wanted = max(C * (t - k) ** 3 + w_max, BETA * w_max + ALPHA * t * SEC / rtt)
        assert abs(tp.snd_cwnd - wanted) <= 0.02 * w_max + 3, t
    assert tp.snd_cwnd > w_max


def test_it_stays_at_the_plateau_and_then_looks_for_more() -> None:
    tp = connection(1000)
    tp.snd_ssthresh = tp.snd_cwnd = tp.congestion.ssthresh(tp)
    sizes = []
    for _ in range(200):
        pass_round(tp, 100 * MSEC)
        sizes.append(int(tp.snd_cwnd))
    growth = [b - a for a, b in zip(sizes, sizes[1:], strict=False)]
    plateau = growth.index(min(growth))
    assert abs(sizes[plateau] - 1000) < 20
    assert growth[0] > 10 * growth[plateau] and growth[-1] > 10 * max(growth[plateau], 1)


def test_on_short_paths_it_is_as_fast_as_reno() -> None:
    """RFC 9438 4.3: with 1 ms the cubic curve hardly moves in a hundred round trips; alpha packets a round."""
    tp = connection(100)
    tp.snd_ssthresh = tp.snd_cwnd = tp.congestion.ssthresh(tp)
    for _ in range(40):
        pass_round(tp, MSEC)
    assert abs(int(tp.snd_cwnd) - (70 + 40 * ALPHA)) <= 4


def test_without_a_loss_at_least_five_percent_a_round() -> None:
    tp = connection(100, ssthresh=100)
    pass_round(tp, 10 * MSEC)
    assert cubic_state(tp).cnt <= 20
    assert tp.snd_cwnd >= 104


def test_never_more_than_half_a_window_a_round() -> None:
    """RFC 9438 4.4: "the target [...] 1.5 * cwnd"."""
    ca = CubicState()
    ca.epoch_start = START
    ca.origin_point = 100_000
    bictcp_update(ca, 10, 1, START + SEC)
    assert ca.cnt == 2


def test_a_curve_of_hours_does_not_overflow() -> None:
    ca = CubicState()
    bictcp_update(ca, 10, 1, START)
    bictcp_update(ca, 10, 1, START + 100_000 * SEC)
    assert ca.cnt == 2


def test_a_window_not_in_use_does_not_grow() -> None:
    tp = connection(20, ssthresh=10)
    tp.is_cwnd_limited = False
    pass_round(tp, 10 * MSEC)
    assert tp.snd_cwnd == 20


def test_time_without_data_is_no_time_of_the_curve() -> None:
    """RFC 9438 5.8: the epoch moves by as long as nothing was in flight."""
    tp = connection(100)
    tp.snd_ssthresh = tp.snd_cwnd = tp.congestion.ssthresh(tp)
    pass_round(tp, 100 * MSEC)
    began = cubic_state(tp).epoch_start
    tp.lsndtime = tp.net.now
    tp.net.now += 5 * SEC
    tp.congestion.cwnd_event(tp, CA_EVENT_TX_START)
    assert cubic_state(tp).epoch_start == began + 5 * SEC
    tp.net.now += SEC
    tp.lsndtime = 0  # never beyond now
    tp.congestion.cwnd_event(tp, CA_EVENT_TX_START)
    assert cubic_state(tp).epoch_start == tp.net.now


def test_a_timeout_forgets_everything() -> None:
    tp = connection(100)
    tp.congestion.ssthresh(tp)
    tp.congestion.set_state(tp, TCP_CA_LOSS)
    ca = cubic_state(tp)
    assert (ca.last_max_cwnd, ca.epoch_start, ca.delay_min, ca.found) == (0, 0, 0, False)


def test_an_undo_gives_back_what_there_was() -> None:
    tp = connection(7)
    tp.prior_cwnd = 10
    assert tp.congestion.undo_cwnd(tp) == 10
    tp.snd_cwnd = 12
    assert tp.congestion.undo_cwnd(tp) == 12


def test_a_syn_may_be_lost_before_there_is_a_connection() -> None:
    tp = control_block()
    tp.snd_cwnd = 10
    assert tp.congestion.ssthresh(tp) == 7


# -- HyStart


def slow_start(tp: TcpSock, rtt: int, gap: int = 0, until: int = 1 << 20) -> None:
    """Rounds of slow start until it ends, or cwnd is ``until``; ACKs of a round ``gap`` ns apart."""
    while tp.in_slow_start() and tp.snd_cwnd < until:
        tp.snd_una = tp.snd_nxt
        tp.snd_nxt = (tp.snd_nxt + tp.snd_cwnd * 1000) & 0xFFFF_FFFF
        tp.net.now += rtt
        flight = tp.snd_cwnd
        for number in range(flight):
            tp.snd_una = (tp.snd_una + 1000) & 0xFFFF_FFFF
            tp.net.now += gap if number else 0
            tp.congestion.pkts_acked(tp, 1, rtt, flight)
            if not tp.in_slow_start():
                return
            tp.congestion.cong_avoid(tp, 0, 1)


def test_slow_start_doubles_while_nothing_speaks_against_it() -> None:
    tp = connection(10)
    slow_start(tp, 100 * MSEC, until=640)
    assert tp.snd_cwnd == 640 and tp.net.mib.tcpext.TCPHystartTrainDetect == 0


def test_a_train_of_acks_as_long_as_half_a_round_trip_ends_it() -> None:
    """ACKs at most 2 ms apart: the packets came one behind the other, and fill half of the path."""
    tp = connection(10)
    tp.pacing_rate = 0  # nothing is added for bursts
    slow_start(tp, 50 * MSEC, MSEC)
    mib = tp.net.mib.tcpext
    assert mib.TCPHystartTrainDetect == 1 and mib.TCPHystartDelayDetect == 0
    assert mib.TCPHystartTrainCwnd == tp.snd_cwnd == tp.snd_ssthresh
    assert cubic_state(tp).found
    # 26 ACKs in a row, 1 ms apart, last 25 ms; the 27th is beyond: in the round that began with 20 in flight cwnd was
    # 20 before and the train too short, so it is found in the one that began with 40
    assert tp.snd_cwnd == 40 + 26


def test_bursts_are_allowed_for() -> None:
    """hystart_ack_delay: four of the longest bursts at the pacing rate, a millisecond at most."""
    tp = connection(10)
    tp.pacing_rate = 1000
    slow_start(tp, 50 * MSEC, MSEC)
    assert tp.snd_cwnd == 40 + 26  # (50 ms + 1 ms) / 2 = 25.5 ms


def test_a_paced_sender_s_train_may_be_a_whole_round_trip_long() -> None:
    tp = connection(10)
    tp.pacing_rate = 0
    tp.pacing_status = SK_PACING_NEEDED
    slow_start(tp, 50 * MSEC, MSEC)
    assert tp.snd_cwnd == 80 + 51


def test_acks_far_apart_are_no_train() -> None:
    tp = connection(10)
    tp.pacing_rate = 0
    slow_start(tp, 50 * MSEC, 3 * MSEC, until=100)
    assert tp.net.mib.tcpext.TCPHystartTrainDetect == 0


@pytest.mark.parametrize(("rtt", "slack"), [(10 * MSEC, 4 * MSEC), (80 * MSEC, 10 * MSEC), (400 * MSEC, 16 * MSEC)])
def test_a_round_trip_longer_by_an_eighth_ends_it(rtt: int, slack: int) -> None:
    """At least 4 ms, at most 16; eight samples of a round must all say so."""
    tp = connection(20)
    slow_start(tp, rtt, until=40)
    slow_start(tp, rtt + slack, until=80)
    assert tp.net.mib.tcpext.TCPHystartDelayDetect == 0
    slow_start(tp, rtt + slack + 1)
    mib = tp.net.mib.tcpext
    assert mib.TCPHystartDelayDetect == 1 and mib.TCPHystartTrainDetect == 0
    assert mib.TCPHystartDelayCwnd == tp.snd_cwnd == tp.snd_ssthresh == 80 + 8


def test_one_fast_packet_in_a_round_excuses_the_others() -> None:
    tp = connection(20)
    slow_start(tp, 80 * MSEC, until=40)
    tp.snd_una = tp.snd_nxt
    tp.snd_nxt = (tp.snd_nxt + 40_000) & 0xFFFF_FFFF
    tp.snd_una = (tp.snd_una + 1000) & 0xFFFF_FFFF
    tp.net.now += 100 * MSEC
    for number in range(40):
        tp.congestion.pkts_acked(tp, 1, 80 * MSEC if number == 3 else 100 * MSEC, 40)
    assert tp.net.mib.tcpext.TCPHystartDelayDetect == 0


def test_small_windows_are_left_alone() -> None:
    """hystart_low_window: below 16 packets nothing can be told."""
    tp = connection(4)
    slow_start(tp, 50 * MSEC, until=8)
    slow_start(tp, 100 * MSEC, until=16)
    assert tp.net.mib.tcpext.TCPHystartDelayDetect == 0


def test_the_second_after_a_loss_is_not_judged() -> None:
    tp = connection(100)
    tp.snd_ssthresh = tp.snd_cwnd = tp.congestion.ssthresh(tp)
    pass_round(tp, 50 * MSEC)
    ca = cubic_state(tp)
    tp.net.now = ca.epoch_start + SEC - 1
    tp.congestion.pkts_acked(tp, 1, MSEC, 1)
    assert ca.delay_min == 50 * MSEC
    tp.net.now = ca.epoch_start + SEC
    tp.congestion.pkts_acked(tp, 1, MSEC, 1)
    assert ca.delay_min == MSEC
    tp.congestion.pkts_acked(tp, 1, -1, 1)  # no sample
    assert ca.delay_min == MSEC
