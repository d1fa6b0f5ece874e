"""Loss without SACK: duplicate ACKs, fast retransmit, NewReno, and how cwnd grows (RFC 5681, RFC 6582, RFC 3042)."""

from __future__ import annotations

import pytest

from tests.tcp.peer import MSEC, SEC, Peer, established
from ustack.device.e1000 import E1000_FEATURES, NO_OFFLOAD
from ustack.drop import Reason
from ustack.tcp.control import TCP_CA_DISORDER, TCP_CA_OPEN, TCP_CA_RECOVERY
from ustack.tcp.options import IPPROTO_TCP, TCP_NODELAY

MSS = 1460
#: Between ACKs: no super-segment waits longer than 1 ms for the next one.
PAUSE = 2 * MSEC


def data(length: int) -> bytes:
    return bytes(length)


def in_flight(count: int = 10, queued: int = 0, features: int = NO_OFFLOAD) -> Peer:
    """``count`` full segments in flight, all of cwnd, and ``queued`` more that wait."""
    c = established(features=features, wscale=4, window=400_000)
    c.inject("A", window=400_000)
    c.tp.snd_cwnd = count
    c.tp.snd_cwnd_stamp = c.now  # it has not been idle
    c.tp.sndbuf = 1 << 20
    c.app_send(data((count + queued) * MSS))
    assert sum(len(s.data) for s in c.out) == count * MSS
    c.out.clear()
    c.mark()
    return c


def dupacks(c: Peer, count: int, ack: int = 1) -> None:
    for _ in range(count):
        c.run(PAUSE)
        c.inject("A", ack=ack)


# -- entering


def test_the_third_duplicate_ack_retransmits_the_first_segment() -> None:
    """RFC 5681 3.2: "the fast retransmit algorithm uses the arrival of 3 duplicate ACKs"."""
    with in_flight() as c:
        dupacks(c, 2)
        c.silent()
        assert c.tp.ca_state == TCP_CA_DISORDER
        dupacks(c, 1)
        c.expect("A", seq=1, data=data(MSS))
        c.silent()
        # RFC 6937: cwnd comes down with what is delivered, and is what is in flight and the one retransmission now
        assert (c.tp.ca_state, c.tp.snd_ssthresh, c.tp.snd_cwnd, c.tp.lost_out) == (TCP_CA_RECOVERY, 5, 7, 1)
        assert (c.tp.prr_delivered, c.tp.prr_out, c.tp.prior_cwnd) == (1, 1, 10)
        c.counted(RetransSegs=1, TCPRenoRecovery=1, TCPFastRetrans=1, TCPPureAcks=3, TCPDelivered=3)


def test_only_the_first_piece_of_a_super_segment_is_retransmitted() -> None:
    with in_flight(features=E1000_FEATURES) as c:
        dupacks(c, 3)
        c.expect("A", seq=1, data=data(MSS))
        c.silent()


def test_limited_transmit_sends_new_data_for_the_first_two() -> None:
    """RFC 3042: "the sender SHOULD [...] transmit new data" on the first two duplicate ACKs, cwnd unchanged."""
    with in_flight(queued=5) as c:
        for number in (10, 11):
            dupacks(c, 1)
            c.expect("A", seq=1 + number * MSS, data=data(MSS))
            c.silent()
        assert c.tp.snd_cwnd == 10


@pytest.mark.parametrize("what", ["data", "window", "fin"])
def test_what_is_no_duplicate_ack_is_not_counted(what: str) -> None:
    """RFC 5681 section 2: it carries no data, no FIN, and the window has not changed."""
    with in_flight() as c:
        for number in range(4):
            if what == "data":
                c.inject("A", b"x", ack=1)
            elif what == "window":
                c.inject("A", ack=1, window=400_000 + 1600 * (number + 1))
            elif number == 0:
                c.inject("FA", ack=1)
        assert c.tp.sacked_out == 0 and c.tp.ca_state == TCP_CA_OPEN
        assert all(not s.data for s in c.out)
        c.out.clear()


def test_without_anything_in_flight_no_ack_is_a_duplicate() -> None:
    with established() as c:
        dupacks(c, 5)
        assert c.tp.sacked_out == 0 and c.tp.ca_state == TCP_CA_OPEN
        c.silent(until=SEC)
        c.counted(TCPPureAcks=5)


# -- inside


