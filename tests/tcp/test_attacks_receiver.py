"""Peers that lie about what they receive, or do not receive at all: Savage's three, ECN, windows, timestamps.

"TCP congestion control with a misbehaving receiver" (1999), VU#102014; sockstress (CVE-2008-4609).
"""

from __future__ import annotations

from random import Random

import pytest

from tests.tcp import invariants
from tests.tcp.peer import M32, MSEC, SEC, Peer, established
from ustack.sock import TCP_ESTABLISHED
from ustack.tcp.control import TCP_RTO_MAX
from ustack.tcp.options import IPPROTO_TCP, TCP_USER_TIMEOUT
from ustack.tcp.states import State

MSS = 1460


def flying(count: int = 10, timestamps: bool = False, sack: bool = False) -> Peer:
    """``count`` segments in flight, all that cwnd allows, and more behind them."""
    c = Peer(wscale=7, window=1 << 22, timestamps=timestamps, sack=sack)
    established(peer=c)
    c.tp.snd_cwnd = count
    c.tp.sndbuf = 1 << 22
    c.app_send(bytes(1_000_000))
    c.out.clear()
    c.mark()
    return c


def sent(c: Peer) -> int:
    return (int(c.tp.snd_nxt) - c.irs - 1) & M32


# -- optimistic ACKs


def test_acks_of_what_was_never_sent_move_nothing() -> None:
    """VU#102014: "SEG.ACK > SND.NXT": an ACK is sent, the segment dropped, at most two such ACKs a second."""
    with flying() as c:
        for beyond in range(1, 1000):
            c.inject("A", ack=1 + sent(c) + beyond)
        assert c.tp.snd_una == (c.irs + 1) & M32 and c.tp.snd_cwnd == 10
        assert len(c.out) <= 1
        c.out.clear()


def test_the_window_follows_what_can_have_been_delivered() -> None:
    """ACKs that come before the segments can have arrived: cwnd grows by what was sent, no faster."""
    with flying() as c:
        for _ in range(8):
            before, had = int(c.tp.snd_cwnd), sent(c)
            una = (int(c.tp.snd_una) - c.irs) & M32
            c.inject("A", ack=1 + had)
            assert c.tp.snd_cwnd <= before + (had + 1 - una) // MSS + 1
            c.out.clear()
            invariants.check(c.tp)


