"""A window that had to be taken back (RFC 7323 section 2.4): memory ran out below what had been promised."""

from __future__ import annotations

import pytest

from tests.harness import MSEC, SEC, Pair, connection
from tests.tcp import invariants
from tests.tcp.peer import M32, Peer, established, tcp_sock
from ustack.device.cable import Impairments
from ustack.device.e1000 import E1000_FEATURES, NO_OFFLOAD
from ustack.inet.options import SO_RCVBUF, SOL_SOCKET

MSS = 1460


def retracted() -> Peer:
    """The buffer was made smaller than the window that was promised, and filled: the window was closed below it."""
    c = established()
    c.app_setsockopt(SOL_SOCKET, SO_RCVBUF, 3000)
    while not any(s.window == 0 for s in c.out):
        c.inject("A", bytes(MSS), seq=(int(c.tp.rcv_nxt) - c.iss) & M32)
    c.out.clear()
    c.mark()
    return c


def test_an_ack_from_where_the_peer_has_sent_already_is_heard() -> None:
    """RFC 9293 3.10.7.4: "special allowance should be made to accept valid ACKs": its sequence number lies in the
    window that was promised, though not in what is left of it."""
    with retracted() as c:
        c.app_send(b"x")
        c.expect("PA", data=b"x")
        c.inject("A", seq=20 * MSS)
        assert c.tp.packets_out == 0
        invariants.check(c.tp)
        c.silent(until=10 * SEC)


def test_text_there_is_not_taken() -> None:
    with retracted() as c:
        held = c.tp.rmem_alloc
        c.inject("A", bytes(MSS), seq=20 * MSS)
        assert c.tp.rmem_alloc == held and c.expect("A").window == 0
        invariants.check(c.tp)


def test_beyond_what_was_ever_promised_nothing_is_heard() -> None:
    with retracted() as c:
        c.app_send(b"x")
        c.out.clear()
        c.inject("A", seq=100_000)
        assert c.tp.packets_out == 1
        c.out.clear()


@pytest.mark.parametrize("features", [NO_OFFLOAD, E1000_FEATURES])
@pytest.mark.parametrize("delay", [0, 1, 20])
def test_two_ends_that_both_took_their_windows_back_go_on(delay: int, features: int) -> None:
    """Each has sent more than the other takes now, so the ACKs of both lie beyond both windows: a deadlock if neither
    is heard."""
    lane = Impairments(delay=delay * MSEC)
    text = bytes(range(256)) * 250
    with Pair(there=lane, back=lane, features=features, resolved=True) as pair:
        socks = connection(pair)
        left, heard = {}, {}
        for sock in socks:
            sock.setsockopt(SOL_SOCKET, SO_RCVBUF, 3000)
            left[sock], heard[sock] = text[sock.send(text) :], b""
        for _ in range(3000):
            for sock in socks:
                try:
                    heard[sock] += sock.recv(100_000)
                except BlockingIOError:
                    pass
                try:
                    if left[sock]:
                        left[sock] = left[sock][sock.send(left[sock]) :]
                except BlockingIOError:
                    pass
                invariants.check(tcp_sock(sock))
            pair.run(20 * MSEC)
        assert all(heard[sock] == text for sock in socks)