def test_new_data_flows_at_the_pace_of_the_duplicate_acks() -> None:
    """RFC 6582 3.2 step 4, RFC 6675's pipe: each duplicate ACK is a segment that has left; no burst."""
    with in_flight(queued=20) as c:
        dupacks(c, 3)
        c.out.clear()
        sent = 12  # two by limited transmit
        for _ in range(7):
            before = int(c.tp.tcp_packets_in_flight())
            c.out.clear()
            dupacks(c, 1)
            assert len(c.out) <= 1
            sent += len(c.out)
            c.out.clear()
            assert c.tp.tcp_packets_in_flight() <= max(before, c.tp.snd_cwnd)
        assert 12 < sent <= 12 + 4


def test_a_partial_ack_retransmits_the_next_hole_at_once() -> None:
    """RFC 6582 3.2 step 3: "If this ACK does *not* acknowledge all of the data up to and including recover", then
    "retransmit the first unacknowledged segment"."""
    with in_flight() as c:
        dupacks(c, 6)
        c.expect("A", seq=1, data=data(MSS))
        c.inject("A", ack=1 + 3 * MSS)
        c.expect("A", seq=1 + 3 * MSS, data=data(MSS))
        c.silent()
        c.inject("A", ack=1 + 7 * MSS)
        c.expect("A", seq=1 + 7 * MSS, data=data(MSS))
        assert c.tp.ca_state == TCP_CA_RECOVERY and c.tp.snd_ssthresh == 5
        c.inject("A", ack=1 + 10 * MSS)
        c.silent(until=10 * SEC)
        assert c.tp.packets_out == c.tp.lost_out == c.tp.retrans_out == c.tp.sacked_out == 0
        c.counted(RetransSegs=3, TCPRenoRecovery=1, TCPFastRetrans=3, TCPDelivered=10, TCPPureAcks=6, TCPHPAcks=3)


def test_recovery_ends_beyond_what_was_in_flight_and_leaves_half_the_window() -> None:
    """RFC 6582 3.2 step 3: "set cwnd to [...] ssthresh"; the state is held until something above is acknowledged."""
    with in_flight(queued=20) as c:
        dupacks(c, 9)
        c.out.clear()
        high = (int(c.tp.high_seq) - c.irs) & 0xFFFF_FFFF
        c.inject("A", ack=high)
        assert c.tp.ca_state == TCP_CA_RECOVERY
        c.inject("A", ack=high + MSS)
        assert c.tp.ca_state == TCP_CA_OPEN
        assert c.tp.snd_cwnd in (5, 6) and c.tp.snd_ssthresh == 5
        c.out.clear()


def test_duplicate_acks_right_after_recovery_start_no_second_one() -> None:
    """RFC 6582 3.2 step 1: "the Cumulative Acknowledgment field covers more than recover", or they are of no loss."""
    with in_flight(queued=10) as c:
        dupacks(c, 4)
        c.out.clear()
        high = (int(c.tp.high_seq) - c.irs) & 0xFFFF_FFFF
        c.inject("A", ack=high)
        c.out.clear()
        dupacks(c, 5, ack=high)
        assert all((s.seq - c.irs) & 0xFFFF_FFFF > high for s in c.out)
        assert c.moved()["TcpExt.TCPRenoRecovery"] == 1
        c.out.clear()


def test_a_retransmission_that_is_lost_waits_for_the_timer() -> None:
    with in_flight() as c:
        dupacks(c, 9)
        c.expect("A", seq=1, data=data(MSS))
        c.next_segment(at=SEC)
        c.silent()
        moved = c.moved()
        assert (moved["TcpExt.TCPTimeouts"], moved["TcpExt.TCPRenoRecoveryFail"]) == (1, 1)
        assert (c.tp.snd_cwnd, c.tp.snd_ssthresh) == (1, 5)


def test_reordering_by_less_than_three_costs_nothing() -> None:
    with in_flight() as c:
        dupacks(c, 2)
        c.inject("A", ack=1 + 3 * MSS)
        assert (c.tp.ca_state, c.tp.sacked_out, c.tp.snd_ssthresh) == (TCP_CA_OPEN, 0, 0x7FFF_FFFF)
        c.silent()
        c.counted(TCPPureAcks=2, TCPHPAcks=1, TCPDelivered=3)


# -- misbehaving receivers


