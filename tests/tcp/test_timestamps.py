"""The timestamp option: what is echoed, what is measured, what is refused as too old (RFC 7323)."""

from __future__ import annotations

import pytest

from tests.tcp.peer import M32, MSEC, SEC, Peer, established
from ustack.drop import Reason

DAY = 86_400 * SEC


def stamped(offset: int = -900) -> Peer:
    """Established with timestamps; the peer's clock shows ``offset`` at START."""
    c = Peer(timestamps=True)
    c.tsval_offset = offset & M32
    established(peer=c)
    assert c.ts_ok
    return c


def test_every_segment_carries_the_option_once_agreed() -> None:
    """RFC 7323 3.2: "TSopt MUST be sent in every non-<RST> segment for the duration of the connection"."""
    with stamped() as c:
        c.inject("PA", b"x")
        s = c.expect("A", ack=2)
        assert s.saw_tstamp and s.raw_options[:4] == b"\x01\x01\x08\x0a"
        c.app_send(b"y")
        s = c.expect("PA", data=b"y")
        assert s.saw_tstamp
        c.app_shutdown()
        assert c.expect("FA").saw_tstamp


def test_without_agreement_no_segment_does() -> None:
    with established() as c:
        c.inject("PA", b"x", options=c.ts_option(5, 5))
        s = c.expect("A", ack=2)
        assert not s.saw_tstamp and s.raw_options == b""


def test_our_clock_ticks_in_milliseconds() -> None:
    """RFC 7323 5.4: "between 1 ms and 1 sec per tick"."""
    with stamped() as c:
        c.inject("A", b"x")
        first = c.expect("A")
        c.run(1234 * MSEC)
        c.inject("A", b"x")
        assert (c.expect("A").tsval - first.tsval) & M32 == 1234


# -- what is echoed (RFC 7323 section 4.3)


def test_a_delayed_ack_echoes_the_first_segment() -> None:
    """Case A: "the earliest [...] segment is echoed", so that the sender measures the delay too."""
    with stamped() as c:
        c.tp.enter_pingpong_mode()
        c.inject("A", b"a", options=c.ts_option(1000))
        c.run(5 * MSEC)
        c.inject("A", b"b", options=c.ts_option(1010))
        s = c.next_segment(at=SEC)
        assert s.tsecr == 1000


def test_a_duplicate_ack_echoes_the_last_segment_in_order() -> None:
    """Case B: "the TSecr of the segment [...] that last advanced the left edge of the window"."""
    with stamped() as c:
        c.inject("A", b"a", options=c.ts_option(1000))
        c.expect("A", ack=2)
        c.inject("A", b"c", seq=3, options=c.ts_option(1020))
        assert c.expect("A", ack=2).tsecr == 1000
        c.inject("A", b"d", seq=4, options=c.ts_option(1030))
        assert c.expect("A", ack=2).tsecr == 1000


def test_the_segment_that_fills_the_hole_is_echoed() -> None:
    """Case C."""
    with stamped() as c:
        c.inject("A", b"b", seq=2, options=c.ts_option(1000))
        c.expect("A", ack=1)
        c.inject("A", b"a", seq=1, options=c.ts_option(1040))
        assert c.expect("A", ack=3).tsecr == 1040


def test_a_retransmission_below_the_window_is_not_echoed_but_at_its_edge_is() -> None:
    """RFC 7323 4.3 (2): "SEG.TSval >= TS.Recent and SEG.SEQ <= Last.ACK.sent"."""
    with stamped() as c:
        c.inject("A", b"abc", options=c.ts_option(1000))
        c.expect("A", ack=4)
        c.inject("A", b"abc", seq=1, options=c.ts_option(1050))
        assert c.expect("A", ack=4).tsecr == 1050


# -- PAWS (RFC 7323 section 5)


def test_an_older_timestamp_is_an_older_segment() -> None:
    """5.3 R1: "treat the arriving segment as not acceptable: Send an acknowledgment in reply [...] and drop"."""
    with stamped() as c:
        c.inject("A", b"a", options=c.ts_option(1000))
        c.expect("A", ack=2)
        c.mark()
        c.inject("A", b"old", options=c.ts_option(998))
        c.expect("A", seq=1, ack=2)
        assert c.app_recv() == b"a"
        assert c.tp.ts_recent == 1000
        c.counted(Reason.TCP_RFC7323_PAWS, PAWSEstab=1)


def test_one_tick_is_forgiven_as_by_linux() -> None:
    """TCP_PAWS_WINDOW: replies of one millisecond may be stamped in either order; TS.Recent does not go back."""
    with stamped() as c:
        c.inject("A", b"a", options=c.ts_option(1000))
        c.expect("A", ack=2)
        c.inject("A", b"b", options=c.ts_option(999))
        assert c.expect("A", ack=3).tsecr == 1000
        assert c.app_recv() == b"ab"
        assert c.drops.reasons == []


@pytest.mark.parametrize("before", [M32, M32 - 5, 0x7FFF_FFFF])
def test_the_clock_may_go_round(before: int) -> None:
    """RFC 7323 5.2: "modular 32-bit arithmetic"."""
    with stamped(offset=before - 2000) as c:
        c.inject("A", b"a", options=c.ts_option(before))
        c.expect("A", ack=2)
        c.inject("A", b"b", options=c.ts_option((before + 7) & M32))
        assert c.expect("A", ack=3).tsecr == (before + 7) & M32
        c.mark()
        c.inject("A", b"c", options=c.ts_option(before))
        c.expect("A", ack=3)
        c.counted(Reason.TCP_RFC7323_PAWS, PAWSEstab=1)


