"""When an ACK goes: at once, with the batch, with data, or after a delay (RFC 9293 section 3.8.6.3, RFC 5681 4.2)."""

from __future__ import annotations

import pytest

from tests.tcp.peer import MSEC, SEC, Peer, established
from ustack.inet.options import SO_RCVBUF, SOL_SOCKET
from ustack.sock import MSG_PEEK
from ustack.tcp.delack import tcp_delack_max
from ustack.tcp.options import IPPROTO_TCP, TCP_NODELAY, TCP_QUICKACK

MSS = 1460


def slow(c: Peer) -> Peer:
    """Past the quick ACKs of the beginning: the stack delays."""
    c.app_setsockopt(IPPROTO_TCP, TCP_QUICKACK, 0)
    return c


def stuck() -> Peer:
    """Text waits for its reader, and the right edge of the window stays where it is."""
    c = Peer()
    c.app_setsockopt(SOL_SOCKET, SO_RCVBUF, 20_000)
    slow(established(peer=c))
    while not c.out:
        c.inject("A", data(MSS))
    c.out.clear()
    c.tp.rcv_ssthresh = 8 * MSS  # less than has been promised
    return c


def data(length: int) -> bytes:
    return bytes(length)


def test_the_first_segments_are_acknowledged_at_once() -> None:
    """The sender is in slow start and lives by our ACKs (TCP_MAX_QUICKACKS): sixteen, then every second one."""
    with established(mss=536) as c:
        for number in range(1, 17):
            c.inject("A", data(536))
            c.expect("A", seq=1, ack=1 + number * 536)
        c.mark()
        c.inject("A", data(536))
        c.silent(until=39 * MSEC)
        c.inject("A", data(536))
        c.expect("A", seq=1, ack=1 + 18 * 536)
        c.silent(until=SEC)
        c.counted(TCPHPHits=2)


def test_a_lone_segment_waits_forty_milliseconds() -> None:
    """RFC 9293 MUST-40: "the delay MUST be less than 0.5 seconds"; Linux's ATO begins at TCP_ATO_MIN, 40 ms."""
    with slow(established()) as c:
        c.inject("A", data(100))
        c.silent(until=40 * MSEC - 1)
        c.expect("A", seq=1, ack=101, at=40 * MSEC)
        c.silent(until=10 * SEC)
        c.counted(TCPHPHits=1, DelayedACKs=1)


@pytest.mark.parametrize("size", [MSS, 536, 200])
def test_every_second_full_segment_is_acknowledged(size: int) -> None:
    """RFC 9293 SHLD-19, RFC 5681 4.2: "an ACK SHOULD be generated for at least every second full-sized segment"; the
    peer's full size is learned, a small one from two alike."""
    with slow(established(mss=size)) as c:
        c.inject("A", data(size))
        c.inject("A", data(size))
        c.run(SEC)
        c.out.clear()
        slow(c)
        c.mark()
        sent = int(c.nxt)
        for _ in range(10):
            c.inject("A", data(size))
            c.silent()
            c.inject("A", data(size))
            sent += 2 * size
            c.expect("A", seq=1, ack=sent)
            c.app_recv()
        c.silent(until=SEC)
        c.counted(TCPHPHits=20, TCPRcvCoalesce=11 if size == 200 else 0)


def test_segments_of_one_batch_share_one_ack() -> None:
    """Like a kernel behind GRO: what came together is answered together."""
    with established() as c:
        with c.batch():
            for _ in range(20):
                c.inject("A", data(MSS))
        c.expect("A", seq=1, ack=1 + 20 * MSS)
        c.silent(until=SEC)
        c.counted(TCPHPHits=20)


def test_duplicate_acks_are_not_batched() -> None:
    """RFC 5681 4.2: one for every segment out of order; the sender counts them."""
    with established() as c:
        with c.batch():
            for number in (1, 2, 3):
                c.inject("A", data(MSS), seq=1 + number * MSS)
        for _ in range(3):
            c.expect("A", seq=1, ack=1)
        c.silent(until=SEC)
        c.counted(TCPOFOQueue=3)


