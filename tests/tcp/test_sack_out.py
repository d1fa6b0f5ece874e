"""The SACK blocks that the stack sends (RFC 2018 section 4, RFC 2883; Linux tcp_sack_new_ofo_skb, tcp_dsack_set)."""

from __future__ import annotations

import pytest

from tests.tcp.peer import SEC, Peer, Segment, established
from ustack.drop import Reason
from ustack.tcp.sack_out import joined

MSS = 1000


def text(length: int = MSS) -> bytes:
    return bytes(length)


def blocks(c: Peer, s: Segment) -> list[tuple[int, int]]:
    """The blocks of a segment, relative to the peer's ISN."""
    return [((start - c.iss) & 0xFFFF_FFFF, (end - c.iss) & 0xFFFF_FFFF) for start, end in s.sacks]


def piece(c: Peer, number: int, count: int = 1) -> Segment:
    """The peer's ``number``th kilobyte and those after it come; what the stack answers."""
    for at in range(number, number + count - 1):
        c.inject("A", text(), seq=1 + at * MSS)
        c.expect("A", seq=1)
    c.inject("A", text(), seq=1 + (number + count - 1) * MSS)
    return c.expect("A", seq=1)


def of(*numbers: int | tuple[int, int]) -> list[tuple[int, int]]:
    """The blocks that say the kilobytes ``numbers``, or (first, beyond)."""
    pairs = [(n, n + 1) if isinstance(n, int) else n for n in numbers]
    return [(1 + first * MSS, 1 + beyond * MSS) for first, beyond in pairs]


# -- RFC 2018


def test_the_first_block_is_of_the_segment_that_triggered_the_ack_and_the_others_are_the_most_recent() -> None:
    """RFC 2018 section 4: "The first SACK block [...] MUST specify the contiguous block of data containing the segment
    which triggered this ACK"; four blocks at most."""
    with established(sack=True) as c:
        assert blocks(c, piece(c, 2)) == of(2)
        assert blocks(c, piece(c, 4)) == of(4, 2)
        assert blocks(c, piece(c, 6)) == of(6, 4, 2)
        assert blocks(c, piece(c, 8)) == of(8, 6, 4, 2)
        assert blocks(c, piece(c, 10)) == of(10, 8, 6, 4)
        # the second one again reports its block first
        assert blocks(c, piece(c, 5)) == of((4, 7), 10, 8)
        c.counted(TCPOFOQueue=6)


def test_beside_timestamps_there_is_room_for_three() -> None:
    """RFC 2018 section 3: "a maximum of 3 SACK blocks will be allowed in this case"."""
    with established(sack=True, timestamps=True) as c:
        for number in (2, 4, 6):
            piece(c, number)
        assert blocks(c, piece(c, 8)) == of(8, 6, 4)
        assert c.tp.selective_acks == [
            ((start + c.iss) & 0xFFFF_FFFF, (end + c.iss) & 0xFFFF_FFFF) for start, end in of(8, 6, 4, 2)
        ]


def test_blocks_that_touch_become_one() -> None:
    """tcp_sack_maybe_coalesce."""
    with established(sack=True) as c:
        for number in (2, 4, 6):
            piece(c, number)
        assert blocks(c, piece(c, 3)) == of((2, 5), 6)
        assert blocks(c, piece(c, 5)) == of((2, 7))


def test_what_rcv_nxt_has_passed_is_no_longer_reported() -> None:
    """tcp_sack_remove; RFC 5681 4.2: an ACK at once when a gap is filled."""
    with established(sack=True) as c:
        piece(c, 1)
        piece(c, 3)
        s = piece(c, 0)
        assert (s.ack - c.iss) & 0xFFFF_FFFF == 1 + 2 * MSS and blocks(c, s) == of(3)
        s = piece(c, 2)
        assert (s.ack - c.iss) & 0xFFFF_FFFF == 1 + 4 * MSS and s.sacks == []
        assert c.tp.selective_acks == [] and c.tp.ofo is None


def test_without_agreement_nothing_is_reported() -> None:
    """RFC 2018 section 2: "SACK-permitted [...] MUST NOT be sent" blocks to one who has not asked for them."""
    with established() as c:
        assert piece(c, 2).raw_options == b""
        c.inject("A", text(), seq=1)
        c.expect("A", ack=1 + MSS)
        c.inject("A", text(), seq=1)
        assert c.expect("A", ack=1 + MSS).raw_options == b""
        c.counted(Reason.TCP_OLD_DATA, TCPOFOQueue=1, TCPHPHits=0, DelayedACKLost=1)


def test_data_carries_the_blocks_too() -> None:
    """RFC 2018 section 4: "SACK options [...] in all ACKs which do not ACK the highest sequence number"; the text
    makes room for them."""
    with established(sack=True) as c:
        piece(c, 2)
        c.app_send(bytes(1460))
        s = c.next_segment()
        assert blocks(c, s) == of(2) and len(s.data) == 1460 - 12
        assert len(c.next_segment().data) == 12


def test_the_peers_fin_ends_all_reports() -> None:
    with established(sack=True) as c:
        c.inject("FA", text(), seq=1 + MSS)
        c.expect("A", ack=1)
        c.inject("A", text(), seq=1)
        s = c.expect("A", ack=2 + 2 * MSS)
        assert s.sacks == [] and c.tp.selective_acks == []


