"""Initial sequence numbers (RFC 6528), ephemeral ports (RFC 6056), and who may bind what (inet_csk_bind_conflict)."""

from __future__ import annotations

import errno
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.tcp.block import control_block
from tests.tcp.peer import MSEC, PEER, SEC, STACK, Peer, code_of, established, listening
from ustack.wire.ipv4 import str_to_addr

if TYPE_CHECKING:
    from ustack.inet.socket import Socket
    from ustack.stack import Stack

OURS, THEIRS = str_to_addr(STACK), str_to_addr(PEER)
TICK = 64  #: ns: M of RFC 6528 in Linux (seq_scale)


# -- initial sequence numbers


def test_the_isn_follows_the_clock_for_one_tuple() -> None:
    """RFC 6528 section 3: "ISN = M + F(localip, localport, remoteip, remoteport, secretkey)"; MUST-8:
    "clock-driven"."""
    tables = control_block().tables
    first = tables.secure_tcp_seq(OURS, THEIRS, 80, 4000)
    tables.net.now += 1000 * TICK
    assert (tables.secure_tcp_seq(OURS, THEIRS, 80, 4000) - first) & 0xFFFF_FFFF == 1000
    tables.net.now += 274 * SEC  # 2**32 ticks of 64 ns are 274.9 s
    assert 0 < (first - tables.secure_tcp_seq(OURS, THEIRS, 80, 4000)) & 0xFFFF_FFFF < 1 << 25


def test_the_isn_of_another_tuple_has_nothing_to_do_with_it() -> None:
    tables = control_block().tables
    numbers = {
        int(tables.secure_tcp_seq(saddr, daddr, sport, dport))
        for saddr, daddr, sport, dport in (
            (OURS, THEIRS, 80, 4000),
            (OURS, THEIRS, 80, 4001),
            (OURS, THEIRS, 81, 4000),
            (OURS, THEIRS + 1, 80, 4000),
            (OURS + 1, THEIRS, 80, 4000),
            (THEIRS, OURS, 80, 4000),
        )
    }
    assert len(numbers) == 6
    spread = sorted(numbers)
    assert min(b - a for a, b in zip(spread, spread[1:], strict=False)) > 1000


def test_isns_are_spread_evenly_over_the_whole_circle() -> None:
    """CVE-1999-0077, NUMBER:JACK: sixteen equal parts, 4096 tuples at one instant, a chi-square that chance would
    exceed once in a thousand tries (37.7 with 15 degrees of freedom)."""
    tables = control_block().tables
    counts = Counter(int(tables.secure_tcp_seq(OURS, THEIRS, 80, port)) >> 28 for port in range(4096))
    chi = sum((counts[part] - 256) ** 2 / 256 for part in range(16))
    assert chi < 37.7


def test_another_secret_gives_other_numbers() -> None:
    """What a stack's seed decides; the same seed repeats exactly."""
    numbers = {c.irs for c in (established(seed=bytes([n]) * 16) for n in range(8))}
    assert len(numbers) == 8
    assert established(seed=b"x" * 16).irs == established(seed=b"x" * 16).irs


def test_each_connection_of_one_tuple_begins_beyond_the_one_before() -> None:
    """Section 3.4.1: "the sequence numbers of the new incarnation must be larger", by time alone."""
    with listening() as c:
        last = -1
        for _ in range(5):
            c.nxt = 0
            c.accepted()
            if last >= 0:
                assert 0 < (c.irs - last) & 0xFFFF_FFFF < 1 << 31
            last = c.irs
            c.inject("R")
            c.app_close()
            c.run(10 * MSEC)


# -- ephemeral ports


def connect(stack: Stack, address: str = PEER, port: int = 80) -> Socket:
    sock = stack.socket()
    assert code_of(lambda: sock.connect((address, port))) == errno.EINPROGRESS
    return sock


def test_ports_come_from_the_range_and_no_two_are_equal_for_one_peer() -> None:
    c = Peer()
    c.net.sysctl.ip_local_port_range_min, c.net.sysctl.ip_local_port_range_max = 40_000, 40_199
    ports = [int(connect(c.stack).getsockname().port) for _ in range(200)]
    assert sorted(ports) == list(range(40_000, 40_200))
    sock = c.stack.socket()
    assert code_of(lambda: sock.connect((PEER, 80))) == errno.EADDRNOTAVAIL
    assert sock.sk.num == 0 and sock.sk.dport == 0 and sock.sk.saddr == 0
    # another peer is another world: the same ports again
    assert connect(c.stack, PEER, 81).getsockname().port in ports


def test_successive_ports_cannot_be_guessed_from_the_last_one() -> None:
    """RFC 6056 3.3.4, CVE-2022-1012: not one after the other."""
    c = Peer()
    ports = [int(connect(c.stack, PEER, 80).getsockname().port) for _ in range(60)]
    steps = Counter(b - a for a, b in zip(ports, ports[1:], strict=False))
    assert len(steps) >= 5


