"""What a reader asks and is told: targets, how much there is, the end (Linux tcp_recvmsg, tcp_ioctl, TCP_CM_INQ)."""

from __future__ import annotations

import errno

from tests.tcp.peer import established
from ustack.sock import MSG_PEEK, MSG_TRUNC, MSG_WAITALL, SIOCINQ
from ustack.tcp.receive import recv_target, tcp_inq, tcp_inq_hint, tcp_stream_is_readable


def test_how_much_a_read_that_may_wait_waits_for() -> None:
    """sock_rcvlowat: MSG_WAITALL for everything, SO_RCVLOWAT for so much, else for a byte."""
    with established() as c:
        assert recv_target(c.tp, 1000, 0) == 1
        assert recv_target(c.tp, 1000, MSG_WAITALL) == 1000
        c.tp.rcvlowat = 300
        assert recv_target(c.tp, 1000, 0) == 300
        assert recv_target(c.tp, 100, 0) == 100


def test_what_is_there_is_given_to_who_does_not_wait() -> None:
    with established() as c:
        c.tp.rcvlowat = 100
        c.inject("A", b"abc")
        c.out.clear()
        assert c.app_recv(1000, MSG_WAITALL) == b"abc"
        assert c.app_fails(lambda: c.sock.recv(1, MSG_WAITALL)) == errno.EAGAIN


def test_how_much_there_is() -> None:
    """SIOCINQ: without the FIN; TCP_CM_INQ: with it, so that the user reads on."""
    with established() as c:
        assert tcp_inq(c.tp) == tcp_inq_hint(c.tp) == 0
        c.inject("A", bytes(1000))
        assert tcp_inq(c.tp) == tcp_inq_hint(c.tp) == c.sock.ioctl(SIOCINQ) == 1000
        c.app_recv(400)
        assert tcp_inq(c.tp) == 600
        c.inject("FA")
        c.out.clear()
        assert (tcp_inq(c.tp), tcp_inq_hint(c.tp)) == (600, 601)
        c.app_recv()
        assert (tcp_inq(c.tp), tcp_inq_hint(c.tp)) == (0, 1)
        assert c.app_recv() == b""


def test_readable_from_so_many_bytes_on() -> None:
    """tcp_stream_is_readable."""
    with established() as c:
        c.inject("A", bytes(100))
        c.out.clear()
        assert tcp_stream_is_readable(c.tp, 100)
        assert not tcp_stream_is_readable(c.tp, 101)
        c.app_recv()
        assert not tcp_stream_is_readable(c.tp, 1)


def test_peeking_across_pieces_and_with_trunc() -> None:
    """MSG_PEEK | MSG_TRUNC: only how many there are."""
    with established() as c:
        for at in range(4):
            c.inject("A", bytes([65 + at]) * 700)
        c.out.clear()
        assert c.app_recv(1000, MSG_PEEK) == b"A" * 700 + b"B" * 300
        c.app_recv(650)
        assert c.app_recv(100, MSG_PEEK) == b"A" * 50 + b"B" * 50
        assert len(c.app_recv(5000, MSG_PEEK | MSG_TRUNC)) == 2150
        assert len(c.app_recv(5000, MSG_TRUNC)) == 2150
        c.out.clear()


def test_what_came_before_a_reset_can_still_be_read_and_then_the_error() -> None:
    with established() as c:
        c.inject("A", b"last words")
        c.out.clear()
        c.inject("R")
        assert c.app_recv() == b"last words"
        assert c.app_fails(lambda: c.sock.recv(1)) == errno.ECONNRESET
        assert c.app_recv() == b""


def test_after_a_shutdown_of_our_own_what_comes_is_still_read() -> None:
    """Linux queues it and gives it (shutdown(SHUT_RD) only ends waiting)."""
    with established() as c:
        c.app_shutdown(0)
        assert c.app_recv() == b""
        c.inject("A", b"abc")
        c.expect("A", ack=4)
        assert c.app_recv() == b"abc"
        assert c.app_recv() == b""


def test_what_came_in_is_counted() -> None:
    """struct tcp_info: segs_in, data_segs_in (of the wire), bytes_received; SYN and handshake's ACK are the first."""
    with established() as c:
        assert (c.tp.segs_in, c.tp.data_segs_in, c.tp.bytes_received) == (2, 0, 0)
        c.inject("A", bytes(1000))
        c.inject("A", bytes(100), seq=501)
        c.inject("A", bytes(500), seq=3001)
        c.inject("A")
        c.out.clear()
        assert (c.tp.segs_in, c.tp.data_segs_in, c.tp.bytes_received) == (6, 3, 1000)
        c.inject("A", bytes(2000 - 540), seq=1001)
        c.inject("A", bytes(540), seq=2461)
        c.inject("FA", seq=3501)
        c.out.clear()
        assert c.tp.bytes_received == 3501  # Linux counts the FIN
        assert c.tp.rcv_ooopack == 1


def test_who_waits_for_more_is_told_when_a_hole_is_filled() -> None:
    """SO_RCVLOWAT: what lay beyond the hole counts too (tcp_data_queue tells the reader last)."""
    with established() as c:
        c.tp.rcvlowat = 300
        c.inject("A", bytes(200), seq=101)
        c.out.clear()
        c.events.seen.clear()
        c.inject("A", bytes(100), seq=1)
        c.out.clear()
        assert c.events.seen == ["data"]
        assert len(c.app_recv()) == 300
        c.out.clear()
