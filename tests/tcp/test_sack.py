"""The scoreboard: what SACK marks, what is believed, what it costs (RFC 2018, RFC 6675, RFC 2883)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tcp.flight import MSS, RTT, ack, connected, flight, numbers, seq
from tests.tcp.invariants import check
from tests.tcp.peer import MSEC, SEC, Peer
from ustack.device.e1000 import E1000_FEATURES
from ustack.tcp.control import TCP_CA_DISORDER, TCP_CA_LOSS, TCP_CA_OPEN, TCP_CA_RECOVERY
from ustack.tcp.options import IPPROTO_TCP, TCP_NODELAY
from ustack.tcp.segment import TCPCB_LOST, TCPCB_SACKED_ACKED


def marked(c: Peer, bit: int) -> list[int]:
    """The segments in flight that have ``bit``."""
    found: list[int] = []
    for skb in c.tp.in_flight():
        if skb.sacked & bit:
            start = (((int(skb.seq) - c.irs) & 0xFFFF_FFFF) - 1) // MSS
            found.extend(range(start, start + (int(skb.len) + MSS - 1) // MSS))
    return found


def sacked(c: Peer) -> list[int]:
    return marked(c, TCPCB_SACKED_ACKED)


# -- marking


def test_the_third_sacked_segment_begins_recovery_and_only_the_hole_goes_again() -> None:
    """RFC 6675 section 5: "DupAcks >= DupThresh"; what is sacked is never retransmitted (RFC 2018 section 8)."""
    with flight() as c:
        c.run(RTT)
        for upto in (2, 3):
            ack(c, 0, (1, upto))
            assert c.tp.ca_state == TCP_CA_DISORDER
            c.silent()
        ack(c, 0, (1, 4))
        assert numbers(c) == [0]
        assert (c.tp.ca_state, c.tp.sacked_out, c.tp.lost_out, c.tp.retrans_out) == (TCP_CA_RECOVERY, 3, 1, 1)
        ack(c, 10)
        assert (c.tp.ca_state, c.tp.packets_out) == (TCP_CA_OPEN, 0)
        c.silent(until=10 * SEC)
        c.counted(
            TCPSackRecovery=1,
            RetransSegs=1,
            TCPFastRetrans=1,
            TCPDelivered=10,
            TCPSackMerged=2,
            TCPPureAcks=3,
            TCPHPAcks=1,
        )


def test_two_holes_are_both_filled() -> None:
    with flight() as c:
        c.run(RTT)
        ack(c, 0, (1, 3), (4, 6), (7, 10))
        assert marked(c, TCPCB_LOST) == [0, 3, 6]
        assert numbers(c) == [0, 3, 6]  # as many as the seven delivered make room for (PRR)
        c.run(RTT)
        ack(c, 3, (4, 6), (7, 10))
        ack(c, 6, (7, 10))
        ack(c, 10)
        assert (c.tp.ca_state, c.tp.packets_out) == (TCP_CA_OPEN, 0)
        c.silent(until=10 * SEC)


def test_a_super_segment_is_cut_where_the_block_ends() -> None:
    """Marks are on whole segments, also of super-segments that the device cuts."""
    with flight(features=E1000_FEATURES) as c:
        c.run(RTT)
        before = len(c.tp.in_flight())
        ack(c, 0, (3, 5))
        assert sacked(c) == [3, 4]
        assert len(c.tp.in_flight()) > before
        assert (c.tp.packets_out, c.tp.sacked_out) == (10, 2)


@pytest.mark.parametrize(
    ("block", "marks"), [((2500, 4600), [3]), ((3001, 3999), []), ((3001, 4001), [3]), ((1, 900), [])]
)
def test_part_of_a_segment_is_not_marked(block: tuple[int, int], marks: list[int]) -> None:
    """Cut only at multiples of the MSS: a byte at a time would make an skb of each (CVE-2019-11477, -11478)."""
    for features in (0, E1000_FEATURES):
        with flight(features=features) as c:
            c.inject("A", ack=1, options=c.sack_option(block))
            check(c.tp)
            assert sacked(c) == marks


def test_neighbours_that_are_sacked_become_one() -> None:
    """However many segments are sacked, the queue holds as many skbs as there are blocks (tcp_shift_skb_data)."""
    with flight(100) as c:
        for upto in range(2, 60):
            ack(c, 0, (1, upto))
            numbers(c)
        assert sacked(c) == list(range(1, 59))
        assert sum(skb.sacked & TCPCB_SACKED_ACKED for skb in c.tp.in_flight()) == 1
        assert c.tp.sacked_out == 58
        ack(c, 30, (30, 59))
        assert sacked(c) == list(range(30, 59))
        ack(c, 100)
        assert c.tp.wmem_queued == 0


def test_what_the_last_ack_reported_is_not_walked_again() -> None:
    """recv_sack_cache: only the new part of each block is looked at."""
    with flight(30) as c:
        ack(c, 0, (2, 4), (6, 8))
        assert c.tp.recv_sack_cache == [
            ((c.irs + seq(a)) & 0xFFFF_FFFF, (c.irs + seq(b)) & 0xFFFF_FFFF) for a, b in ((2, 4), (6, 8))
        ]
        ack(c, 0, (1, 10))
        assert sacked(c) == list(range(1, 10))
        ack(c, 0, (12, 14), (1, 10), (20, 30))
        assert sacked(c) == [*range(1, 10), 12, 13, *range(20, 30)]
        c.out.clear()


def test_a_block_that_ended_inside_a_segment_goes_on_from_its_beginning() -> None:
    """The walk goes on behind the last block, but a block is compared from where it begins."""
    for features in (0, E1000_FEATURES):
        with flight(30, features=features) as c:
            for end in range(2500, 9000, 1000):
                c.inject("A", ack=1, options=c.sack_option((seq(1), end)))
                check(c.tp)
            assert sacked(c) == list(range(1, 8))
            c.out.clear()


def test_blocks_come_in_any_order() -> None:
    """RFC 2018 section 4: "the first block [...] MUST specify the contiguous block of data containing the segment which
    triggered this ACK": they are not sorted."""
    with flight(12) as c:
        ack(c, 0, (8, 9), (2, 3), (10, 11), (4, 6))
        assert sacked(c) == [2, 4, 5, 8, 10]
        assert c.tp.highest_sack is not None and c.tp.highest_sack.seq == (c.irs + seq(11)) & 0xFFFF_FFFF
        c.out.clear()


