"""Taking back a reduction that was needless: Eifel by timestamps (RFC 3522, RFC 4015), D-SACK (RFC 3708)."""

from __future__ import annotations

import pytest

from tests.tcp.flight import MSS, RTT, ack, flight, numbers, seq
from tests.tcp.invariants import check
from tests.tcp.peer import MSEC, SEC, Peer
from ustack.tcp.control import TCP_CA_DISORDER, TCP_CA_LOSS, TCP_CA_OPEN, TCP_CA_RECOVERY
from ustack.tcp.segment import TCPCB_LOST

INFINITE = 0x7FFF_FFFF


def late(c: Peer, upto: int, *blocks: tuple[int, int], echo: int) -> None:
    """As flight.ack, with a timestamp that was sent ``echo`` ms after the mark."""
    tsecr = (c.tp.tsoffset + (c.zero + echo * MSEC) // MSEC) & 0xFFFF_FFFF
    options = c.ts_option(tsecr=tsecr)
    if blocks:
        said = c.sack_option(*[(seq(start), seq(end)) for start, end in blocks])
        options += said[12:]
    c.inject("A", ack=seq(upto), options=options)
    check(c.tp)


def in_recovery(timestamps: bool, count: int = 10) -> Peer:
    """Segment 0 was taken for lost, and has been sent again."""
    c = flight(count, timestamps=timestamps)
    c.run(RTT)
    if timestamps:
        late(c, 0, (1, 4), echo=0)
    else:
        ack(c, 0, (1, 4))
    assert numbers(c) == [0]
    assert (c.tp.ca_state, c.tp.snd_ssthresh) == (TCP_CA_RECOVERY, count // 2)
    return c


def test_an_echo_from_before_the_retransmission_undoes_recovery() -> None:
    """RFC 4015 3.2: "if the value of the Timestamp Echo Reply field [...] is smaller than RetransmitTS"."""
    with in_recovery(True) as c:
        c.run(10 * MSEC)
        late(c, 10, echo=0)
        # back in slow start, where this ACK lets it grow at once
        assert (c.tp.ca_state, c.tp.snd_cwnd, c.tp.undo_marker) == (TCP_CA_OPEN, 10 + 7, 0)
        assert c.tp.snd_ssthresh == INFINITE
        moved = c.moved()
        assert moved["TcpExt.TCPFullUndo"] == 1 and "TcpExt.TCPPartialUndo" not in moved
        c.silent(until=10 * SEC)


def test_an_echo_of_the_retransmission_undoes_nothing() -> None:
    with in_recovery(True) as c:
        c.run(RTT)
        late(c, 10, echo=100)
        assert (c.tp.ca_state, c.tp.snd_cwnd, c.tp.snd_ssthresh) == (TCP_CA_OPEN, 5 + 1, 5)
        assert not any("Undo" in name for name in c.moved())


def test_a_partial_ack_of_the_original_stops_recovery_and_marks_nothing_more() -> None:
    """The hole was filled by what had only been delayed: what is beyond it is not sent again."""
    with in_recovery(True) as c:
        c.run(10 * MSEC)
        late(c, 4, echo=0)
        assert c.tp.lost_out == c.tp.retrans_out == 0
        assert (c.tp.ca_state, c.tp.snd_cwnd) == (TCP_CA_OPEN, 10 + 1)
        moved = c.moved()
        assert (moved["TcpExt.TCPPartialUndo"], moved["TcpExt.TCPTSReorder"]) == (1, 1)
        assert c.tp.reord_seen >= 1
        c.silent()
        late(c, 10, echo=0)


def test_d_sack_for_every_retransmission_undoes_recovery() -> None:
    """RFC 3708: "if the retransmitted segments were all needless"."""
    with flight(10, queued=2) as c:
        c.run(RTT)
        for upto in (2, 3, 4):
            ack(c, 0, (1, upto))
        assert numbers(c) == [10, 11, 0]  # limited transmit, then recovery
        c.run(10 * MSEC)
        ack(c, 10)
        assert (c.tp.ca_state, c.tp.undo_retrans) == (TCP_CA_RECOVERY, 1)
        ack(c, 10, dup=(0, 1))
        assert c.tp.ca_state == TCP_CA_OPEN and c.tp.snd_cwnd >= 10 and c.tp.snd_ssthresh == INFINITE
        moved = c.moved()
        assert (moved["TcpExt.TCPDSACKUndo"], moved["TcpExt.TCPDSACKRecv"], moved["TcpExt.TCPDSACKRecvSegs"]) == (
            1,
            1,
            1,
        )
        ack(c, 12)
        c.silent(until=10 * SEC)


def test_d_sack_after_recovery_still_undoes_it() -> None:
    """The D-SACK is later than the ACK that ended recovery; nothing may be in flight by then."""
    with in_recovery(False) as c:
        c.run(RTT)
        ack(c, 10)
        assert (c.tp.ca_state, c.tp.snd_cwnd) == (TCP_CA_OPEN, 6)
        ack(c, 10, dup=(0, 1))
        assert c.tp.snd_cwnd == 10
        assert c.moved()["TcpExt.TCPDSACKUndo"] == 1


def test_one_d_sack_of_two_is_not_enough() -> None:
    with flight(20) as c:
        c.run(RTT)
        ack(c, 0, (2, 10))
        ack(c, 0, (2, 14))
        assert numbers(c) == [0, 1]
        c.run(10 * MSEC)
        ack(c, 18, dup=(0, 1))
        assert (c.tp.undo_retrans, c.tp.ca_state) == (1, TCP_CA_RECOVERY)
        assert "TcpExt.TCPDSACKUndo" not in c.moved()
        ack(c, 18, dup=(1, 2))
        assert c.moved()["TcpExt.TCPDSACKUndo"] == 1
        ack(c, 20)


def test_a_spurious_timeout_is_undone_by_the_timestamp() -> None:
    """RFC 4015 3.2 and 3.4: "restore" cwnd and ssthresh; what was marked lost is not sent again."""
    with flight(10, timestamps=True) as c:
        c.net.sysctl.tcp_early_retrans = 0
        c.net.sysctl.tcp_frto = 0
        c.run(SEC)
        assert numbers(c)[-1] == 0
        assert (c.tp.ca_state, c.tp.lost_out) == (TCP_CA_LOSS, 10)
        late(c, 3, echo=0)
        assert (c.tp.ca_state, c.tp.lost_out, c.tp.snd_cwnd) == (TCP_CA_OPEN, 0, 10 + 3)
        assert not any(skb.sacked & TCPCB_LOST for skb in c.tp.in_flight())
        assert c.moved()["TcpExt.TCPLossUndo"] == 1
        assert numbers(c) == []
        late(c, 10, echo=0)
        c.silent(until=10 * SEC)


def test_ecn_forbids_undoing() -> None:
    """RFC 3168 6.1.2: a mark is congestion, whatever the timestamps say."""
    with in_recovery(True) as c:
        c.tp.ecn_flags |= 1
        c.run(10 * MSEC)
        c.inject("AE", ack=seq(10), options=c.ts_option(tsecr=(c.tp.tsoffset + c.zero // MSEC) & 0xFFFF_FFFF))
        assert c.tp.snd_cwnd <= 5 and c.tp.snd_ssthresh <= 5


@pytest.mark.parametrize("sack", [True, False])
def test_without_timestamps_or_d_sack_nothing_is_undone(sack: bool) -> None:
    with flight(10, sack=sack) as c:
        c.run(RTT)
        for upto in (2, 3, 4):
            ack(c, 0, (1, upto)) if sack else ack(c, 0)
        assert numbers(c) == [0]
        ack(c, 10)
        assert c.tp.snd_cwnd <= 6 and c.tp.snd_ssthresh == 5
        assert not any("Undo" in name for name in c.moved())
        c.app_send(bytes(MSS))
        c.run(RTT)
        c.inject("A")
        c.out.clear()
        assert c.tp.ca_state in (TCP_CA_OPEN, TCP_CA_DISORDER)
