"""Attacks on SYN cookies and Fast Open: what replaces state must not be guessed, forged, or asked for without limit."""

from __future__ import annotations

from random import Random

import pytest

from tests.tcp.peer import M32, SEC, Peer, listening
from ustack.tcp.options import IPPROTO_TCP, TCP_FASTOPEN
from ustack.tcp.states import State
from ustack.wire.tcp import TCPHDR_RST, TCPHDR_SYN


def flooded(backlog: int = 4) -> Peer:
    """A listener whose queue of half-open connections is full, so that cookies are given."""
    c = listening(backlog=backlog)
    for n in range(4 * backlog):
        c.inject("S", src=f"192.0.2.{10 + n}", seq=0, options=c.syn_options())
    c.out.clear()
    c.mark()
    return c


def cookie(c: Peer) -> int:
    """The sequence number that our own SYN is answered with."""
    c.nxt = 0
    c.peer_syn()
    (s,) = [s for s in c.out if s.dport == c.pport]
    assert s.flags & TCPHDR_SYN
    c.out.clear()
    return s.seq


# -- SYN cookies


def test_a_cookie_costs_nothing_and_opens() -> None:
    """RFC 4987 section 3.6: no state until the ACK comes back."""
    with flooded() as c:
        half_open = len(c.stack.tcp.tables.requests)
        cookie(c)
        assert len(c.stack.tcp.tables.requests) == half_open
        c.inject("A")
        c.app_accept()
        c.app_send(b"hello")
        assert c.next_segment().data == b"hello"
        assert c.net.mib.tcpext.SyncookiesSent >= 1 and c.net.mib.tcpext.SyncookiesRecv == 1
        c.out.clear()


def test_cookies_are_not_guessed() -> None:
    """CVE-2001-0851: thousands of guesses, some near the true one, open nothing, and each gets its RST."""
    with flooded() as c:
        isn = cookie(c)
        random = Random(1)
        guesses = [random.getrandbits(32) for _ in range(2000)]
        guesses += [isn + n for n in (100, -100, 1 << 23, 1 << 25, -(1 << 25))]
        for guess in guesses:
            c.inject("A", seq=1, ack=(guess - c.irs) & M32)
        assert c.in_state(State.LISTEN)
        assert len(c.out) == len(guesses) and all(s.flags == TCPHDR_RST for s in c.out)
        assert c.net.mib.tcpext.SyncookiesFailed == len(guesses) and c.net.mib.tcpext.SyncookiesRecv == 0
        c.out.clear()


def test_a_cookie_is_one_connections_and_not_another_ones() -> None:
    """It is a keyed hash of both addresses, both ports and the peer's sequence number."""
    with flooded() as c:
        isn = cookie(c)
        ack = (isn + 1 - c.irs) & M32
        c.inject("A", seq=1, ack=ack, src="192.0.2.99")
        c.inject("A", seq=1, ack=ack, sport=c.pport + 1)
        c.inject("A", seq=5000, ack=ack)
        assert all(s.flags == TCPHDR_RST for s in c.out) and len(c.out) == 3
        c.out.clear()


def test_a_cookie_is_good_for_minutes_only() -> None:
    with flooded() as c:
        cookie(c)
        c.run(300 * SEC)
        c.out.clear()
        c.inject("A", seq=1)
        assert c.in_state(State.LISTEN) and c.out[-1].flags == TCPHDR_RST
        c.out.clear()


def test_without_overflow_no_cookie_is_believed() -> None:
    """tcp_synq_no_recent_overflow: a listener that has given none need not check any: guessing is of no use at all."""
    with flooded() as full:
        isn = cookie(full)
        full.out.clear()
    with listening() as c:
        c.inject("A", seq=1, ack=(isn + 1 - c.irs) & M32)
        c.expect("R")
        assert c.net.mib.tcpext.SyncookiesRecv == c.net.mib.tcpext.SyncookiesFailed == 0