def test_an_old_ack_still_tells_of_blocks() -> None:
    """It was overtaken; what it sacked had arrived all the same. Not in tp.delivered: tcp_ack's old_ack."""
    with flight() as c:
        c.run(RTT)
        ack(c, 2)
        delivered = c.tp.delivered
        c.inject("A", ack=seq(1), options=c.sack_option((seq(4), seq(7))))
        check(c.tp)
        assert sacked(c) == [4, 5, 6] and c.tp.delivered == delivered
        assert numbers(c)[:1] == [2]
        assert c.tp.ca_state == TCP_CA_RECOVERY


# -- what is believed


@pytest.mark.parametrize(
    ("block", "what"),
    [
        ((5, 11), "beyond SND.NXT"),
        ((7, 5), "ends before it begins"),
        ((5, 5), "empty"),
        ((0, 3), "begins at SND.UNA: it would have been acknowledged"),
        ((20, 30), "never sent"),
    ],
)
def test_nonsense_is_discarded(block: tuple[int, int], what: str) -> None:
    """RFC 2018 says nothing of them; Linux's tcp_is_sackblock_valid does."""
    with flight() as c:
        ack(c, 0, block)
        assert (c.tp.sacked_out, c.tp.ca_state) == (0, TCP_CA_OPEN)
        assert c.moved()["TcpExt.TCPSACKDiscard"] == 1, what
        c.silent()


def test_blocks_without_sack_permitted_are_ignored() -> None:
    """RFC 2018 section 2: both SYNs "must" have had the option."""
    with flight(sack=False) as c:
        for _ in range(2):
            c.inject("A", ack=1, options=c.sack_option((seq(1), seq(9))))
        assert sacked(c) == [] and c.tp.sacked_out == 2  # two duplicate ACKs
        c.silent()