def test_ports_to_one_peer_tell_nothing_of_those_to_another_or_of_another_stack() -> None:
    """The offset is a secret hash of the peer."""
    first = set()
    for seed in (b"a" * 16, b"b" * 16):
        c = Peer(seed=seed)
        first |= {int(connect(c.stack, f"192.0.2.{n}").getsockname().port) for n in range(10, 20)}
    assert len(first) >= 19


def test_bind_to_port_zero_takes_a_free_random_one() -> None:
    c = Peer()
    c.net.sysctl.ip_local_port_range_min, c.net.sysctl.ip_local_port_range_max = 40_000, 40_009
    ports = []
    for _ in range(10):
        sock = c.stack.socket()
        sock.bind(("", 0))
        ports.append(int(sock.getsockname().port))
    assert sorted(ports) == list(range(40_000, 40_010)) and ports != sorted(ports)
    sock = c.stack.socket()
    assert code_of(lambda: sock.bind(("", 0))) == errno.EADDRINUSE


def test_a_connection_from_a_bound_port_needs_a_free_tuple() -> None:
    with Peer() as c:
        one, other = c.stack.socket(), c.stack.socket()
        for sock in (one, other):
            sock.sk.reuseaddr = True
            sock.bind((STACK, 5000))
        assert code_of(lambda: one.connect((PEER, 80))) == errno.EINPROGRESS
        assert code_of(lambda: other.connect((PEER, 80))) == errno.EADDRNOTAVAIL
        assert code_of(lambda: other.connect((PEER, 81))) == errno.EINPROGRESS
        c.poll()
        c.out.clear()


def test_a_port_is_free_again_once_its_connection_is_gone() -> None:
    c = Peer()
    sock = connect(c.stack)
    port = int(sock.getsockname().port)
    assert port in c.stack.tcp.tables.ports.buckets
    sock.close()
    assert c.stack.tcp.tables.ports.buckets == {}


# -- bind conflicts


def bound(c: Peer, address: str, reuseaddr: bool = False, reuseport: bool = False, listen: bool = False) -> Socket:
    sock = c.stack.socket()
    sock.sk.reuseaddr, sock.sk.reuseport = reuseaddr, reuseport
    sock.bind((address, 80))
    if listen:
        sock.listen(1)
    return sock


@pytest.mark.parametrize(("one", "other"), [("", ""), ("", STACK), (STACK, ""), (STACK, STACK)])
def test_two_sockets_cannot_have_one_port_on_overlapping_addresses(one: str, other: str) -> None:
    c = Peer()
    bound(c, one)
    assert code_of(lambda: bound(c, other)) == errno.EADDRINUSE
    assert code_of(lambda: bound(c, other, reuseaddr=True)) == errno.EADDRINUSE


def test_on_different_addresses_they_can() -> None:
    c = Peer()
    bound(c, STACK, listen=True)
    bound(c, "127.0.0.1", listen=True)


def test_so_reuseaddr_on_both_shares_a_port_until_one_listens() -> None:
    c = Peer()
    one, other = bound(c, STACK, reuseaddr=True), bound(c, STACK, reuseaddr=True)
    one.listen(1)
    assert code_of(lambda: bound(c, STACK, reuseaddr=True)) == errno.EADDRINUSE
    # who had bound before finds out when it listens: inet_csk_listen_start asks get_port() again
    assert code_of(lambda: other.listen(1)) == errno.EADDRINUSE
    one.close()
    other.listen(1)


def test_so_reuseport_on_both_shares_it_even_for_listeners_of_one_user() -> None:
    c = Peer()
    one = bound(c, STACK, reuseport=True, listen=True)
    bound(c, STACK, reuseport=True, listen=True)
    stranger = c.stack.socket()
    stranger.sk.reuseport, stranger.sk.uid = True, one.sk.uid + 1
    assert code_of(lambda: stranger.bind((STACK, 80))) == errno.EADDRINUSE


def test_a_server_can_be_restarted_while_its_connections_live_if_both_set_so_reuseaddr() -> None:
    for reuse in (False, True):
        with Peer() as c:
            c.tp.reuseaddr = reuse
            established(peer=c)
            assert c.server is not None
            c.server.close()
            if reuse:
                bound(c, STACK, reuseaddr=True, listen=True)
            else:
                assert code_of(lambda: bound(c, STACK, reuseaddr=True)) == errno.EADDRINUSE


def test_a_port_that_connect_chose_cannot_be_bound() -> None:
    c = Peer()
    port = int(connect(c.stack).getsockname().port)
    sock = c.stack.socket()
    assert code_of(lambda: sock.bind((STACK, port))) == errno.EADDRINUSE


def test_a_listener_without_a_port_gets_one() -> None:
    c = Peer()
    c.sock.listen(1)
    assert 32_768 <= c.sock.getsockname().port <= 60_999