def test_an_ack_rides_on_data_that_goes_anyway() -> None:
    with slow(established()) as c:
        c.inject("PA", b"request")
        c.app_recv()
        assert c.app_send(b"answer") == 6
        c.expect("PA", seq=1, ack=8, data=b"answer")
        c.silent(until=100 * MSEC)
        c.counted(TCPHPHits=1, TCPOrigDataSent=1)
        c.inject("A", ack=7)


def test_an_interactive_connection_waits_for_its_answer() -> None:
    """Ping-pong: data that answered data makes the stack expect to answer the next as well."""
    with established() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        c.inject("PA", b"1")
        c.expect("A", ack=2)
        c.app_recv()
        c.app_send(b"1")
        c.expect("PA", ack=2, data=b"1")
        c.mark()
        c.inject("PA", b"2", ack=2)
        c.app_recv()
        c.silent(until=39 * MSEC)
        c.app_send(b"2")
        c.expect("PA", ack=3, data=b"2")
        c.silent(until=100 * MSEC)
        c.inject("A", ack=3)
        c.inject("PA", b"3", ack=3)
        c.mark()
        c.expect("A", seq=3, ack=4, at=40 * MSEC)  # no answer this time: no longer interactive
        assert not c.tp.in_pingpong_mode()


def test_a_read_that_takes_the_end_of_a_write_is_acknowledged() -> None:
    """tcp_cleanup_rbuf: PSH, the buffer empty, nobody expected to answer: the ACK need not wait."""
    with established() as c:
        for number in range(16):
            c.inject("PA", data(100))
            c.expect("A", ack=101 + number * 100)
        c.app_recv()
        c.out.clear()
        c.mark()
        c.inject("PA", b"x" * 100)
        c.silent()
        assert c.app_recv() == b"x" * 100
        c.expect("A", seq=1, ack=1701)
        c.silent(until=SEC)
        c.counted(TCPHPHits=1)


def test_quickack_can_be_asked_for_and_refused() -> None:
    with established() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_QUICKACK, 0)
        c.inject("A", data(10))
        c.silent(until=20 * MSEC)
        c.app_recv()
        c.silent()
        c.app_setsockopt(IPPROTO_TCP, TCP_QUICKACK, 1)
        c.expect("A", seq=1, ack=11)
        c.inject("A", data(10))
        c.expect("A", seq=1, ack=21)
        c.silent(until=SEC)


def test_the_delay_grows_with_the_gaps_between_segments_and_has_a_limit() -> None:
    """RFC 9293 MUST-40; TCP_DELACK_MAX: 200 ms however far apart they come."""
    with slow(established()) as c:
        delays = []
        for _ in range(8):
            slow(c)
            c.mark()
            c.inject("A", data(10))
            s = c.next_segment(at=SEC)
            delays.append(s.time - c.zero)
        assert all(0 < delay <= 200 * MSEC for delay in delays)
        assert delays[0] == 40 * MSEC


def test_a_closed_connection_owes_no_ack() -> None:
    """CVE-2022-1678: no timer outlives its connection."""
    with slow(established()) as c:
        c.inject("A", data(10))
        c.inject("R")
        c.silent(until=10 * SEC)
        assert c.timers_pending() == 0


def test_the_window_is_acknowledged_when_a_batch_is_read_while_it_is_received() -> None:
    """An observer that reads inside the batch causes no second ACK."""
    with established() as c:
        with c.batch():
            c.inject("A", data(MSS))
            c.inject("A", data(MSS))
        c.expect("A", seq=1, ack=1 + 2 * MSS)
        c.app_recv()
        c.silent(until=SEC)


def test_a_window_that_cannot_follow_leaves_the_ack_to_the_reader() -> None:
    """__tcp_ack_snd_check: more than a full segment is acknowledged at once only if the right edge advances; else
    tcp_cleanup_rbuf says it, when the user has made room."""
    with stuck() as c:
        c.mark()
        c.inject("A", data(MSS))
        c.inject("A", data(MSS))
        c.silent()
        assert len(c.app_recv()) > 0
        c.expect("A", seq=1)


