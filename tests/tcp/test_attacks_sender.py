"""Peers that send what nobody asked for: fragments in hostile order, overlaps, urgent garbage, garbage keepalives; and
timers that outlive their connection.
"""

from __future__ import annotations

from random import Random
from struct import pack
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tcp import invariants
from tests.tcp.peer import MSEC, SEC, Peer, established
from ustack.inet.options import SO_KEEPALIVE, SO_LINGER, SO_OOBINLINE, SO_RCVBUF, SOL_SOCKET
from ustack.sock import TCP_CLOSE
from ustack.tcp.options import IPPROTO_TCP, TCP_NODELAY
from ustack.tcp.states import State

if TYPE_CHECKING:
    from collections.abc import Callable

MSS = 1460


def stream(length: int, start: int = 0) -> bytes:
    return bytes((start + n) * 7 & 0xFF for n in range(length))


# -- SegmentSmack


@pytest.mark.parametrize("order", ["backwards", "every other", "random"])
@pytest.mark.parametrize("size", [1, 50])
def test_segment_smack_is_bounded_in_count_too(order: str, size: int) -> None:
    """CVE-2018-5390: tiny segments out of order: what each costs is charged, so few can be kept at a time, and what
    lies furthest ahead goes first."""
    c = Peer(wscale=4)
    c.app_setsockopt(SOL_SOCKET, SO_RCVBUF, 60_000)
    with established(peer=c, sack=True):
        places = list(range(2, 2 + 3000 * 2 * size, 2 * size))
        if order == "backwards":
            places.reverse()
        elif order == "random":
            Random(1).shuffle(places)
        most = 0
        for at in places:
            c.inject("A", stream(size, at - 1), seq=at)
            c.out.clear()
            most = max(most, 0 if c.tp.ofo is None else len(c.tp.ofo))
        assert most * 256 <= c.tp.rcvbuf * 2 and c.tp.rmem_alloc <= c.tp.rcvbuf + 4096
        invariants.check(c.tp)
        c.inject("A", stream(1), seq=1)
        assert c.app_recv(1) == stream(1)
        c.out.clear()


@pytest.mark.parametrize("seed", range(3))
def test_inconsistent_retransmissions_give_one_stream(seed: int) -> None:
    """Ptacek and Newsham: every byte sent twice with other contents; what is read is never read again otherwise, and a
    prefix that was acknowledged stays what it was."""
    random = Random(seed)
    with established(sack=True) as c:
        read = b""
        for _ in range(600):
            at = 1 + len(read) + random.randrange(-200, 2000)
            c.inject("A", bytes([random.randrange(256)]) * random.randrange(1, 400), seq=at)
            if random.random() < 0.2:
                try:
                    read += c.app_recv(random.choice((10, 100_000)))
                except BlockingIOError:
                    pass
            assert (int(c.tp.copied_seq) - c.iss - 1) & 0xFFFF_FFFF == len(read)
            invariants.check(c.tp)
        c.out.clear()


# -- control bits with text


def test_text_with_a_syn_in_the_window_is_not_taken() -> None:
    with established() as c:
        for flags in ("S", "SA", "SPA", "SF"):
            c.inject(flags, b"evil", seq=1, ack=1)
        assert not c.tp.receive_queue and c.in_state(State.ESTABLISHED)
        c.out.clear()


def test_a_fin_with_text_beyond_the_window_closes_nothing() -> None:
    """The FIN counts once all before it is there; one beyond what we offered is cut off with what we cannot take."""
    c = Peer()
    c.app_setsockopt(SOL_SOCKET, SO_RCVBUF, 6000)
    with established(peer=c):
        window = int(c.tp.tcp_receive_window())
        c.inject("FA", bytes(1000), seq=1 + window + 1)
        assert c.in_state(State.ESTABLISHED)
        c.inject("FA", bytes(10), seq=5)
        assert c.in_state(State.ESTABLISHED)
        c.inject("A", bytes(4), seq=1)
        assert c.in_state(State.CLOSE_WAIT)
        c.out.clear()


# -- urgent garbage


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.binary(max_size=30), st.booleans(), st.integers(0, 65_535)), max_size=12),
    st.booleans(),
)
def test_urgent_pointers_lose_at_most_the_byte_they_name(segments: list[tuple[bytes, bool, int]], inline: bool) -> None:
    """RFC 6093: pointers behind the segment, far beyond it, contradicting each other: in line the stream is whole, out
    of line at most one byte is missing for each."""
    c = established()
    c.app_setsockopt(SOL_SOCKET, SO_OOBINLINE, int(inline))
    sent = b""
    for text, urgent, pointer in segments:
        c.inject("PAU" if urgent else "PA", text, urg=pointer)
        sent += text
        invariants.check(c.tp)
    got = b""
    for _ in range(3 * len(segments) + 3):
        try:
            got += c.app_recv()
        except BlockingIOError:
            break
    if inline:
        assert got == sent
    else:
        assert len(sent) - len(got) <= sum(urgent for _, urgent, _ in segments)
    assert c.tp.rmem_alloc == 0
    c.out.clear()
    c.check()


