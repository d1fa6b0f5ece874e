"""Attacks by selective acknowledgement: what a receiver says it has must cost us neither memory nor time, nor lie us
into sending faster. Costs are counted in skbs and operations, not in seconds.
"""

from __future__ import annotations

from random import Random

import pytest

from tests.tcp import invariants
from tests.tcp.peer import M32, MSEC, SEC, Peer, established
from ustack.device.e1000 import E1000_FEATURES
from ustack.inet.options import SO_SNDBUF, SOL_SOCKET
from ustack.tcp.control import TCP_CA_OPEN
from ustack.tcp.segment import TCPCB_SACKED_ACKED

#: The least that CVE-2019-11477 and -11479 could make a sender use (tcp_min_snd_mss).
TINY = 48


def sending(total: int, mss: int = 1460, sndbuf: int = 0, cwnd: int = 20_000) -> Peer:
    """``total`` bytes in flight in super-segments of ``mss``."""
    c = Peer(mss=mss, wscale=7, window=1 << 22, features=E1000_FEATURES, sack=True)
    if sndbuf:
        c.app_setsockopt(SOL_SOCKET, SO_SNDBUF, sndbuf)
    established(peer=c)
    c.tp.snd_cwnd = cwnd
    if not sndbuf:
        c.tp.sndbuf = 1 << 22
    left = total
    while left:
        try:
            left -= c.app_send(bytes(min(left, 60_000)))
        except BlockingIOError:
            break
        c.run(2 * MSEC)
        c.out.clear()
    c.mark()
    return c


def flight(c: Peer) -> int:
    return (int(c.tp.snd_nxt) - int(c.tp.snd_una)) & M32


def sack(c: Peer, *blocks: tuple[int, int], ack: int = 1) -> None:
    c.inject("A", ack=ack, options=c.sack_option(*blocks))


# -- SACK panic


def test_sack_panic_no_skb_counts_more_segments_than_sixteen_bits_hold() -> None:
    """CVE-2019-11477: SACKed skbs are joined; of 48-byte segments they overflowed the 16-bit count: a panic."""
    with sending(600_000, mss=TINY) as c:
        mss = int(c.tp.mss_cache)
        assert mss <= TINY and flight(c) > 100_000
        for end in range(1 + 2 * mss, flight(c), 40 * mss):
            sack(c, (1 + mss, end))
            assert all(skb.pcount <= 0xFFFF for skb in c.tp.in_flight())
        invariants.check(c.tp)
        c.out.clear()
        c.inject("A", ack=1 + flight(c))
        invariants.check(c.tp)
        assert c.tp.packets_out == 0 and c.tp.sacked_out == 0
        c.out.clear()


def test_what_is_sacked_in_a_row_becomes_few_skbs_again() -> None:
    """tcp_shift_skb_data: a front that moves by a segment each time costs one skb, not one for each."""
    with sending(400_000) as c:
        at_first = len(c.tp.in_flight())
        for segment in range(1, 200):
            sack(c, (1 + 1460, 1 + (segment + 1) * 1460))
            c.out.clear()
        invariants.check(c.tp)
        assert len(c.tp.in_flight()) <= at_first + 40
        c.out.clear()


# -- SACK slowness


def test_sack_slowness_a_queue_cut_to_pieces_is_bounded() -> None:
    """CVE-2019-11478: every other segment SACKed, each costs an skb: beyond twice the send buffer nothing is cut."""
    with sending(400_000, mss=TINY, sndbuf=100_000) as c:
        mss, total = int(c.tp.mss_cache), flight(c)
        for at in range(1 + mss, total, 2 * mss):
            sack(c, (at, at + mss))
            assert c.tp.wmem_queued >> 1 <= c.tp.sndbuf + 2 * 70_000 + 2 * 60_000
            c.out.clear()
            if c.net.mib.tcpext.TCPWqueueTooBig:
                break
        invariants.check(c.tp)
        assert c.net.mib.tcpext.TCPWqueueTooBig > 0
        c.run(SEC)
        c.out.clear()
        c.inject("A", ack=1 + total)
        assert c.tp.packets_out == 0
        invariants.check(c.tp)
        c.out.clear()


@pytest.mark.parametrize("seed", range(4))
def test_random_blocks_of_single_bytes_cut_nothing_below_a_segment(seed: int) -> None:
    """CVE-2019-5599's class (FreeBSD RACK): there are no more skbs than segments, however the blocks lie."""
    random = Random(seed)
    with sending(200_000) as c:
        segments = int(c.tp.packets_out)
        for _ in range(300):
            starts = [random.randrange(1, 1 + flight(c)) for _ in range(4)]
            sack(c, *((start, start + random.randrange(1, 3000)) for start in starts))
            c.out.clear()
            assert len(c.tp.in_flight()) <= segments + 8
        invariants.check(c.tp)


def test_an_mss_of_one_is_not_followed() -> None:
    """CVE-2019-11479: tcp_min_snd_mss bounds what a peer can make us spend on headers."""
    with sending(10_000, mss=1) as c:
        assert c.tp.mss_cache >= TINY
        c.inject("A", ack=1 + flight(c))