@pytest.mark.parametrize("pieces", [2, 100, 1460])
def test_an_ack_divided_counts_once(pieces: int) -> None:
    """Savage's ACK division: RFC 5681 section 3.1 warns; only whole segments count."""
    with flying() as c:
        for part in range(1, pieces + 1):
            c.inject("A", ack=1 + MSS * part // pieces)
        assert c.tp.snd_cwnd <= 11
        c.out.clear()


def test_a_duplicate_ack_lets_one_segment_out_and_no_more() -> None:
    """Savage's duplicate ACK spoofing: without SACK each can stand for a segment that has left: one goes for one that
    came, never a burst, and never beyond the window."""
    with flying() as c:
        for count in range(1, 501):
            c.inject("A", ack=1)
            assert len(c.out) <= count + 1
            invariants.check(c.tp)
        c.out.clear()


def test_with_sack_a_duplicate_ack_that_says_nothing_counts_for_nothing() -> None:
    """RFC 6675 section 2: only new SACK information makes it a duplicate ACK, so spoofing stops working."""
    with flying(sack=True) as c:
        for _ in range(500):
            c.inject("A", ack=1)
        assert len(c.out) <= 3 and c.tp.sacked_out == 0
        invariants.check(c.tp)
        c.out.clear()


# -- ECN


def ecn(c: Peer) -> Peer:
    """Both sides have agreed to ECN; ``c`` calls nobody, it is called."""
    c.net.sysctl.tcp_ecn = 1
    c.app_listen()
    c.nxt = 0
    c.inject("SEC", options=c.syn_options())
    assert c.expect("SAE", seq=0, ack=1)
    c.inject("A")
    c.app_accept()
    c.tp.sndbuf = 1 << 22
    return c


def test_an_echo_that_never_ends_halves_once_a_round_trip_and_never_to_nothing() -> None:
    """RFC 3168 6.1.2: "TCP should not react to congestion indications more than once every window of data"; the
    connection of a peer that lies goes on, slowly."""
    with ecn(Peer(wscale=7, window=1 << 22)) as c:
        c.app_send(bytes(400_000))
        c.out.clear()
        for _ in range(60):
            before = int(c.tp.snd_cwnd)
            end = (int(c.tp.snd_nxt) - c.irs) & M32
            una = (int(c.tp.snd_una) - c.irs) & M32
            for ack in range(una + MSS, end + 1, MSS):
                c.inject("AE", ack=ack)
            c.run(50 * MSEC)
            c.out.clear()
            assert c.tp.snd_cwnd >= 1 and c.tp.snd_cwnd >= before // 2 - 1
            invariants.check(c.tp)
        assert c.tp.snd_cwnd <= 4 and sent(c) > 100_000


def test_an_echo_nobody_agreed_to_means_nothing() -> None:
    """RFC 3168 6.1: without ECN-setup SYNs the bits say nothing."""
    with flying() as c:
        for ack in range(1, 5):
            c.inject("AE", ack=1 + ack * MSS)
        assert c.tp.snd_cwnd == 14 and not any(s.flags & 128 for s in c.out) and all(s.tos & 3 == 0 for s in c.out)
        c.out.clear()


def test_cwr_and_ce_without_end() -> None:
    """A sender that marks everything and says CWR each time: every ACK may echo, but there is one for each at most."""
    with ecn(Peer()) as c:
        for _ in range(500):
            c.inject("PAC", bytes(100), tos=3)
            c.app_recv()
        assert len(c.out) <= 505 and all(len(s.data) == 0 for s in c.out)
        assert any(s.flags & 64 for s in c.out)
        c.out.clear()
        invariants.check(c.tp)


def test_ecn_bits_on_a_plain_connection_are_no_echo() -> None:
    with established() as c:
        for _ in range(10):
            c.inject("PAC", bytes(10), tos=3)
        c.run(SEC)
        assert c.out and not any(s.flags & 64 for s in c.out)
        c.out.clear()


# -- windows


def test_sockstress_memory_of_a_zero_window_is_the_send_buffers() -> None:
    """CVE-2008-4609: connections whose window never opens; each holds its send buffer and a timer, no more."""
    with established(window=0) as c:
        taken = 0
        for _ in range(100):
            try:
                taken += c.app_send(bytes(20_000))
            except BlockingIOError:
                break
        assert c.tp.wmem_queued <= c.tp.sndbuf + 70_000 and taken < 1 << 20
        for _ in range(200):
            c.run(60 * SEC)
            if c.out:
                c.out.clear()
                c.inject("A", window=0)
            invariants.check(c.tp)
        assert c.tp.state == TCP_ESTABLISHED  # RFC 9293 MUST-37; the owner's patience is TCP_USER_TIMEOUT
        c.app_setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, 30_000)
        for _ in range(20):
            c.run(60 * SEC)
            c.out.clear()
            c.inject("A", window=0)
            c.out.clear()
        assert c.in_state(State.CLOSE)
        c.out.clear()


def test_sockstress_orphans_behind_zero_windows_are_all_gone_in_minutes() -> None:
    """Naptha: the peers answer every probe; nobody owns the sockets any more (tcp_orphan_retries)."""
    with Peer(window=0) as c:
        c.app_listen()
        for port in range(20):
            c.pport, c.nxt, c.acked = 2000 + port, 0, 0
            c.accepted()
            c.app_send(bytes(5000))
            c.app_close()
        c.out.clear()
        tables = c.stack.tcp.tables
        assert len(tables.orphans) == 20
        for _ in range(600):
            c.run(SEC)
            for s in list(c.out):
                if s.flags & 4:
                    continue
                c.inject("A", sport=s.dport, seq=1, window=0, ack=(s.end - 1) & 1)
            c.out.clear()
        assert not tables.orphans and not tables.ehash


