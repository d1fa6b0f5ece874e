"""SO_REUSEPORT: who may bind, who listens with whom, and which of a group gets a connection (inet_reuseport_add_sock,
reuseport_select_sock, compute_score)."""

from __future__ import annotations

import errno
from collections import Counter
from struct import pack
from typing import TYPE_CHECKING

import pytest

from tests.tcp.host import SERVER_PORT, STACK
from tests.tcp.peer import PEER_PORT, Peer, code_of
from ustack.inet.family import SOCK_STREAM
from ustack.inet.options import SO_LINGER, SO_REUSEADDR, SO_REUSEPORT, SOL_SOCKET
from ustack.inet.security import Cred
from ustack.inet.sockaddr import AF_INET

if TYPE_CHECKING:
    from ustack.inet.socket import Socket

#: Calls from as many ports: enough that an even share of three is far from an uneven one.
CALLS = 300


def bound(c: Peer, address: str = "", port: int = SERVER_PORT, uid: int = 0, reuse: bool = True) -> Socket:
    sock = c.stack.socket(AF_INET, SOCK_STREAM, cred=Cred(uid))
    if reuse:
        sock.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
    sock.bind((address, port))
    return sock


def group(c: Peer, count: int, address: str = "") -> list[Socket]:
    socks = [bound(c, address) for _ in range(count)]
    for sock in socks:
        sock.listen(CALLS)
    return socks


def call(c: Peer, pport: int) -> None:
    """A whole handshake from one port of the peer."""
    c.pport, c.iss, c.nxt = pport, c.iss + 1000, 0
    c.inject("S", sport=pport, dport=SERVER_PORT, seq=0)
    synack = c.out.pop(0)
    c.irs, c.sport = synack.seq, SERVER_PORT
    c.inject("A", sport=pport, dport=SERVER_PORT, seq=1, ack=1)


def calls(c: Peer, socks: list[Socket]) -> dict[int, int]:
    """Which of ``socks`` got the connection from which port."""
    got: dict[int, int] = {}
    for pport in range(PEER_PORT, PEER_PORT + CALLS):
        call(c, pport)
        for number, sock in enumerate(socks):
            while not sock.closed and sock.poll():
                child = sock.accept()
                got[int(child.sk.dport)] = number
                child.setsockopt(SOL_SOCKET, SO_LINGER, pack("=ii", 1, 0))
                child.close()
        c.poll()
        c.out.clear()
    return got


# -- who may bind


def test_all_of_one_user_may_bind_if_all_agreed() -> None:
    with Peer() as c:
        first = bound(c)
        second = bound(c)
        assert code_of(lambda: bound(c, reuse=False)) == errno.EADDRINUSE
        assert code_of(lambda: bound(c, uid=1000)) == errno.EADDRINUSE, "another user is no friend"
        first.close()
        second.close()
        bound(c, uid=1000).close()


def test_not_if_the_first_did_not_agree() -> None:
    with Peer() as c:
        first = bound(c, reuse=False)
        assert code_of(lambda: bound(c)) == errno.EADDRINUSE
        first.close()


def test_all_of_the_group_may_listen() -> None:
    with Peer() as c:
        for sock in group(c, 3):
            sock.close()


def test_a_connection_that_is_left_over_keeps_its_port_for_the_group() -> None:
    """inet_csk_bind_conflict: a TIME_WAIT of a socket that agreed to share does not refuse one that does."""
    with Peer() as c:
        server = bound(c)
        server.listen(8)
        call(c, PEER_PORT)
        child = server.accept()
        server.close()
        child.close()
        c.poll()
        c.out.clear()
        c.inject("A", seq=1, ack=2)
        c.inject("FA", seq=1, ack=2)
        c.out.clear()
        assert len(c.stack.tcp.tables.timewait) == 1
        assert code_of(lambda: bound(c, reuse=False)) == errno.EADDRINUSE
        bound(c).close()


# -- who gets it


def test_connections_are_shared_evenly_and_always_alike() -> None:
    with Peer() as c:
        socks = group(c, 3)
        got = calls(c, socks)
        share = Counter(got.values())
        assert len(got) == CALLS and min(share.values()) > CALLS // 6, share
        again = calls(c, socks)
        assert again == got, "the same four-tuple belongs to the same socket"
        for sock in socks:
            sock.close()
        c.run(200_000_000_000)
        c.out.clear()


def test_the_share_of_one_that_leaves_goes_to_the_others() -> None:
    with Peer() as c:
        socks = group(c, 3)
        socks[1].close()
        got = calls(c, socks)
        assert len(got) == CALLS and set(got.values()) == {0, 2}
        socks[0].close()
        socks[2].close()
        c.run(200_000_000_000)
        c.out.clear()


def test_who_is_bound_to_the_address_goes_first() -> None:
    """__inet_lookup_listener: the group of the address, and only without one that of any address."""
    with Peer() as c:
        anywhere = group(c, 2)
        here = group(c, 2, STACK)
        got = calls(c, [*anywhere, *here])
        assert set(got.values()) == {2, 3}
        for sock in [*anywhere, *here]:
            sock.close()
        c.run(200_000_000_000)
        c.out.clear()


def half_open(c: Peer) -> Socket:
    """The one listener there is; the peer's SYN has been answered."""
    first = bound(c)
    first.listen(8)
    c.inject("S", sport=PEER_PORT, dport=SERVER_PORT, seq=0)
    synack = c.out.pop(0)
    c.irs, c.sport = synack.seq, SERVER_PORT
    return first


def test_a_handshake_under_way_stays_with_who_began_it() -> None:
    with Peer() as c:
        first = half_open(c)
        others = [bound(c) for _ in range(3)]
        for sock in others:
            sock.listen(8)
        c.inject("A", sport=PEER_PORT, dport=SERVER_PORT, seq=1, ack=1)
        child = first.accept()
        child.close()
        for sock in [first, *others]:
            sock.close()
        c.poll()
        c.out.clear()
        c.run(200_000_000_000)
        c.out.clear()


def test_a_handshake_ends_with_who_began_it() -> None:
    """tcp_migrate_req is not there: the request dies with its listener, and the others' RST says so."""
    with Peer() as c:
        first = half_open(c)
        second = bound(c)
        second.listen(8)
        first.close()
        c.inject("A", sport=PEER_PORT, dport=SERVER_PORT, seq=1, ack=1)
        c.expect("R", seq=1)
        assert not second.poll()
        second.close()


@pytest.mark.parametrize("option", [SO_REUSEADDR, SO_REUSEPORT])
def test_a_connection_inherits_what_its_listener_agreed_to(option: int) -> None:
    with Peer() as c:
        server = c.stack.socket(AF_INET, SOCK_STREAM)
        server.setsockopt(SOL_SOCKET, option, 1)
        server.bind(("", SERVER_PORT))
        server.listen(8)
        call(c, PEER_PORT)
        child = server.accept()
        assert child.getsockopt(SOL_SOCKET, option) == 1
        child.close()
        server.close()
        c.poll()
        c.out.clear()
        c.inject("RA", seq=1, ack=1)
        c.out.clear()