# -- lies


@pytest.mark.parametrize(
    "block",
    [(200_001, 300_001), (1, 1), (5000, 2000), (-5000, -4000), (-100, 100), (1 << 31, (1 << 31) + 5), (0, M32)],
)
def test_what_cannot_be_true_is_ignored(block: tuple[int, int]) -> None:
    """tcp_is_sackblock_valid: beyond SND.NXT, empty, inside out, below what was ever acknowledged."""
    with sending(100_000) as c:
        window = c.tp.snd_cwnd
        sack(c, block)
        assert c.tp.sacked_out == 0 and c.tp.snd_cwnd == window
        invariants.check(c.tp)
        c.out.clear()


def test_everything_sacked_and_nothing_acknowledged_ends() -> None:
    """Reneging, RFC 2018 section 8: "the data receiver is permitted to discard data in its queue that has not been
    acknowledged": the timer sends it again, whatever was SACKed, until R2."""
    with sending(20_000) as c:
        for _ in range(50):
            sack(c, (1 + 1460, 1 + flight(c)))
            c.run(30 * SEC)
            invariants.check(c.tp)
        sent_again = [s for s in c.out if s.data]
        assert sent_again and len(sent_again) < 300
        c.out.clear()
        c.run(2000 * SEC)
        c.out.clear()
        invariants.check(c.tp)
        assert c.stack.tcp.tables.ehash == {}


def test_sack_of_the_head_itself_is_no_endless_loop() -> None:
    """tcp_check_sack_reneging: the first segment cannot be SACKed and missing."""
    with sending(50_000) as c:
        for _ in range(20):
            sack(c, (1, 1 + flight(c)))
            c.run(SEC)
            assert len(c.out) < 100
            c.out.clear()
            invariants.check(c.tp)
        assert any(not skb.sacked & TCPCB_SACKED_ACKED for skb in c.tp.in_flight())


def test_forged_d_sacks_do_not_open_the_window() -> None:
    """RFC 3708 warns: a receiver may lie that a retransmission was needless: the window returns to what it was, and no
    further; and D-SACKs of what was never sent twice mean nothing."""
    with sending(200_000, cwnd=100) as c:
        for _ in range(200):
            sack(c, (-3000, -1500))
            sack(c, (-1459, 1))
        assert c.tp.snd_cwnd <= 100 and c.tp.ca_state == TCP_CA_OPEN and not c.out
        for end in range(2, 12):
            sack(c, (1 + 1460, 1 + end * 1460))
        c.run(50 * MSEC)
        reduced = int(c.tp.snd_cwnd)
        assert reduced < 100
        c.out.clear()
        for _ in range(100):
            sack(c, (1, 1461), (1 + 1460, 1 + 11 * 1460), ack=1461)
        assert c.tp.snd_cwnd <= 100
        invariants.check(c.tp)
        c.out.clear()


def test_sacks_on_a_connection_that_has_not_agreed_to_them_say_nothing() -> None:
    with established() as c:
        c.app_send(bytes(5 * 1460))
        c.out.clear()
        for _ in range(2):
            c.inject("PA", b"x", ack=1, options=c.sack_option((1461, 5 * 1460)))
        assert c.tp.sacked_out == 0 and c.tp.lost_out == 0
        invariants.check(c.tp)
        c.out.clear()


def test_d_sack_of_our_own_is_not_asked_for_without_limit() -> None:
    """A peer that sends the same text for ever gets one small answer each time, and nothing is kept."""
    with established(sack=True) as c:
        c.inject("PA", b"hello")
        c.out.clear()
        for _ in range(500):
            c.inject("PA", b"hello", seq=1)
        assert len(c.out) == 500 and all(len(s.sacks) <= 1 and not s.data for s in c.out)
        c.out.clear()
        assert c.app_recv() == b"hello" and c.tp.rmem_alloc == 0


def test_what_was_thrown_away_is_not_said_to_be_here() -> None:
    """What waits beyond a hole stays when its reader goes, but not when the FIN comes before it: nor does its SACK."""
    with established(sack=True) as c:
        c.inject("A", bytes(100), seq=101)
        assert c.expect("A", ack=1).sacks == [((c.iss + 101) & M32, (c.iss + 201) & M32)]
        c.app_close()
        assert c.expect("FA", seq=1, ack=1).sacks == [((c.iss + 101) & M32, (c.iss + 201) & M32)]
        invariants.check(c.tp)
        c.inject("FA", seq=1, ack=1)
        assert c.expect("A", seq=2, ack=2).sacks == [((c.iss + 101) & M32, (c.iss + 201) & M32)]  # sent before
        invariants.check(c.tp)
        c.inject("FA", seq=1, ack=1)
        assert [end for _, end in c.expect("A", seq=2, ack=2).sacks] == [(c.iss + 2) & M32]  # D-SACK
        c.inject("A", seq=2, ack=2)
