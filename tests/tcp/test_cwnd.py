"""A window that is not used: validation, restart after idling; the initial one (RFC 2861, RFC 5681 4.1, RFC 6928)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.tcp.block import control_block
from tests.tcp.peer import MSEC, SEC, established
from ustack.tcp.control import TCP_CA_CWR, TCP_CA_DISORDER, TCP_CA_OPEN, TCP_CA_RECOVERY, TCP_INFINITE_SSTHRESH
from ustack.tcp.cwnd import (
    tcp_current_ssthresh,
    tcp_cwnd_restart,
    tcp_cwnd_validate,
    tcp_is_cwnd_limited,
    tcp_slow_start_after_idle_check,
)

if TYPE_CHECKING:
    from ustack.tcp.sock import TcpSock

MSS = 1460


def connection(cwnd: int, packets_out: int = 0) -> TcpSock:
    tp = control_block()
    tp.net.now = 1000 * SEC
    tp.snd_cwnd = cwnd
    tp.packets_out = packets_out
    tp.rto = 200 * MSEC
    tp.snd_cwnd_stamp = tp.lsndtime = tp.net.now
    tp.snd_una = tp.snd_nxt = tp.cwnd_usage_seq = 1000
    return tp


# -- how much is in use


def test_a_full_window_is_limited_for_the_rest_of_the_round_trip() -> None:
    tp = connection(10, 10)
    tp.snd_nxt = 11_000
    tcp_cwnd_validate(tp, True)
    assert tp.is_cwnd_limited and tcp_is_cwnd_limited(tp)
    assert (tp.max_packets_out, tp.cwnd_usage_seq) == (10, 11_000)
    tp.packets_out = 3
    tp.snd_una = 5000
    tcp_cwnd_validate(tp, False)  # the same round trip: it was full, that is what counts
    assert tp.is_cwnd_limited and tp.max_packets_out == 10
    tp.snd_una = 11_000
    tcp_cwnd_validate(tp, False)  # a new one begins
    assert not tp.is_cwnd_limited and tp.max_packets_out == 3


def test_in_slow_start_half_a_window_in_use_is_enough() -> None:
    """So that it may double what was acknowledged."""
    tp = connection(10, 6)
    tcp_cwnd_validate(tp, False)
    assert tcp_is_cwnd_limited(tp)
    tp.snd_ssthresh = 5
    assert not tcp_is_cwnd_limited(tp)
    tp = connection(10, 5)
    tcp_cwnd_validate(tp, False)
    assert not tcp_is_cwnd_limited(tp)


def test_the_most_of_a_round_trip_is_remembered() -> None:
    tp = connection(30, 4)
    tp.snd_nxt = 9000
    tcp_cwnd_validate(tp, False)
    tp.snd_una = 2000
    tp.packets_out = 7
    tcp_cwnd_validate(tp, False)
    assert tp.max_packets_out == 7
    tp.packets_out = 5
    tcp_cwnd_validate(tp, False)
    assert tp.max_packets_out == 7


def test_an_rto_of_half_empty_windows_takes_half_of_the_rest() -> None:
    """RFC 2861 3.1: ssthresh = 3/4 cwnd, cwnd = (cwnd + used) / 2; but no less than the initial window is used."""
    tp = connection(40, 20)
    tp.snd_ssthresh = 20
    tcp_cwnd_validate(tp, False)
    assert (tp.snd_cwnd, tp.snd_cwnd_used) == (40, 20)
    tp.net.now += 200 * MSEC - 1
    tcp_cwnd_validate(tp, False)
    assert tp.snd_cwnd == 40
    tp.net.now += 1
    tcp_cwnd_validate(tp, False)
    assert (tp.snd_cwnd, tp.snd_ssthresh, tp.snd_cwnd_used, tp.snd_cwnd_stamp) == (30, 30, 0, tp.net.now)
    tp.packets_out = 1
    tp.net.now += SEC
    tcp_cwnd_validate(tp, False)
    assert (tp.snd_cwnd, tp.snd_ssthresh) == (20, 30)  # (30 + 10) / 2


@pytest.mark.parametrize("why", ["buffer", "disorder", "sysctl", "bbr"])
def test_what_keeps_it_from_shrinking(why: str) -> None:
    tp = connection(40, 20)
    tp.snd_ssthresh = 20
    if why == "buffer":
        tp.sock_nospace = True  # the application would send more
    elif why == "disorder":
        tp.ca_state = TCP_CA_DISORDER
    elif why == "sysctl":
        tp.net.sysctl.tcp_slow_start_after_idle = 0
    else:
        tp.congestion = tp.tables.congestion.find("bbr")
    tp.net.now += SEC
    tcp_cwnd_validate(tp, False)
    assert (tp.snd_cwnd, tp.snd_ssthresh) == (40, 20)


# -- after idling


@pytest.mark.parametrize(("idle", "cwnd"), [(200, 40), (201, 20), (400, 20), (401, 10), (601, 10), (9999, 10)])
def test_an_idle_window_is_halved_for_each_rto(idle: int, cwnd: int) -> None:
    """RFC 5681 4.1 and RFC 2861 3.1: down to the restart window; ssthresh remembers 3/4."""
    tp = connection(40)
    tp.snd_ssthresh = 25
    tp.net.now += idle * MSEC
    tcp_slow_start_after_idle_check(tp)
    assert tp.snd_cwnd == cwnd
    assert tp.snd_ssthresh == (30 if idle > 200 else 25)


def test_a_small_window_stays_as_it_is() -> None:
    tp = connection(4)
    tcp_cwnd_restart(tp, 10 * SEC)
    assert (tp.snd_cwnd, tp.snd_ssthresh) == (4, TCP_INFINITE_SSTHRESH)


@pytest.mark.parametrize("why", ["in flight", "sysctl", "bbr"])
def test_what_is_not_idle(why: str) -> None:
    tp = connection(40)
    if why == "in flight":
        tp.packets_out = 1
    elif why == "sysctl":
        tp.net.sysctl.tcp_slow_start_after_idle = 0
    else:
        tp.congestion = tp.tables.congestion.find("bbr")
    tp.net.now += 10 * SEC
    tcp_slow_start_after_idle_check(tp)
    assert tp.snd_cwnd == 40


def test_the_current_ssthresh() -> None:
    tp = connection(40)
    tp.snd_ssthresh = 20
    assert tcp_current_ssthresh(tp) == 30
    for ca_state, value in ((TCP_CA_OPEN, 30), (TCP_CA_CWR, 20), (TCP_CA_RECOVERY, 20)):
        tp.ca_state = ca_state
        assert tcp_current_ssthresh(tp) == value


# -- on the wire


def test_the_initial_window_is_ten() -> None:
    """RFC 6928: "min (10*MSS, max (2*MSS, 14600))"."""
    with established(wscale=4, window=200_000) as c:
        c.inject("A", window=200_000)
        c.tp.sndbuf = 1 << 20
        c.app_send(bytes(20 * MSS))
        for number in range(10):
            c.expect("PA" if c.out[0].flags & 8 else "A", seq=1 + number * MSS, data=bytes(MSS))
        c.silent()


def test_the_clamp_holds() -> None:
    with established(wscale=4, window=200_000) as c:
        c.inject("A", window=200_000)
        c.tp.sndbuf = 1 << 20
        c.tp.snd_cwnd_clamp = 12
        c.app_send(bytes(10 * MSS))
        c.out.clear()
        c.run(50 * MSEC)
        c.inject("A")
        assert c.tp.snd_cwnd == 12