def test_an_optimistic_ack_is_answered_and_moves_nothing() -> None:
    """RFC 9293, fifth step: "If the ACK acks something not yet sent (SEG.ACK > SND.NXT), then send an ACK, drop"."""
    with in_flight(queued=10) as c:
        una, cwnd = int(c.tp.snd_una), int(c.tp.snd_cwnd)
        for ack in (2 + 10 * MSS, 1 + 20 * MSS, 1 + 0x7000_0000):
            c.inject("A", ack=ack)
        assert (c.tp.snd_una, c.tp.snd_cwnd, c.tp.packets_out) == (una, cwnd, 10)
        c.expect("A", seq=1 + 10 * MSS, ack=1)
        c.silent()
        c.counted(*[Reason.TCP_ACK_UNSENT_DATA] * 3, TCPChallengeACK=1, TCPACKSkippedChallenge=2)


def test_dividing_an_ack_opens_the_window_no_faster() -> None:
    """Savage's ACK division: Linux counts segments, not ACKs: only what a whole segment covers counts."""
    with in_flight(queued=30) as c:
        for part in range(1, 11):
            c.inject("A", ack=1 + part * (MSS // 10))
        assert c.tp.snd_cwnd == 11
        c.out.clear()


# -- cwnd


def test_slow_start_doubles_in_a_round_trip() -> None:
    """RFC 5681 (2), byte counting as Linux does it: one segment more for each acknowledged."""
    with in_flight(queued=200) as c:
        done, sizes = 0, []
        for _ in range(4):
            sizes.append(int(c.tp.snd_cwnd))
            flight = int(c.tp.packets_out)
            for _ in range(flight // 2):
                done += 2
                c.run(PAUSE)
                c.inject("A", ack=1 + done * MSS)
        assert sizes == [10, 20, 40, 80]
        c.out.clear()


def test_congestion_avoidance_adds_one_in_a_round_trip() -> None:
    """RFC 5681 (3)."""
    with in_flight(queued=200) as c:
        c.tp.snd_ssthresh = 10
        done, sizes = 0, []
        for _ in range(5):
            sizes.append(int(c.tp.snd_cwnd))
            for _ in range(int(c.tp.packets_out)):
                done += 1
                c.run(PAUSE)
                c.inject("A", ack=1 + done * MSS)
        assert sizes == [10, 11, 12, 13, 14]
        c.out.clear()


def test_super_segments_do_not_keep_congestion_avoidance_from_growing() -> None:
    """Waiting for a larger super-segment is being limited by cwnd as well."""
    with in_flight(30, queued=400, features=E1000_FEATURES) as c:
        c.tp.snd_ssthresh = 30
        done = 0
        while done < 300:
            done += 2
            c.run(MSEC)
            c.inject("A", ack=1 + done * MSS)
        assert c.tp.snd_cwnd >= 36
        c.out.clear()


def test_slow_start_stops_at_the_threshold() -> None:
    with in_flight(queued=200) as c:
        c.tp.snd_ssthresh = 14
        c.inject("A", ack=1 + 10 * MSS)
        assert c.tp.snd_cwnd == 14
        c.out.clear()


def test_a_window_that_is_not_used_does_not_grow() -> None:
    """RFC 7661's concern, tcp_is_cwnd_limited: an application that sends little learns nothing of the path."""
    with established() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        for _ in range(50):
            c.app_send(data(MSS))
            c.expect("PA", data=data(MSS))
            c.inject("A")
        assert c.tp.snd_cwnd == 10


def test_an_idle_connection_begins_again_from_the_initial_window() -> None:
    """RFC 5681 4.1: halved for every RTO of idleness, down to the restart window; ssthresh remembers."""
    with in_flight(80) as c:
        c.inject("A", ack=1 + 80 * MSS)
        was = int(c.tp.snd_cwnd)
        assert was >= 80
        c.run(int(c.tp.rto) * 2 + int(c.tp.rto) // 2)
        c.app_send(b"x")
        assert c.tp.snd_cwnd == was >> 2
        assert c.tp.snd_ssthresh >= was * 3 // 4
        c.inject("A")
        c.run(1000 * SEC)
        c.app_send(b"x")
        assert c.tp.snd_cwnd == 10
        c.out.clear()


def test_a_pause_shorter_than_the_rto_changes_nothing() -> None:
    with in_flight(80) as c:
        c.inject("A", ack=1 + 80 * MSS)
        was = int(c.tp.snd_cwnd)
        c.run(150 * MSEC)
        c.app_send(b"x")
        assert c.tp.snd_cwnd == was
        c.out.clear()
