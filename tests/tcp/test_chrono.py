"""What held the sender back (tcpi_busy_time, tcpi_rwnd_limited, tcpi_sndbuf_limited; Linux tcp_chrono_start)."""

from __future__ import annotations

from tests.tcp.block import control_block
from tests.tcp.peer import MSEC, established
from ustack.tcp.chrono import tcp_chrono_start, tcp_chrono_stop, tcp_get_info_chrono_stats
from ustack.tcp.control import (
    TCP_CHRONO_BUSY,
    TCP_CHRONO_RWND_LIMITED,
    TCP_CHRONO_SNDBUF_LIMITED,
    TCP_CHRONO_UNSPEC,
)
from ustack.tcp.segment import TcpSkb


def test_one_stopwatch_that_charges_what_is_most_interesting() -> None:
    tp = control_block()
    tp.writes().append(TcpSkb(1, 0))
    tp.net.now = 1000
    tcp_chrono_start(tp, TCP_CHRONO_BUSY)
    tp.net.now = 1010
    tcp_chrono_start(tp, TCP_CHRONO_SNDBUF_LIMITED)
    tp.net.now = 1030
    tcp_chrono_start(tp, TCP_CHRONO_RWND_LIMITED)  # less so: not charged
    assert tp.chrono_type == TCP_CHRONO_SNDBUF_LIMITED
    tcp_chrono_stop(tp, TCP_CHRONO_RWND_LIMITED)
    assert tp.chrono_type == TCP_CHRONO_SNDBUF_LIMITED
    tcp_chrono_stop(tp, TCP_CHRONO_SNDBUF_LIMITED)
    tp.net.now = 1035
    tcp_chrono_start(tp, TCP_CHRONO_RWND_LIMITED)
    tp.net.now = 1042
    # running: busy is the sum of all
    assert tcp_get_info_chrono_stats(tp) == (42, 7, 20)
    tp.writes().clear()
    tcp_chrono_stop(tp, TCP_CHRONO_BUSY)
    assert tp.chrono_type == TCP_CHRONO_UNSPEC
    tp.net.now = 5000
    assert tcp_get_info_chrono_stats(tp) == (42, 7, 20)


def test_busy_from_the_first_byte_to_its_ack() -> None:
    with established() as c:
        c.run(100 * MSEC)
        assert tcp_get_info_chrono_stats(c.tp) == (0, 0, 0)
        c.app_send(b"abc")
        c.expect("PA", seq=1, data=b"abc")
        c.run(30 * MSEC)
        c.inject("A")
        c.run(100 * MSEC)
        assert tcp_get_info_chrono_stats(c.tp) == (30 * MSEC, 0, 0)


def test_the_peer_s_window_limits() -> None:
    with established(window=2920) as c:
        c.inject("A", window=2920)
        c.app_send(bytes(4 * 1460))
        for _ in range(2):
            assert sum(len(s.data) for s in c.out) == 2920
            c.out.clear()
            c.run(20 * MSEC)
            c.inject("A")
        assert tcp_get_info_chrono_stats(c.tp) == (40 * MSEC, 20 * MSEC, 0)


def test_the_send_buffer_limits() -> None:
    """All that fits is sent, cwnd would take more, and the application waits for room."""
    with established() as c:
        c.tp.sndbuf_locked = True
        c.tp.sndbuf = 4608
        taken = c.sock.send(bytes(100_000))
        assert 10 * 1460 < taken < 100_000
        c.poll()
        assert sum(len(s.data) for s in c.out) == 10 * 1460
        c.run(20 * MSEC)
        c.tp.snd_cwnd, c.tp.snd_ssthresh = 100, 5
        c.inject("A")
        assert sum(len(s.data) for s in c.out) == taken
        c.out.clear()
        assert tcp_get_info_chrono_stats(c.tp) == (20 * MSEC, 0, 0)
        c.run(50 * MSEC)
        assert tcp_get_info_chrono_stats(c.tp) == (70 * MSEC, 0, 50 * MSEC)
        c.inject("A")
        c.run(50 * MSEC)
        assert tcp_get_info_chrono_stats(c.tp) == (70 * MSEC, 0, 50 * MSEC)