def test_with_cookies_off_the_queue_is_the_limit() -> None:
    with listening(backlog=4) as c:
        c.net.sysctl.tcp_syncookies = 0
        for n in range(50):
            c.inject("S", src=f"192.0.2.{10 + n}", seq=0)
        assert len(c.stack.tcp.tables.requests) <= 8 and c.net.mib.tcpext.SyncookiesSent == 0
        assert c.net.mib.tcpext.TCPReqQFullDrop > 0
        c.out.clear()


# -- Fast Open


FASTOPEN = 34


def server(queue: int = 3) -> Peer:
    c = Peer()
    c.net.sysctl.tcp_fastopen = 3
    c.app_setsockopt(IPPROTO_TCP, TCP_FASTOPEN, queue)
    c.app_listen()
    c.mark()
    return c


def with_cookie(c: Peer, value: bytes) -> bytes:
    option = bytes((FASTOPEN, 2 + len(value))) + value
    return c.syn_options() + option + b"\x01" * (-len(option) % 4)


def given(options: bytes) -> bytes | None:
    """The Fast Open cookie in a segment's options."""
    at = 0
    while at < len(options) and options[at]:
        if options[at] == FASTOPEN:
            return options[at + 2 : at + options[at + 1]]
        at += 1 if options[at] == 1 else options[at + 1]
    return None


def ask(c: Peer, port: int) -> bytes:
    c.pport, c.nxt, c.acked = port, 0, 0
    c.inject("S", options=with_cookie(c, b""))
    value = given(c.expect("SA", ack=1).raw_options)
    assert value is not None
    c.inject("R", seq=1)
    return value


@pytest.mark.parametrize("forged", [bytes(8), b"\xff" * 8, bytes(4), bytes(16)])
def test_a_forged_cookie_gets_no_further_than_a_syn(forged: bytes) -> None:
    """RFC 7413 section 5: data with a cookie that is not ours is not taken; the handshake goes on, a new one comes."""
    with server() as c:
        c.inject("S", b"GET /", options=with_cookie(c, forged))
        s = c.expect("SA", seq=0, ack=1)
        assert not c.tp.accept_queue and given(s.raw_options) not in (None, forged)
        assert c.net.mib.tcpext.TCPFastOpenPassiveFail == 1 and c.net.mib.tcpext.TCPFastOpenPassive == 0


def test_a_cookie_belongs_to_its_address() -> None:
    with server() as c:
        value = ask(c, 50_000)
        c.pport, c.nxt = 50_001, 0
        c.inject("S", b"GET /", options=with_cookie(c, value), src="192.0.2.99", seq=0)
        s = c.next_segment()
        assert (s.ack - c.iss) & M32 == 1 and not c.tp.accept_queue


def test_the_queue_of_early_data_is_bounded() -> None:
    """RFC 7413 section 5.1: a flood with a true cookie fills TCP_FASTOPEN's queue, and then gets plain handshakes."""
    with server(queue=3) as c:
        value = ask(c, 50_000)
        taken = 0
        for port in range(50_001, 50_021):
            c.pport, c.nxt, c.acked = port, 0, 0
            c.inject("S", b"x" * 100, options=with_cookie(c, value))
            taken += ((c.out[-1].ack - c.iss) & M32) == 101
        assert 1 <= taken <= 4
        assert c.net.mib.tcpext.TCPFastOpenListenOverflow > 0
        c.out.clear()
        c.run(300 * SEC)
        c.out.clear()
        assert not c.stack.tcp.tables.requests


def test_a_true_cookie_works() -> None:
    """So that all the above fails for the right reason."""
    with server() as c:
        value = ask(c, 50_000)
        c.pport, c.nxt, c.acked = 50_001, 0, 0
        c.inject("S", b"GET /", options=with_cookie(c, value))
        c.expect("SA", seq=0, ack=6)
        c.app_accept()
        assert c.app_recv() == b"GET /"
        c.inject("A")
        assert c.in_state(State.ESTABLISHED)
