"""RFC 6298 on a bare control block."""

from __future__ import annotations

import pytest

from tests.tcp.block import control_block
from ustack.tcp.control import TCP_RTO_MAX, TCP_RTO_MIN
from ustack.tcp.rtt import inet_csk_rto_backoff, tcp_rtt_estimator, tcp_set_rto
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC


def test_before_any_sample_the_rto_is_one_second() -> None:
    """RFC 6298 (2.1)."""
    assert control_block().rto == NSEC_PER_SEC


def test_the_first_sample_sets_srtt_and_half_of_it_as_variance() -> None:
    """RFC 6298 (2.2): "SRTT <- R, RTTVAR <- R/2, RTO <- SRTT + max (G, K*RTTVAR)"."""
    tp = control_block()
    tcp_rtt_estimator(tp, 400 * NSEC_PER_MSEC)
    tcp_set_rto(tp)
    assert tp.srtt == 400 * NSEC_PER_MSEC
    assert tp.rto == 1200 * NSEC_PER_MSEC


def test_a_steady_rtt_brings_the_rto_down_to_srtt_plus_the_minimum() -> None:
    """Linux: the variance never contributes less than tcp_rto_min, 200 ms."""
    tp = control_block()
    for sample in range(200):
        tp.snd_una = sample
        tp.snd_nxt = sample + 1
        tcp_rtt_estimator(tp, 50 * NSEC_PER_MSEC)
        tcp_set_rto(tp)
    assert tp.srtt == pytest.approx(50 * NSEC_PER_MSEC, rel=0.01)
    assert tp.rto == pytest.approx(tp.srtt + TCP_RTO_MIN, rel=0.02)


def test_a_rising_rtt_raises_the_rto_within_a_few_samples() -> None:
    tp = control_block()
    tcp_rtt_estimator(tp, 10 * NSEC_PER_MSEC)
    for _ in range(5):
        tcp_rtt_estimator(tp, 900 * NSEC_PER_MSEC)
    tcp_set_rto(tp)
    assert tp.rto > 900 * NSEC_PER_MSEC


def test_backoff_doubles_up_to_the_maximum() -> None:
    """RFC 6298 (5.5) and Linux TCP_RTO_MAX."""
    tp = control_block()
    waits = []
    for shift in range(12):
        tp.backoff = shift
        waits.append(inet_csk_rto_backoff(tp))
    assert waits[:7] == [NSEC_PER_SEC << n for n in range(7)]
    assert set(waits[7:]) == {TCP_RTO_MAX}