def test_urgent_segments_without_text_cost_nothing() -> None:
    with established() as c:
        for number in range(2000):
            c.inject("AU", urg=(number * 7919) & 0xFFFF)
        assert c.tp.rmem_alloc == 0 and c.in_state(State.ESTABLISHED)
        c.out.clear()
        c.inject("PA", b"still here")
        assert b"still here".startswith(c.app_recv()[:1])
        c.out.clear()


# -- keepalives


def test_a_keepalive_with_a_byte_of_garbage_is_answered_and_not_believed() -> None:
    """RFC 9293 3.8.4: probes "may or may not contain one garbage octet"; the byte was read long ago."""
    with established(sack=True) as c:
        c.inject("PA", b"abc")
        assert c.app_recv() == b"abc"
        c.run(SEC)
        c.out.clear()
        for _ in range(5):
            c.inject("A", b"?", seq=3)
            s = c.expect("A", seq=1, ack=4)
            assert len(s.sacks) <= 1
            c.run(SEC)
        assert c.tp.rmem_alloc == 0
        c.silent()


def test_keepalives_from_both_sides_are_not_an_acks_game() -> None:
    """A probe of ours crossed by one of theirs: each is answered once."""
    with established() as c:
        c.app_setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        c.run(7200 * SEC)
        c.expect("A", seq=0)
        c.inject("A", seq=0, ack=1)
        c.expect("A", seq=1, ack=1)
        c.inject("A", seq=0, ack=1)
        c.inject("A", seq=0, ack=1)
        assert len(c.out) <= 1
        c.out.clear()


# -- timers


def unacked(c: Peer) -> None:
    """RTO or loss probe."""
    c.app_send(bytes(3 * MSS))


def probing(c: Peer) -> None:
    """Zero-window probe."""
    c.inject("A", window=0)
    c.app_send(b"x")


def delaying(c: Peer) -> None:
    """Delayed ACK."""
    for _ in range(20):
        c.inject("PA", b"x")
        c.app_recv()
    c.inject("A", b"y")


def keeping(c: Peer) -> None:
    c.app_setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)


def reordering(c: Peer) -> None:
    """RACK's reordering timer: some SACKed, the first not yet lost."""
    c.app_setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    c.inject("A")
    c.app_send(bytes(5 * MSS))
    c.run(20 * MSEC)
    c.inject("A", ack=1, options=c.sack_option((1 + MSS, 1 + 2 * MSS)))


def compressing(c: Peer) -> None:
    """ACKs held back (tcp_comp_sack_delay_ns)."""
    for at in range(2, 400, 20):
        c.inject("A", bytes(10), seq=at)


def pacing(c: Peer) -> None:
    c.tp.pacing_status = 1
    c.tp.pacing_rate = c.tp.max_pacing_rate = 10_000
    c.app_send(bytes(30_000))


ARMED = [unacked, probing, delaying, keeping, reordering, compressing, pacing]


@pytest.mark.parametrize("how", ["reset", "abort", "close and reset", "lost route"])
@pytest.mark.parametrize("arm", ARMED)
def test_no_timer_outlives_its_connection(arm: Callable[[Peer], None], how: str) -> None:
    """CVE-2022-1678: RTO, probe, TLP, reordering, delayed and compressed ACKs, pacing, keepalive: all stop."""
    with established(sack=True, wscale=4) as c:
        arm(c)
        c.out.clear()
        if how == "abort":
            c.app_setsockopt(SOL_SOCKET, SO_LINGER, pack("ii", 1, 0))
            c.app_close()
        elif how == "lost route":
            c.stack.remove_device(c.dev)
            c.app_setsockopt(SOL_SOCKET, SO_LINGER, pack("ii", 1, 0))
            c.app_close()
        else:
            if how == "close and reset":
                c.app_close()
            c.inject("R", seq=(int(c.tp.rcv_nxt) - c.iss) & 0xFFFF_FFFF)
        assert c.tp.state == TCP_CLOSE
        invariants.check(c.tp)
        c.out.clear()
        c.silent(until=10_000 * SEC)
        assert c.stack.tcp.tables.ehash == {}