@pytest.mark.parametrize("window", [1, 10, 88])
def test_a_window_of_a_few_bytes_does_not_turn_a_stream_into_crumbs(window: int) -> None:
    """Small-window sockstress: SWS avoidance sends a crumb only as a probe, at a probe's pace."""
    with established() as c:
        c.app_send(bytes(30_000))
        first = len(c.out)
        c.out.clear()
        c.inject("A", ack=1 + min(first * MSS, 14_600), window=window)
        for _ in range(30):
            c.run(SEC)
            c.inject("A", window=window)
        assert len(c.out) < 60 and sum(len(s.data) for s in c.out) <= 60 * max(window, 1)
        invariants.check(c.tp)
        c.out.clear()


@pytest.mark.parametrize("seed", range(5))
def test_a_window_that_jumps_about_makes_nothing_negative(seed: int) -> None:
    """Shrunk below what is in flight and reopened, at random; what is usable never underflows."""
    random = Random(seed)
    with flying() as c:
        for _ in range(200):
            ack = random.randrange((int(c.tp.snd_una) - c.irs) & M32, ((int(c.tp.snd_nxt) - c.irs) & M32) + 1)
            window = random.choice((0, 1, 128, 1459, 1460, 100_000))
            c.inject("A", ack=ack, window=window, seq=1)
            invariants.check(c.tp)
            if random.random() < 0.2:
                c.run(random.choice((MSEC, 300 * MSEC, 3 * SEC)))
            edge = max((int(c.tp.snd_una) + int(c.tp.snd_wnd)) & M32, 0)
            assert (edge - int(c.tp.snd_una)) & M32 == c.tp.snd_wnd
            c.out.clear()


# -- timestamps


@pytest.mark.parametrize("echo", [0, 1, -1, 1000, -3_600_000, 1 << 31, (1 << 31) - 1])
def test_an_invented_echo_measures_no_absurd_round_trip(echo: int) -> None:
    """RFC 7323 section 4.1: TSecr is the peer's word; of what was retransmitted it is the only measure."""
    with flying(timestamps=True) as c:
        c.run(400 * MSEC)
        c.out.clear()
        options = c.ts_option(tsecr=(c.tsecr + echo) & M32)
        c.inject("A", ack=1 + MSS, options=options)
        assert 0 <= c.tp.srtt <= TCP_RTO_MAX and 200 * MSEC <= c.tp.rto <= TCP_RTO_MAX
        invariants.check(c.tp)
        c.out.clear()


def test_crafted_timestamps_keep_no_buffer() -> None:
    """CVE-2014-1811's class: whatever the option says, what is acknowledged is let go."""
    with flying(timestamps=True) as c:
        for number in range(8):
            options = c.ts_option(c.tsval(), (number * 0x1FFF_FFFF) & M32)
            c.inject("A", options=options)
            c.out.clear()
            c.run(MSEC)
        for _ in range(200):
            c.inject("A")
            c.run(10 * MSEC)
            c.out.clear()
        assert c.tp.packets_out == 0 and c.tp.wmem_queued == 0


def test_a_timestamp_from_the_future_needs_the_right_sequence_number() -> None:
    """Poisoning TS.Recent makes PAWS refuse the true peer: only a segment at the left edge is believed."""
    with established(timestamps=True) as c:
        before = c.tp.ts_recent
        for seq in (2, 500, 60_000, 200_000, -5):
            c.inject("PA", b"x", seq=seq, ack=1, options=c.ts_option(c.tsval() + 0x4000_0000))
        assert c.tp.ts_recent == before
        c.out.clear()
        c.inject("PA", b"y", seq=1)
        assert c.app_recv()[:1] == b"y"
        c.out.clear()
