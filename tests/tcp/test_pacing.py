"""Pacing: rates, and gaps exact in virtual time (Linux tcp_update_pacing_rate, tcp_pacing_check)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.tcp.block import control_block
from tests.tcp.peer import MSEC, SEC, Peer, established
from ustack.device.e1000 import E1000_FEATURES
from ustack.tcp.control import PACING_UNLIMITED, SK_PACING_NEEDED, SK_PACING_NONE
from ustack.tcp.pacing import tcp_pacing_check, tcp_update_pacing_rate, tcp_update_skb_after_send
from ustack.tcp.segment import TcpSkb

if TYPE_CHECKING:
    from ustack.tcp.sock import TcpSock

MSS = 1460


def connection(cwnd: int = 10, srtt: int = 100 * MSEC) -> TcpSock:
    tp = control_block()
    tp.net.now = 1000 * SEC
    tp.mss_cache = 1000
    tp.snd_cwnd = cwnd
    tp.srtt = srtt
    return tp


# -- the rate


def test_two_windows_a_round_trip_in_slow_start_and_one_and_a_fifth_after_it() -> None:
    tp = connection()
    tcp_update_pacing_rate(tp)
    assert tp.pacing_rate == 2 * 10_000 * 10
    tp.snd_ssthresh = 20  # half of it is not above the window: the end of slow start is near
    tcp_update_pacing_rate(tp)
    assert tp.pacing_rate == 120_000
    tp.snd_ssthresh = 22
    tcp_update_pacing_rate(tp)
    assert tp.pacing_rate == 200_000
    tp.net.sysctl.tcp_pacing_ss_ratio = 100
    tcp_update_pacing_rate(tp)
    assert tp.pacing_rate == 100_000


def test_what_is_in_flight_counts_while_the_window_comes_down() -> None:
    tp = connection()
    tp.snd_ssthresh = 5
    tp.packets_out = 30
    tcp_update_pacing_rate(tp)
    assert tp.pacing_rate == 360_000


def test_the_user_s_limit_and_extremes() -> None:
    tp = connection()
    tp.max_pacing_rate = 150_000
    tcp_update_pacing_rate(tp)
    assert tp.pacing_rate == 150_000
    tp = connection(srtt=0)
    tcp_update_pacing_rate(tp)
    assert tp.pacing_rate == 20_000 * 1_000_000  # no round trip known: as good as unlimited
    tp = connection(cwnd=0x7FFF_FFFF, srtt=1)
    tp.mss_cache = 65_495
    tcp_update_pacing_rate(tp)
    assert 1 << 50 < tp.pacing_rate < 1 << 62


# -- when the next burst may go


def sent(tp: TcpSock, length: int, prior: int) -> None:
    skb = TcpSkb(1, 0)
    skb.append(bytes(length), length)
    tcp_update_skb_after_send(tp, skb, prior)


def test_a_burst_lasts_as_long_as_its_bytes_take() -> None:
    tp = connection()
    tp.pacing_status = SK_PACING_NEEDED
    tp.pacing_rate = 1_000_000
    tp.data_segs_out = 10
    now = tp.net.now
    sent(tp, 10_000, now)
    assert tp.tcp_wstamp == now + 10 * MSEC
    assert tcp_pacing_check(tp)
    assert tp.pacing_timer is not None and tp.pacing_timer.expires == now + 10 * MSEC
    tp.net.now = now + 10 * MSEC
    assert not tcp_pacing_check(tp)


@pytest.mark.parametrize(("late", "credit"), [(0, 0), (3, 3), (5, 5), (50, 5)])
def test_a_burst_that_left_late_is_made_up_for_by_half_of_it_at_most(late: int, credit: int) -> None:
    tp = connection()
    tp.pacing_status = SK_PACING_NEEDED
    tp.pacing_rate = 1_000_000
    tp.data_segs_out = 10
    sent(tp, 10_000, tp.net.now - late * MSEC)
    assert tp.tcp_wstamp == tp.net.now + (10 - credit) * MSEC


def test_who_is_not_paced() -> None:
    """Nobody, unless it is needed; and not the first ten segments."""
    for status, rate, segs in (
        (SK_PACING_NONE, 1000, 100),
        (SK_PACING_NEEDED, PACING_UNLIMITED, 100),
        (SK_PACING_NEEDED, 0, 100),
        (SK_PACING_NEEDED, 1000, 9),
    ):
        tp = connection()
        tp.pacing_status, tp.pacing_rate, tp.data_segs_out = status, rate, segs
        sent(tp, 1000, tp.net.now)
        assert tp.tcp_wstamp == tp.net.now and not tcp_pacing_check(tp)


# -- on the wire


def paced(rate: int, features: int, cwnd: int = 40) -> Peer:
    """A connection with a round trip of 100 ms and SO_MAX_PACING_RATE."""
    c = established(features=features, wscale=8, window=4_000_000)
    c.inject("A", window=4_000_000)
    c.tp.sndbuf = 1 << 22
    c.tp.sndbuf_locked = True
    c.app_send(bytes(10 * MSS))
    c.run(100 * MSEC)
    c.inject("A")
    c.out.clear()
    c.tp.set_max_pacing_rate(rate)
    c.tp.snd_cwnd = cwnd
    c.tp.min_rtt = 100 * MSEC
    c.mark()
    return c


def test_gaps_are_exact() -> None:
    """146000 bytes a second: a burst of two segments (tcp_min_tso_segs) every 20 ms, to the nanosecond."""
    with paced(146_000, E1000_FEATURES) as c:
        c.app_send(bytes(20 * MSS))
        c.run(190 * MSEC)
        times = [s.time - c.zero for s in c.out]
        assert [len(s.data) for s in c.out] == [2 * MSS] * 10
        gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
        # the first one left long after it might have: half of its time is credited
        assert times[0] == 0 and gaps == [10 * MSEC] + [20 * MSEC] * 8
        c.out.clear()


def test_nothing_waits_without_need() -> None:
    """Reno's pacing rate sizes bursts, it does not pace."""
    with paced(PACING_UNLIMITED, E1000_FEATURES) as c:
        assert c.tp.pacing_status == SK_PACING_NONE
        c.app_send(bytes(20 * MSS))
        assert sum(len(s.data) for s in c.out) == 20 * MSS
        c.out.clear()


