"""ACK compression: many segments beyond a hole, few answers (Linux tcp_comp_sack_delay_ns, _nr; TCPAckCompressed)."""

from __future__ import annotations

from tests.tcp.peer import MSEC, SEC, USEC, Peer, established
from ustack.tcp.compress import compression_delay

MSS = 1000


def beyond(c: Peer, number: int) -> None:
    c.inject("A", bytes(MSS), seq=1 + number * MSS)


def started(c: Peer, rtt: int = 10 * MSEC) -> Peer:
    """Past the quick ACKs of the beginning, with a measured round trip."""
    c.inject("A", bytes(MSS), seq=1)
    c.run(SEC)
    c.out.clear()
    c.tp.ack_quick = 0
    c.tp.rcv_rtt = rtt
    c.tp.srtt = 0
    c.mark()
    return c


def test_the_first_three_duplicate_acks_go_at_once_and_the_rest_wait_together() -> None:
    """TCP_FASTRETRANS_THRESH: fast retransmit needs three; a twentieth of the round trip later one for the others."""
    with started(established(sack=True)) as c:
        for number in range(2, 5):
            c.tp.ack_quick = 0
            beyond(c, number)
            c.expect("A", seq=1, ack=1001)
        for number in range(5, 10):
            c.tp.ack_quick = 0
            beyond(c, number)
            c.silent()
        s = c.expect("A", seq=1, ack=1001, at=500 * USEC)
        assert [(end - c.iss) & 0xFFFF_FFFF for _, end in s.sacks] == [10_001]
        c.silent(until=SEC)
        c.counted(TCPOFOQueue=8, TCPAckCompressed=4)


def test_the_delay_has_a_limit_and_follows_the_smaller_round_trip() -> None:
    with started(established(sack=True), SEC) as c:
        assert compression_delay(c.tp) == c.net.sysctl.tcp_comp_sack_delay_ns == MSEC
        c.tp.rcv_rtt = 10 * MSEC
        c.tp.srtt = 4 * MSEC
        assert compression_delay(c.tp) == 200 * USEC


def test_no_more_than_so_many_are_held_back() -> None:
    """tcp_comp_sack_nr: 44 of them, then one goes."""
    with started(established(sack=True)) as c:
        c.net.sysctl.tcp_comp_sack_nr = 4
        for number in range(2, 5):
            c.tp.ack_quick = 0
            beyond(c, number)
            c.expect("A")
        for number in range(5, 9):
            c.tp.ack_quick = 0
            beyond(c, number)
        c.silent()
        c.tp.ack_quick = 0
        beyond(c, 9)
        c.expect("A", seq=1, ack=1001)
        c.silent(until=SEC)
        c.counted(TCPOFOQueue=8, TCPAckCompressed=4)


def test_without_sack_every_one_is_answered() -> None:
    """RFC 5681 4.2: a sender without SACK counts duplicate ACKs."""
    with started(established()) as c:
        for number in range(2, 12):
            c.tp.ack_quick = 0
            beyond(c, number)
            c.expect("A", seq=1, ack=1001)
        c.silent(until=SEC)
        c.counted(TCPOFOQueue=10)


def test_a_block_that_may_not_be_repeated_ends_the_wait() -> None:
    """tcp_sack_new_ofo_skb: a third block pushes the first out of what a next ACK repeats: it goes first."""
    with started(established(sack=True)) as c:
        for number in (2, 4, 4):
            c.tp.ack_quick = 0
            beyond(c, number)
        c.out.clear()
        c.tp.ack_quick = 0
        beyond(c, 5)
        c.silent()
        assert c.tp.compressed_ack == 1
        beyond(c, 8)
        c.expect("A", seq=1, ack=1001)
        assert c.tp.compressed_ack <= 1
        c.out.clear()
        c.run(SEC)
        c.out.clear()


def test_data_that_goes_takes_the_ack_along() -> None:
    """tcp_event_ack_sent: all that were held back are saved."""
    with started(established(sack=True)) as c:
        for number in range(2, 8):
            c.tp.ack_quick = 0
            beyond(c, number)
        c.out.clear()
        assert c.tp.compressed_ack == 3
        c.app_send(b"x")
        c.expect("PA", seq=1, data=b"x")
        c.silent(until=10 * MSEC)
        assert c.moved()["TcpExt.TCPAckCompressed"] == 3
        c.inject("A", ack=2, seq=1001)


def test_a_closed_connection_holds_nothing_back() -> None:
    """CVE-2022-1678: no timer outlives its connection."""
    with started(established(sack=True)) as c:
        for number in range(2, 8):
            c.tp.ack_quick = 0
            beyond(c, number)
        c.out.clear()
        c.inject("R", seq=1001)
        c.silent(until=SEC)
        timer = c.tp.compressed_ack_timer
        assert timer is not None and not timer.pending
