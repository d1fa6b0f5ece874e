"""HyStart++ (RFC 9406): conservative slow start, and the ways in and out of it."""

from __future__ import annotations

import errno

import pytest

from tests.tcp.block import control_block
from tests.tcp.peer import code_of
from ustack.stack import Stack
from ustack.tcp.congestion.hystart_plus import CubicHystartPlus, HystartPlusState
from ustack.tcp.control import RTT_UNKNOWN, SK_PACING_NEEDED, TCP_CA_LOSS, TCP_INFINITE_SSTHRESH, TcpControl

MSEC = 1_000_000


def connection(cwnd: int = 10) -> tuple[TcpControl, HystartPlusState]:
    tp = control_block()
    tp.congestion = CubicHystartPlus()
    tp.net.now = 1000_000 * MSEC
    tp.snd_cwnd = cwnd
    tp.snd_ssthresh = TCP_INFINITE_SSTHRESH
    tp.is_cwnd_limited = True
    tp.congestion.init(tp)
    state = tp.ca_priv
    assert isinstance(state, HystartPlusState)
    return tp, state


def pass_round(tp: TcpControl, rtt: int, stretch: int = 1) -> None:
    """A window is acknowledged, ``stretch`` packets an ACK."""
    tp.net.now += rtt
    flight = int(tp.snd_cwnd)
    tp.snd_nxt = (tp.snd_una + flight * 1000) & 0xFFFF_FFFF
    for _ in range(flight // stretch):
        tp.congestion.pkts_acked(tp, stretch, rtt, flight)
        tp.snd_una = (tp.snd_una + stretch * 1000) & 0xFFFF_FFFF
        tp.congestion.cong_avoid(tp, 0, stretch)


def in_css(ca: HystartPlusState) -> bool:
    return ca.css_baseline_min_rtt != RTT_UNKNOWN


def test_the_window_doubles_while_the_round_trip_stays() -> None:
    tp, ca = connection()
    for _ in range(6):
        pass_round(tp, 50 * MSEC)
    assert tp.snd_cwnd == 640 and not in_css(ca)


@pytest.mark.parametrize(("rtt", "slack"), [(10, 4), (80, 10), (400, 16)])
def test_into_css_when_it_grows_by_an_eighth(rtt: int, slack: int) -> None:
    """4.2: RttThresh = max(MIN_RTT_THRESH, min(lastRoundMinRTT / MIN_RTT_DIVISOR, MAX_RTT_THRESH))."""
    tp, ca = connection()
    pass_round(tp, rtt * MSEC)
    pass_round(tp, (rtt + slack) * MSEC - 1)
    assert not in_css(ca)
    tp, ca = connection()
    pass_round(tp, rtt * MSEC)
    pass_round(tp, (rtt + slack) * MSEC)
    assert in_css(ca) and ca.css_baseline_min_rtt == (rtt + slack) * MSEC
    assert tp.in_slow_start()


def test_a_quarter_of_the_growth_for_five_rounds_and_then_congestion_avoidance() -> None:
    tp, ca = connection(100)
    pass_round(tp, 50 * MSEC)
    pass_round(tp, 60 * MSEC)
    assert in_css(ca)
    sizes = [int(tp.snd_cwnd)]
    while tp.in_slow_start():
        pass_round(tp, 60 * MSEC)
        sizes.append(int(tp.snd_cwnd))
        assert len(sizes) < 10
    grown = [b / a for a, b in zip(sizes, sizes[1:], strict=False)]
    assert len(grown) == 5 and all(1.2 < rate < 1.27 for rate in grown[:4])
    assert tp.snd_ssthresh <= tp.snd_cwnd


def test_slow_start_goes_on_if_the_round_trip_falls_again() -> None:
    """ "currentRoundMinRTT < cssBaselineMinRtt": the burst's own queue."""
    tp, ca = connection(20)
    pass_round(tp, 50 * MSEC)
    pass_round(tp, 60 * MSEC)
    assert in_css(ca)
    pass_round(tp, 55 * MSEC)
    assert not in_css(ca)
    before = int(tp.snd_cwnd)
    pass_round(tp, 55 * MSEC)
    assert tp.snd_cwnd == 2 * before


def test_fewer_than_eight_samples_say_nothing() -> None:
    tp, ca = connection(7)
    pass_round(tp, 50 * MSEC)
    tp.snd_cwnd = 7
    pass_round(tp, 100 * MSEC)
    assert not in_css(ca)


def test_an_ack_of_many_adds_eight_at_most_unless_paced() -> None:
    """L = 8 for who does not pace."""
    tp, _ = connection(64)
    pass_round(tp, 50 * MSEC, stretch=16)
    assert tp.snd_cwnd == 64 + 4 * 8
    tp, _ = connection(64)
    tp.pacing_status = SK_PACING_NEEDED
    pass_round(tp, 50 * MSEC, stretch=16)
    assert tp.snd_cwnd == 128


def test_only_the_first_slow_start_is_conservative() -> None:
    """4.3: "SHOULD use HyStart++ only for the initial slow start", while ssthresh is "arbitrarily high"."""
    tp, _ = connection(100)
    pass_round(tp, 50 * MSEC)
    for _ in range(8):
        pass_round(tp, 60 * MSEC)
    assert not tp.in_slow_start()
    found = int(tp.snd_ssthresh)
    tp.snd_cwnd = 10  # it was idle (tcp_cwnd_restart)
    for size in (20, 40, 80):
        pass_round(tp, 80 * MSEC)
        assert tp.snd_cwnd == size and tp.snd_ssthresh == found


def test_after_a_timeout_it_starts_over() -> None:
    tp, ca = connection(20)
    pass_round(tp, 50 * MSEC)
    pass_round(tp, 60 * MSEC)
    tp.congestion.set_state(tp, TCP_CA_LOSS)
    assert isinstance(tp.ca_priv, HystartPlusState) and tp.ca_priv is not ca and not in_css(tp.ca_priv)


def test_beyond_slow_start_it_is_cubic() -> None:
    tp, _ = connection(100)
    assert tp.congestion.ssthresh(tp) == 70
    tp.snd_cwnd = tp.snd_ssthresh = 70
    for _ in range(20):
        pass_round(tp, 100 * MSEC)
    assert 90 < tp.snd_cwnd < 110


def test_it_is_there_for_who_asks_for_it_by_name() -> None:
    """As a module that is loaded when it is named; it is none of Linux's."""
    table = Stack(b"a seed for tests").sysctl
    name, available = "net.ipv4.tcp_congestion_control", "net.ipv4.tcp_available_congestion_control"
    assert table.get(available) == "reno cubic bbr"
    table.set(name, "cubic-rfc9406")
    assert table.get(available) == "reno cubic bbr cubic-rfc9406"
    table.set(name, "cubic")
    table.set(name, "cubic-rfc9406")
    assert code_of(lambda: table.set(name, "cubic-rfc9407")) == errno.ENOENT