# -- RFC 2883


def test_a_segment_that_came_twice_is_reported_once() -> None:
    """RFC 2883 section 4: "A D-SACK block is only used to report a duplicate contiguous sequence of data received by
    the receiver in the most recent packet"; 4.1 (3): only once."""
    with established(sack=True) as c:
        piece(c, 0)
        c.mark()
        c.inject("A", text(), seq=1)
        assert blocks(c, c.expect("A", ack=1 + MSS)) == of(0)
        piece(c, 1)
        assert c.tp.duplicate_sack is None
        c.inject("A", text(500), seq=1 + 2 * MSS)
        assert c.expect("A", ack=1 + 2 * MSS + 500).sacks == []
        c.counted(Reason.TCP_OLD_DATA, DelayedACKLost=1, TCPDSACKOldSent=1, TCPHPHits=2, TCPRcvCoalesce=1)


def test_below_the_window_too() -> None:
    """tcp_send_dupack: RFC 2883 section 4.1.1."""
    with established(sack=True) as c:
        piece(c, 0, 3)
        c.run(SEC)
        c.mark()
        c.inject("A", text(200), seq=101)
        assert blocks(c, c.expect("A", ack=1 + 3 * MSS)) == [(101, 301)]
        c.counted(Reason.TCP_OLD_SEQUENCE, DelayedACKLost=1, TCPDSACKOldSent=1)


def test_a_repeated_segment_beyond_the_hole_is_reported_before_its_block() -> None:
    """RFC 2883 section 4.1.2: "the first SACK block [...] duplicate segment; the second [...] the larger block"."""
    with established(sack=True) as c:
        piece(c, 2, 2)
        c.mark()
        assert blocks(c, piece(c, 3)) == of(3, (2, 4))
        c.counted(Reason.TCP_OFOMERGE, TCPOFOQueue=1, TCPOFOMerge=1, TCPDSACKOfoSent=1)


def test_of_a_partial_repetition_only_what_came_twice() -> None:
    """RFC 2883 section 4.2.1, 4.2.2."""
    with established(sack=True) as c:
        c.inject("A", text(200), seq=1101)
        c.expect("A")
        c.inject("A", text(1000), seq=1401)
        c.expect("A")
        c.mark()
        c.inject("A", text(1000), seq=1001)  # covers the first whole, and the second in part
        assert blocks(c, c.expect("A", ack=1)) == [(1101, 1301), (1001, 2401)]
        c.counted(TCPOFOQueue=1, TCPOFOMerge=1, TCPDSACKOfoSent=1)
        c.mark()
        c.inject("A", text(1400), seq=1)  # four hundred bytes again
        assert blocks(c, c.expect("A", ack=2401)) == [(1001, 1401)]
        c.counted(TCPDSACKOldSent=1)


def test_a_segment_half_old_and_half_new() -> None:
    with established(sack=True) as c:
        piece(c, 0)
        c.mark()
        c.inject("A", text(MSS), seq=501)
        assert blocks(c, c.expect("A", ack=1501)) == [(501, 1001)]
        c.counted(TCPDSACKOldSent=1, TCPRcvCoalesce=1)


def test_the_sysctl_turns_it_off() -> None:
    with established(sack=True) as c:
        c.net.sysctl.tcp_dsack = 0
        piece(c, 0)
        c.mark()
        c.inject("A", text(), seq=1)
        assert c.expect("A", ack=1 + MSS).sacks == []
        c.counted(Reason.TCP_OLD_DATA, DelayedACKLost=1)


def test_duplicates_of_one_batch_are_answered_one_by_one() -> None:
    """Each says something of its own: they do not wait for the end of the batch."""
    with established(sack=True) as c:
        piece(c, 0, 3)
        with c.batch():
            for number in (0, 1, 2):
                c.inject("A", text(), seq=1 + number * MSS)
        assert [blocks(c, c.expect("A", ack=1 + 3 * MSS)) for _ in range(3)] == [of(0), of(1), of(2)]


@pytest.mark.parametrize("base", [100, 0x7FFF_FFF0, 0xFFFF_FFF0])
def test_ranges_are_joined_where_they_touch_or_overlap(base: int) -> None:
    def at(start: int, end: int) -> tuple[int, int]:
        return (base + start) & 0xFFFF_FFFF, (base + end) & 0xFFFF_FFFF

    assert joined(at(10, 20), *at(20, 30)) == at(10, 30)
    assert joined(at(10, 20), *at(5, 10)) == at(5, 20)
    assert joined(at(10, 20), *at(12, 15)) == at(10, 20)
    assert joined(at(10, 20), *at(21, 30)) is None
    assert joined(at(10, 20), *at(0, 9)) is None


def test_blocks_of_a_refused_segment_are_not_taken_for_the_next_ones() -> None:
    """tcp_rcv_established: what header prediction lets through has none."""
    with established(sack=True) as c:
        c.app_send(bytes(5 * 1460))
        c.out.clear()
        c.inject("A", seq=-5000, ack=1, options=c.sack_option((1461, 2921)))  # out of the window
        c.out.clear()
        assert c.tp.sacked_out == 0
        c.inject("A", ack=1 + 1460)
        assert c.tp.sacked_out == 0 and c.tp.packets_out == 4
        c.out.clear()