def test_blocks_of_a_refused_segment_are_not_believed() -> None:
    """RFC 9293, first step: a segment out of the window is answered and dropped, with all that its options say; the
    next one is not taken to have said it."""
    with flight() as c:
        c.inject("A", seq=0x4000_0000, ack=1, options=c.sack_option((seq(3), seq(9))))
        c.out.clear()
        ack(c, 1)
        assert (sacked(c), c.tp.sacked_out, c.tp.ca_state) == ([], 0, TCP_CA_OPEN)
        c.silent()


def test_a_d_sack_of_what_was_never_sent_twice_is_dubious() -> None:
    """RFC 2883 says what the network duplicated, too; more than we sent twice is of no use to undo anything."""
    with flight() as c:
        ack(c, 5)
        ack(c, 5, dup=(2, 3))
        moved = c.moved()
        assert (moved["TcpExt.TCPDSACKRecv"], moved["TcpExt.TCPDSACKIgnoredDubious"]) == (1, 1)
        assert c.tp.dsack_dups == 1 and c.tp.total_retrans == 0
        c.silent()


def test_a_d_sack_inside_the_second_block_is_seen() -> None:
    """RFC 2883 section 4.2: a duplicate above the cumulative ACK is reported inside the block after it."""
    with flight() as c:
        c.run(RTT)
        ack(c, 0, (1, 4))
        assert numbers(c) == [0]
        ack(c, 0, (1, 4), dup=(2, 3))
        moved = c.moved()
        assert (moved["TcpExt.TCPDSACKOfoRecv"], moved["TcpExt.TCPDSACKRecvSegs"]) == (1, 1)
        assert c.tp.dsack_dups == 1
        c.silent()


def test_a_d_sack_longer_than_any_window_is_nonsense() -> None:
    with flight() as c:
        ack(c, 5)
        c.tp.max_window = 1500
        c.tp.total_retrans = 10
        ack(c, 5, dup=(1, 4))
        assert c.moved()["TcpExt.TCPDSACKIgnoredDubious"] == 1


# -- reordering


def test_a_hole_that_is_filled_by_the_original_is_reordering() -> None:
    """RFC 4653's concern: the degree is remembered, in packets, and later losses wait for it."""
    with flight(30) as c:
        c.run(RTT)
        ack(c, 0, (9, 10))
        ack(c, 0, (2, 3), (9, 10))
        assert (c.tp.reordering, c.tp.reord_seen) == (8, 1)
        assert c.moved()["TcpExt.TCPSACKReorder"] == 1
        ack(c, 3, (9, 10))  # 0 and 1 had only been overtaken as well
        assert (c.tp.reordering, c.tp.reord_seen) == (10, 2)


def test_reordering_is_believed_up_to_a_limit() -> None:
    with flight(60) as c:
        c.net.sysctl.tcp_max_reordering = 20
        ack(c, 0, (50, 51))
        ack(c, 0, (1, 2), (50, 51))
        assert c.tp.reordering == 20


# -- reneging