def test_a_reset_is_not_subject_to_paws() -> None:
    """RFC 7323 5.2: "RST segments MUST NOT be subjected to the PAWS check"."""
    with stamped() as c:
        c.inject("A", b"a", options=c.ts_option(1000))
        c.expect("A", ack=2)
        c.inject("R", options=c.ts_option(5))
        assert c.drops.reasons == [Reason.TCP_RESET]


def test_an_overtaken_duplicate_ack_is_harmless() -> None:
    """tcp_disordered_ack_check: a pure ACK that changes nothing and is no older than an RTO, at 1200 Hz, is neither
    refused nor answered."""
    with stamped() as c:
        c.inject("A", b"a", options=c.ts_option(1000))
        c.expect("A", ack=2)
        c.inject("A", options=c.ts_option(1000))
        c.mark()
        c.inject("A", options=c.ts_option(900))
        c.silent()
        assert c.drops.reasons == []
        c.inject("A", options=c.ts_option(1000 - int(c.tp.rto * 1200 // SEC) - 1))
        c.expect("A", seq=1, ack=2)
        assert c.drops.reasons == [Reason.TCP_RFC7323_PAWS]


def test_an_overtaken_ack_of_before_the_last_data_is_dropped_in_silence() -> None:
    """tcp_disordered_ack_check: "Old ACK are common, increment PAWS_OLD_ACK and do not send a dupack"."""
    with stamped() as c:
        c.inject("A", b"a", options=c.ts_option(1000))
        c.expect("A", ack=2)
        c.mark()
        c.inject("A", seq=1, options=c.ts_option(900))
        c.silent()
        c.counted(Reason.TCP_RFC7323_PAWS_ACK, PAWSOldAck=1)


@pytest.mark.parametrize(("behind", "taken"), [(0x7FFF_FFFF, False), (0x8000_0000, True), (0x8000_0001, True)])
def test_half_the_circle_behind_is_not_behind(behind: int, taken: bool) -> None:
    """tcp_paws_check: "(s32)(ts_recent - rcv_tsval) <= paws_win", and the most negative number is."""
    with stamped() as c:
        c.inject("A", b"a", options=c.ts_option(1000))
        c.expect("A", ack=2)
        c.inject("A", b"b", options=c.ts_option((1000 - behind) & M32))
        c.expect("A", ack=3 if taken else 2)
        assert c.tp.ts_recent == ((1000 - behind) & M32 if taken else 1000)
        c.out.clear()


def test_a_ts_recent_of_0_is_replaced_by_any() -> None:
    """tcp_paws_check: there are hosts whose SYN says 0, and what they say later is no older than that."""
    with established(timestamps=True) as c:
        c.tp.ts_recent = 0
        c.inject("A", b"a", options=c.ts_option(0xFFFF_FFFF))
        c.expect("A", ack=2)
        assert c.tp.ts_recent == 0xFFFF_FFFF


def test_an_old_syn_gets_a_challenge_ack() -> None:
    """RFC 5961 4.2, "irrespective of the sequence number", and of PAWS."""
    with stamped() as c:
        c.inject("A", b"a", options=c.ts_option(1000))
        c.expect("A", ack=2)
        c.mark()
        c.inject("S", seq=500, options=c.ts_option(900))
        c.expect("A", seq=1, ack=2)
        c.counted(Reason.TCP_INVALID_SYN, TCPSYNChallenge=1, TCPChallengeACK=1, InErrs=1)


def test_with_tcp_timestamps_2_the_clock_has_no_offset() -> None:
    """secure_tcp_ts_off(): an offset only for 1."""
    c = Peer(timestamps=True)
    c.net.sysctl.tcp_timestamps = 2
    c.app_connect()
    assert c.expect("S").tsval == c.now // MSEC & 0xFFFF_FFFF


def test_answers_to_old_empty_segments_are_limited() -> None:
    with stamped() as c:
        c.inject("A", b"a", options=c.ts_option(10_000))
        c.expect("A", ack=2)
        c.mark()
        for number in range(3):
            c.inject("A", options=c.ts_option(5))
            if number == 0:
                c.expect("A", ack=2)
        c.silent()
        c.counted(*[Reason.TCP_RFC7323_PAWS] * 3, PAWSEstab=3, TCPACKSkippedPAWS=2)


def test_after_24_days_of_silence_any_timestamp_is_believed() -> None:
    """RFC 7323 5.5: "TS.Recent is invalid" when the clock may have gone half round."""
    with stamped() as c:
        c.inject("A", b"a", options=c.ts_option(1000))
        c.expect("A", ack=2)
        c.run(24 * DAY + SEC)
        c.out.clear()
        c.inject("A", b"b", options=c.ts_option(500))
        c.expect("A", ack=3)
        assert c.app_recv() == b"ab"
        assert c.drops.reasons == []


def test_a_segment_without_the_option_is_accepted() -> None:
    """RFC 7323 3.2 lets it be dropped "for reasons of security"; Linux takes it, and so do we."""
    with stamped() as c:
        c.inject("A", b"a", options=b"")
        c.expect("A", ack=2)
        assert c.app_recv() == b"a"
