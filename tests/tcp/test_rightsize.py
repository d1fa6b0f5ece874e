"""Dynamic right-sizing: the receiver's own round trip, and the buffer that follows it (Linux tcp_rcv_space_adjust)."""

from __future__ import annotations

import pytest

from tests.tcp.block import control_block
from tests.tcp.peer import MSEC, Peer, established
from ustack.inet.options import SO_RCVBUF, SOL_SOCKET
from ustack.tcp.ofo import OfoQueue, RcvSegment
from ustack.tcp.rightsize import tcp_rcv_rtt_update, tcp_rcv_space_adjust, tcp_rcvbuf_grow

MSS = 1460


def test_the_round_trip_is_the_time_a_window_takes() -> None:
    """tcp_rcv_rtt_measure: without timestamps the smallest counts."""
    with established(wscale=7) as c:
        c.inject("A", bytes(MSS))
        assert (int(c.tp.rcv_rtt_seq) - int(c.tp.rcv_nxt)) & 0xFFFF_FFFF == 44 * MSS
        while c.tp.rcv_rtt == 0:
            c.run(MSEC)
            c.inject("A", bytes(MSS))
            c.app_recv()
            c.out.clear()
        assert c.tp.rcv_rtt == 44 * MSEC


def test_an_echoed_timestamp_says_it_sooner() -> None:
    """tcp_rcv_rtt_measure_ts: a full segment with a new echo; milliseconds."""
    with established(timestamps=True) as c:
        c.app_send(b"?")
        c.next_segment()
        c.run(7 * MSEC)
        c.inject("A", bytes(1448))
        assert c.tp.rcv_rtt == 7 * MSEC
        c.out.clear()


def test_samples_are_averaged_only_where_nothing_waits_to_be_read() -> None:
    tp = control_block()
    tcp_rcv_rtt_update(tp, 80 * MSEC, False)
    assert tp.rcv_rtt == 80 * MSEC
    tcp_rcv_rtt_update(tp, 160 * MSEC, False)
    assert tp.rcv_rtt == 90 * MSEC
    tcp_rcv_rtt_update(tp, 160 * MSEC, True)
    assert tp.rcv_rtt == 90 * MSEC
    tp.rcv_nxt = 1
    tcp_rcv_rtt_update(tp, 160 * MSEC, False)
    assert tp.rcv_rtt == 90 * MSEC
    tcp_rcv_rtt_update(tp, 10 * MSEC, True)
    assert tp.rcv_rtt == 10 * MSEC


def test_once_a_round_trip_and_for_more_than_before() -> None:
    tp = control_block()
    tp.rcv_rtt = 10 * MSEC
    tp.rcvq_space = 14_600
    tp.rcvbuf = 20_000
    tp.copied_seq = tp.rcv_nxt = 29_200
    tp.net.now = 9 * MSEC
    tcp_rcv_space_adjust(tp)
    assert tp.rcvq_space == 14_600
    tp.net.now = 10 * MSEC
    tcp_rcv_space_adjust(tp)
    assert (tp.rcvq_space, tp.rcvq_time, tp.rcvq_seq) == (29_200, 10 * MSEC, 29_200)
    # twice that, and twice again what a doubled rate adds; half of what segments cost is text
    assert tp.rcvbuf == 2 * (58_400 + 2 * 58_400)


def test_what_waits_beyond_a_hole_needs_room_too() -> None:
    tp = control_block()
    tp.rcvbuf = 1000
    tp.rcvq_space = 10_000
    tcp_rcvbuf_grow(tp, 10_000)
    assert tp.rcvbuf == 40_000
    tp.ofo = OfoQueue()
    tp.ofo.insert(RcvSegment(50_000, 51_000, bytes(1000), False, 1256), 0)
    tcp_rcvbuf_grow(tp, 10_000)
    assert tp.rcvbuf == 2 * (20_000 + 51_000)


@pytest.mark.parametrize("locked", [False, True])
def test_the_buffer_stays_where_it_is_set_or_tcp_moderate_rcvbuf_is_off(locked: bool) -> None:
    c = Peer(wscale=7)
    if locked:
        c.app_setsockopt(SOL_SOCKET, SO_RCVBUF, 65_536)
    else:
        c.net.sysctl.tcp_moderate_rcvbuf = 0
    with established(peer=c):
        size = c.tp.rcvbuf
        for _ in range(50):
            c.run(MSEC)
            for _ in range(20):
                c.inject("A", bytes(MSS))
            c.app_recv()
        c.out.clear()
        assert c.tp.rcvbuf == size


def test_a_slow_reader_does_not_make_the_buffer_grow() -> None:
    """What is read counts, less what still waits."""
    with established(wscale=7) as c:
        size = c.tp.rcvbuf
        for _ in range(40):
            c.run(MSEC)
            c.inject("A", bytes(MSS))
            c.app_recv(100)
        c.out.clear()
        assert c.tp.rcvbuf == size
