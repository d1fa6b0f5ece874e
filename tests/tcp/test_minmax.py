"""The windowed minimum and maximum, against a list of all that was measured."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tcp.flight import RTT, ack, connected, numbers
from tests.tcp.peer import MSEC, SEC
from ustack.tcp.control import RTT_UNKNOWN
from ustack.tcp.minmax import MinMax


def test_a_new_least_is_taken_at_once() -> None:
    m = MinMax()
    m.reset(0, 100)
    assert [m.running_min(1000, t, v) for t, v in ((1, 120), (2, 90), (3, 95))] == [100, 90, 90]


def test_what_is_older_than_the_window_is_forgotten() -> None:
    m = MinMax()
    m.reset(0, 10)
    for t in range(100, 1001, 100):
        assert m.running_min(1000, t, 50) == 10
    assert m.running_min(1000, 1001, 50) == 50


def test_after_a_silence_longer_than_the_window_only_the_new_counts() -> None:
    m = MinMax()
    m.reset(0, 10)
    assert m.running_min(1000, 5000, 70) == 70
    assert m.running_max(1000, 9000, 3) == 3


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 1000)), min_size=1, max_size=60))
def test_never_below_the_least_of_the_window_nor_above_the_newest(steps: list[tuple[int, int]]) -> None:
    """Kathleen Nichols' filter is exact for the least itself and may be late by part of the window with its heir."""
    least, most = MinMax(), MinMax()
    now = 0
    seen: list[tuple[int, int]] = []
    for index, (pause, value) in enumerate(steps):
        now += pause
        seen.append((now, value))
        low = least.reset(now, value) if index == 0 else least.running_min(1000, now, value)
        high = most.reset(now, value) if index == 0 else most.running_max(1000, now, value)
        window = [v for t, v in seen if now - t <= 1000]
        assert min(window) <= low <= value or low in window
        assert max(window) >= high >= value
        assert low <= value and low >= min(window)


def test_min_rtt_follows_the_path_and_forgets_after_tcp_min_rtt_wlen() -> None:
    with connected() as c:
        assert c.tp.min_rtt == RTT
        c.net.sysctl.tcp_min_rtt_wlen = 10
        for rtt in (50, 80):
            c.app_send(bytes(2000))
            numbers(c)
            c.run(rtt * MSEC)
            ack(c, (int(c.tp.snd_nxt) - int(c.tp.iss)) // 1000)
            assert c.tp.min_rtt == 50 * MSEC
        c.run(11 * SEC)
        c.app_send(bytes(2000))
        numbers(c)
        c.run(70 * MSEC)
        ack(c, (int(c.tp.snd_nxt) - int(c.tp.iss)) // 1000)
        assert c.tp.min_rtt == 70 * MSEC


def test_a_delayed_ack_of_a_lone_runt_raises_no_minimum() -> None:
    """tcp_update_rtt_min: it says how long the peer waited, not how long the path is."""
    with connected() as c:
        c.net.sysctl.tcp_min_rtt_wlen = 1
        c.run(5 * SEC)
        c.app_send(b"x")
        c.out.clear()
        c.run(140 * MSEC)
        c.inject("A")
        assert c.tp.min_rtt == RTT != RTT_UNKNOWN