def test_a_reader_who_only_looks_has_the_ack_sent_too() -> None:
    """tcp_recvmsg ends with tcp_cleanup_rbuf, with MSG_PEEK too."""
    with stuck() as c:
        c.inject("A", data(MSS))
        c.inject("A", data(MSS))
        c.silent()
        assert len(c.app_recv(1, MSG_PEEK)) == 1
        c.expect("A", seq=1)


def test_a_reader_who_waits_for_more_is_not_waited_for() -> None:
    """SO_RCVLOWAT: he will not read before there is more, so the window need not advance for an ACK."""
    c = Peer()
    c.app_setsockopt(SOL_SOCKET, SO_RCVBUF, 20_000)
    with established(peer=c):
        slow(c)
        c.tp.rcvlowat = 9000
        c.events.seen.clear()
        c.inject("A", data(MSS))
        c.out.clear()
        slow(c)
        for number in range(2, 6, 2):
            c.inject("A", data(MSS))
            c.inject("A", data(MSS))
            c.expect("A", seq=1)
            assert "data" not in c.events.seen, number
        c.inject("A", data(MSS))
        c.inject("A", data(MSS))
        c.out.clear()
        assert c.events.seen == ["data"]
        assert len(c.app_recv()) == 7 * MSS


def test_a_reader_is_woken_for_less_than_he_asked_for_when_no_more_can_come() -> None:
    """tcp_epollin_ready: the buffer is nearly full, or the window closed."""
    c = Peer()
    c.app_setsockopt(SOL_SOCKET, SO_RCVBUF, 4000)
    with established(peer=c):
        c.tp.rcvlowat = 6000
        c.events.seen.clear()
        at = 1
        while not c.events.seen:
            c.inject("A", data(500), seq=at)
            at += 500
            assert at < 8000
        assert at - 1 < 6000
        c.out.clear()
        c.app_recv()
        c.out.clear()


@pytest.mark.parametrize("thresh", [1, 3])
def test_so_many_answers_make_a_connection_interactive(thresh: int) -> None:
    """tcp_pingpong_thresh."""
    with established() as c:
        c.net.sysctl.tcp_pingpong_thresh = thresh
        c.app_setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        for number in range(1, thresh + 1):
            assert not c.tp.in_pingpong_mode()
            c.inject("PA", b"?")
            c.app_recv()
            c.app_send(b"!")
            c.out.clear()
            c.inject("A", ack=1 + number)
        assert c.tp.in_pingpong_mode()


def test_one_that_is_due_with_the_next_tick_goes_at_once_if_another_segment_comes() -> None:
    """Before any text there is no ATO: the timer was to go off at once (tcp_send_delayed_ack)."""
    with established() as c:
        c.inject("FA")
        c.silent()
        c.inject("A")
        c.expect("A", ack=2)
        c.silent(until=SEC)


def test_the_delay_is_shorter_than_the_peers_rto_can_be() -> None:
    """tcp_delack_max: a route's or a socket's smaller minimum makes it shorter."""
    with slow(established()) as c:
        assert tcp_delack_max(c.tp) == 199 * MSEC
        c.tp.delack_max_ns = 20 * MSEC
        assert tcp_delack_max(c.tp) == 20 * MSEC
        c.inject("A", data(100))
        c.expect("A", ack=101, at=20 * MSEC)


def test_a_segment_that_fills_a_gap_in_part_is_answered_at_once() -> None:
    """RFC 5681 4.2: "fills in all or part of a gap"."""
    with slow(established(sack=True)) as c:
        c.inject("A", data(100), seq=201)
        c.expect("A", ack=1)
        c.inject("A", data(100), seq=401)
        c.expect("A", ack=1)
        c.inject("A", data(100), seq=1)
        c.expect("A", ack=101)
        c.inject("A", data(100), seq=101)
        c.expect("A", ack=301)
        c.inject("A", data(100), seq=301)
        c.expect("A", ack=501)


def test_segments_beyond_a_hole_tell_of_the_peers_segment_size_too() -> None:
    """tcp_data_queue_ofo calls tcp_measure_rcv_mss: when the hole is filled the ACKs are right from the start."""
    with established() as c:
        assert c.tp.rcv_mss == 536
        c.inject("A", bytes(1200), seq=1201)
        c.out.clear()
        assert c.tp.rcv_mss == 1200