def test_a_closed_connection_leaves_no_pacing_timer() -> None:
    with paced(14_600, E1000_FEATURES) as c:
        c.app_send(bytes(20 * MSS))
        c.out.clear()
        timer = c.tp.pacing_timer
        assert timer is not None and timer.pending
        c.inject("R")
        assert not timer.pending


def test_a_fin_follows_the_paced_data() -> None:
    with paced(146_000, E1000_FEATURES) as c:
        c.app_send(bytes(4 * MSS))
        c.app_close()
        c.run(40 * MSEC)
        assert c.out[-1].flags & 1
        assert sum(len(s.data) for s in c.out) == 4 * MSS
        c.out.clear()


def test_a_device_that_paces_paces_everybody() -> None:
    """As sch_fq does: whatever the algorithm and the user say."""
    c = Peer()
    c.dev.paced = True
    with established(peer=c):
        assert c.tp.pacing_status == SK_PACING_NEEDED and c.tp.congestion.name == "reno"


def test_a_window_probe_is_no_way_around_pacing() -> None:
    """With nothing in flight the probe timer runs; tcp_reset_xmit_timer adds tcp_pacing_delay to it."""
    with established() as c:
        c.tp.pacing_status = SK_PACING_NEEDED
        c.tp.tcp_wstamp = c.net.now + SEC
        c.app_send(b"x" * 100)
        c.silent(until=SEC - 1)
        c.expect("PA", seq=1, data=b"x" * 100, at=SEC)
        assert "TcpExt.TCPWinProbe" not in c.moved()
        c.inject("A")


def test_who_calls_paces_by_segments_as_they_were_offered() -> None:
    """tcp_rcv_synsent_state_process: tcp_ack sets the rate before tcp_header_len says that there are no timestamps."""
    with Peer(mss=88) as c:
        c.app_connect()
        c.expect("S", seq=0)
        c.run(5 * MSEC)
        c.inject("SA", options=c.syn_options())
        c.expect("A", seq=1, ack=1)
        assert c.tp.mss_cache == 88
        assert c.tp.pacing_rate == 2 * 10 * (88 - 12) * 200