def test_a_peer_that_takes_back_what_it_sacked_gets_it_again() -> None:
    """RFC 2018 section 8: "The data receiver is permitted to discard data in its queue that has not been acknowledged
    [...] even if the data has already been reported in a SACK option". After half an RTT the timer forgets SACKs."""
    with flight() as c:
        c.run(RTT)
        ack(c, 0, (2, 6))
        numbers(c)
        c.mark()
        c.run(10 * MSEC)
        c.mark()
        ack(c, 2, (3, 6))  # 2 was sacked, and is not acknowledged
        assert numbers(c) == []
        srtt = int(c.tp.srtt)
        c.silent(until=srtt // 2 - 1)
        c.run_to(c.zero + srtt // 2)
        assert numbers(c) == [2]
        assert (c.tp.ca_state, c.tp.sacked_out, c.tp.is_sack_reneg) == (TCP_CA_LOSS, 0, True)
        assert marked(c, TCPCB_LOST) == list(range(2, 10))
        assert c.moved()["TcpExt.TCPSACKReneging"] == 1
        check(c.tp)
        ack(c, 10)
        assert (c.tp.ca_state, c.tp.is_sack_reneg) == (TCP_CA_OPEN, False)


# -- what it may cost


def test_cutting_stops_where_memory_does() -> None:
    """CVE-2019-11478: skbs cut off large ones cost more than they hold; beyond twice the buffer only the ends are."""
    with connected(features=E1000_FEATURES) as c:
        c.tp.snd_cwnd = 400
        c.tp.snd_cwnd_stamp = c.now
        c.app_send(bytes(390 * MSS))
        c.out.clear()
        c.tp.sndbuf = 4096
        was = len(c.tp.in_flight())
        for n in range(380, 150, -2):
            ack(c, 0, (n, n + 1))
            c.out.clear()
        assert c.moved()["TcpExt.TCPWqueueTooBig"] > 0
        assert len(c.tp.in_flight()) < was + 20


# -- against a model


class Model:
    """What a peer with this much in its queue could say, and what the sender should know of it."""

    def __init__(self, count: int) -> None:
        self.got = [False] * count  #: arrived
        self.una = 0
        self.said: set[int] = set()  #: reported by some ACK

    def arrive(self, segments: list[int]) -> None:
        for n in segments:
            self.got[n] = True
        while self.una < len(self.got) and self.got[self.una]:
            self.una += 1

    def blocks(self, order: int) -> list[tuple[int, int]]:
        """At most three of the blocks, ``order`` says which."""
        found: list[tuple[int, int]] = []
        start = -1
        for n in range(self.una, len(self.got) + 1):
            have = n < len(self.got) and self.got[n]
            if have and start < 0:
                start = n
            elif not have and start >= 0:
                found.append((start, n))
                start = -1
        if found:
            order %= len(found)
            found = (found[order:] + found[:order])[:3]
        self.said.update(n for begin, end in found for n in range(begin, end))
        self.said = {n for n in self.said if n >= self.una}
        return found


@pytest.mark.parametrize("features", [0, E1000_FEATURES])
@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.lists(st.integers(0, 39), max_size=5), st.integers(0, 7), st.integers(0, 60)), max_size=25
    )
)
def test_the_scoreboard_is_what_was_said(features: int, steps: list[tuple[list[int], int, int]]) -> None:
    """Arrivals, ACKs with some of the blocks, pauses of up to 60 ms: exactly what was reported is marked sacked."""
    with flight(40, features=features) as c:
        model = Model(40)
        for segments, order, pause in steps:
            c.run(pause * MSEC)
            reneging = c.tp.is_sack_reneg
            model.arrive(segments)
            ack(c, model.una, *model.blocks(order))
            if c.tp.is_sack_reneg or reneging:
                break
            assert sacked(c) == sorted(model.said)
            assert c.tp.sacked_out == len(model.said)
            assert all(n not in model.said for n in marked(c, TCPCB_LOST))
        ack(c, 40)
        c.out.clear()
        assert c.tp.packets_out == c.tp.sacked_out == c.tp.lost_out == c.tp.retrans_out == c.tp.wmem_queued == 0


def test_neighbours_of_two_sizes_stay_two() -> None:
    """tcp_shift_skb_data: "mss != tcp_skb_seglen(prev)": nobody could count the segments of a part of both."""
    with connected() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        for length in (MSS, MSS // 2, MSS // 2, MSS):
            c.app_send(bytes(length))
        c.out.clear()
        c.inject("A", ack=1, options=c.sack_option((1 + MSS, 1 + 3 * MSS)))
        assert [(skb.len, skb.pcount, skb.mss) for skb in c.tp.in_flight()][1:] == [
            (MSS, 2, MSS // 2),
            (MSS, 1, MSS),
        ]
        assert (c.tp.packets_out, c.tp.sacked_out) == (4, 3)
        check(c.tp)
        c.expect("PA", seq=1, data=bytes(MSS))
        c.inject("A")


def test_a_block_that_overlaps_one_before_it_is_looked_at_from_its_beginning() -> None:
    """tcp_sacktag_write_queue: beyond the highest sacked the walk begins there, however far the last one went."""
    with flight(9, rtt=RTT) as c:
        c.tp.reordering = 10
        half = MSS // 2
        blocks = ((seq(3), seq(5)), (seq(8), seq(9)), (seq(7) + half, seq(8) + half))
        c.inject("A", ack=1, options=c.sack_option(*blocks))
        assert sacked(c) == [3, 4, 8]
        check(c.tp)
